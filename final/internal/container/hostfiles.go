//go:build linux

package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// hostFiles are those in /etc by which programs turn names into addresses.
var hostFiles = []string{"hosts", "hostname", "resolv.conf"}

// makeBase makes the layer that is below those of every image, if it is not there yet. It has what
// is mounted on in every container: made in the container's own layer, it would be among its changes.
func (s *Store) makeBase() (dir string, err error) {
	dir = filepath.Join(s.Root, "base")
	etc := filepath.Join(dir, "etc")
	if _, err := os.Stat(filepath.Join(etc, hostFiles[len(hostFiles)-1])); err == nil {
		return dir, nil // the last that is made
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
	return dir, nil
}

// makeHostFiles writes the container's own, and shows them to it, unless it sees something else
// in their place.
func (c *Container) makeHostFiles(spec *runtime.Spec) error {
	shared := spec.Network.Host
	files := map[string]string{"hosts": network.LocalHosts, "hostname": c.Config.Hostname + "\n", "resolv.conf": network.Resolvers(shared)}
	if shared {
		hosts, _ := os.ReadFile("/etc/hosts") // not every host has one
		files["hosts"] = string(hosts)
	}
	var shown []runtime.Volume
	for _, name := range hostFiles {
		if err := os.WriteFile(c.path(name), []byte(files[name]), 0o644); err != nil {
			return fmt.Errorf("writing the container's %s: %w", name, err)
		}
		target := "/etc/" + name
		if !isCovered(target, spec.Volumes) {
			shown = append(shown, runtime.Volume{Source: c.path(name), Target: target})
		}
	}
	spec.Volumes = append(shown, spec.Volumes...)
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
