//go:build linux

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// hostFiles are those in /etc by which programs turn names into addresses.
var hostFiles = []string{"hosts", "hostname", "resolv.conf"}

// makeBase makes the layer that is below those of every image, if it is not there yet. It has what
// is mounted on in every container: made in the container's own layer, it would be among its changes.
// So would /etc/mtab, which old programs read: see mount(8).
func (s *Store) makeBase() (dir string, err error) {
	dir = filepath.Join(s.Root, "base")
	etc := filepath.Join(dir, "etc")
	mtab := filepath.Join(etc, "mtab")
	if exists(mtab) { // the last that is made
		return dir, nil
	}
	for _, name := range []string{"dev", "proc", "sys", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", fmt.Errorf("making the lowest layer: %w", err)
		}
	}
	for _, name := range hostFiles {
		if err := os.WriteFile(filepath.Join(etc, name), nil, 0o644); err != nil {
			return "", fmt.Errorf("making the lowest layer: %w", err)
		}
	}
	if err := os.Symlink("/proc/mounts", mtab); err != nil && !errors.Is(err, fs.ErrExist) { // another start was faster
		return "", fmt.Errorf("making the lowest layer: %w", err)
	}
	return dir, nil
}

// writeHostFiles writes the container's own.
func (c *Container) writeHostFiles() error {
	shared := c.Config.Network == network.Host
	files := map[string]string{"hosts": network.OwnHosts(c.Config.Hostname), "hostname": c.Config.Hostname + "\n", "resolv.conf": network.Resolvers(shared)}
	if shared {
		files["hosts"] = hostsOfHost(c.Config.Hostname)
	}
	if c.hasEndpoint() {
		delete(files, "hosts") // the network writes it
	}
	for name, content := range files {
		if err := os.WriteFile(c.HostFile(name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the container's %s: %w", name, err)
		}
	}
	return nil
}

// HostFile returns the path on the host of one of the files hosts, hostname and resolv.conf. The
// container may write to it, so it is on the disk, and not in the runtime directory, which is in
// memory.
func (c *Container) HostFile(name string) string {
	if name == "hosts" && c.hasEndpoint() {
		return filepath.Join(c.store.Networks.HostsLayer(c.Config.Network), network.HostsInLayer)
	}
	return c.large(name)
}

// hostsOfHost returns the host's file hosts, for a container that may have a hostname of its own.
func hostsOfHost(hostname string) string {
	hosts, _ := os.ReadFile("/etc/hosts") // not every host has one
	if name, _ := os.Hostname(); name == hostname {
		return string(hosts)
	}
	return string(hosts) + "\n" + network.OwnHosts(hostname)
}

// showHostFiles shows the container the files of owner, which is itself, or the container whose
// network it shares, unless it sees something else in their place. A network's file hosts comes as a
// layer, so that what a container writes to it is in the container's own.
func (c *Container) showHostFiles(owner *Container, spec *runtime.Spec) error {
	var shown []runtime.Volume
	for _, name := range hostFiles {
		file := runtime.Volume{Source: owner.HostFile(name), Target: "/etc/" + name, ReadOnly: c.Config.ReadOnly}
		if isCovered(file.Target, spec.Volumes) {
			continue
		}
		if name == "hosts" && owner.hasEndpoint() {
			file.Source, file.InRoot = "/"+network.HostsInLayer, true
			spec.Root.Layers = slices.Insert(spec.Root.Layers, 0, c.store.Networks.HostsLayer(owner.Config.Network))
		}
		shown = append(shown, file)
	}
	spec.Volumes = append(shown, spec.Volumes...)
	written := filepath.Join(c.Upper(), path.Dir(network.HostsInLayer))
	if err := os.RemoveAll(written); err != nil { // in an earlier life
		return fmt.Errorf("resetting the container's hosts: %w", err)
	}
	return nil
}

// isCovered tells whether one of the volumes is in the path's place, or around it.
func isCovered(path string, volumes []runtime.Volume) bool {
	for _, v := range volumes {
		if path == v.Target || strings.HasPrefix(path, v.Target+"/") {
			return true
		}
	}
	return false
}
