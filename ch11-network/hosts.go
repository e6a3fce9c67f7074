//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The files by which programs turn names into addresses. They are in the container's directory,
// and the container sees them as volumes.

const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// hostsLine is the container's own line in a file of hosts: see hosts(5).
func (c *container) hostsLine() string {
	return fmt.Sprintf("%s\t%s %s\n", c.Endpoint.Address, c.Name, shortID(c.ID))
}

func hostsFile(id string) string { return filepath.Join(containersDir(), id, "hosts") }

// writeHosts writes the files hosts of all containers on the network but one that leaves. What is
// in them comes from the leases and the records, and never from the files: containers may write to
// those. The caller holds the lock on the networks.
func (n *network) writeHosts(leaving string) error {
	leased := n.leased()
	var containers []*container
	for _, addr := range slices.SortedFunc(maps.Keys(leased), netip.Addr.Compare) {
		c, err := readContainer(leased[addr])
		if err != nil || c.ID == leaving {
			continue
		}
		c.Endpoint.Address = addr
		containers = append(containers, c)
	}
	var errs []error
	for _, c := range containers {
		// A container's own line comes first and never moves, so it is there at any moment.
		var content strings.Builder
		content.WriteString(localHosts + c.hostsLine())
		for _, other := range containers {
			if other != c {
				content.WriteString(other.hostsLine())
			}
		}
		errs = append(errs, writeHostsFile(hostsFile(c.ID), content.String()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("writing the containers' hosts: %w", err)
	}
	return nil
}

// ourTime is the time at which a file was changed that its container has not written to.
var ourTime = []unix.Timeval{{Sec: 1e9}, {Sec: 1e9}}

// writeHostsFile writes a container's file in place, as what is mounted is the file and not its
// name. One that the container has written to is left to it.
func writeHostsFile(name, content string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	isNew := err == nil
	if errors.Is(err, fs.ErrExist) {
		file, err = os.OpenFile(name, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !isNew && info.ModTime().Unix() != ourTime[1].Sec {
		return err
	}
	if _, err := file.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		return err
	}
	return unix.Futimes(int(file.Fd()), ourTime)
}

// showHostFiles writes the other files, and shows all of them to the container, unless the user
// shows it something else in their place.
func (c *container) showHostFiles(config *initConfig) error {
	files := map[string]string{"hostname": config.Hostname + "\n", "resolv.conf": resolvers(config.Network.Shared)}
	if config.Network.Shared {
		hosts, _ := os.ReadFile("/etc/hosts") // not every host has one
		files["hosts"] = string(hosts)
	} else if !config.Network.Address.IsValid() {
		files["hosts"] = localHosts
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(c.overlay.Dir, name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the container's %s: %w", name, err)
		}
	}
	var shown []volume
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		target := filepath.Join("/etc", name)
		if !covered(target, config.Volumes) {
			shown = append(shown, volume{Source: filepath.Join(c.overlay.Dir, name), Target: target})
		}
	}
	config.Volumes = append(shown, config.Volumes...)
	return nil
}

// covered tells whether one of the volumes is in the path's place, or around it.
func covered(path string, volumes []volume) bool {
	for _, v := range volumes {
		if path == v.Target || strings.HasPrefix(path, v.Target+"/") {
			return true
		}
	}
	return false
}

// resolvers returns the container's resolv.conf(5). It is the host's, but for servers on the
// host's own 127.0.0.0/8, which is not the container's. Behind that of systemd-resolved there
// are others, in a file for programs like us: see systemd-resolved.service(8).
func resolvers(shared bool) string {
	content, _ := os.ReadFile("/etc/resolv.conf") // not every host has one
	if shared {
		return string(content)
	}
	if behind, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil && strings.Contains(string(content), "127.0.0.53") {
		content = behind
	}
	return reachable(string(content))
}

// reachable leaves out the servers that the container does not reach: the host's own ones, and
// those with IPv6 addresses, as the networks have none. If no server is left, it names Google's,
// as docker does.
func reachable(content string) string {
	var kept strings.Builder
	servers := 0
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "nameserver" {
			if addr, err := netip.ParseAddr(fields[1]); err == nil && (addr.IsLoopback() || !addr.Is4()) {
				continue
			}
			servers++
		}
		kept.WriteString(line)
	}
	if servers == 0 {
		kept.WriteString("\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n")
	}
	return kept.String()
}
