//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// The files by which programs turn names into addresses. They are in the container's directory,
// and the container sees them as volumes.

const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// hostsLine is the container's own line in a file of hosts: see hosts(5).
func (c *container) hostsLine() string {
	return fmt.Sprintf("%s\t%s %s\n", c.Endpoint.Address, c.Name, shortID(c.ID))
}

func hostsFile(id string) string { return filepath.Join(containersDir(), id, "hosts") }

// hostsFile has the lines of the containers on the network.
func (n *network) hostsFile() string { return filepath.Join(n.dir(), "hosts") }

// writeHosts makes the container's file. The caller holds the lock on the networks.
func (c *container) writeHosts() error {
	others, _ := os.ReadFile(c.Endpoint.network.hostsFile()) // not there before there are any
	content := localHosts + string(others) + c.hostsLine()
	if err := os.WriteFile(hostsFile(c.ID), []byte(content), 0o644); err != nil {
		return fmt.Errorf("writing the container's hosts: %w", err)
	}
	return nil
}

// allHosts returns the files that have these lines: of the network and of all containers on it.
func (n *network) allHosts() []string {
	files := []string{n.hostsFile()}
	for _, id := range n.leased() {
		files = append(files, hostsFile(id))
	}
	return files
}

// introduce tells the others on the network the container's name. They see it at once: the files
// stay what they are, as what is mounted is the file and not its name.
func (c *container) introduce() error {
	for _, name := range c.Endpoint.network.allHosts() {
		if name == hostsFile(c.ID) {
			continue
		}
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if os.IsNotExist(err) {
			continue // its container is gone
		}
		if err == nil {
			_, err = file.WriteString(c.hostsLine())
			file.Close()
		}
		if err != nil {
			return fmt.Errorf("telling others the container's name: %w", err)
		}
	}
	return nil
}

// takeLeaveOf has the others forget the name.
func (c *container) takeLeaveOf(n *network) error {
	for _, name := range n.allHosts() {
		content, err := os.ReadFile(name)
		without := withoutAddress(string(content), c.Endpoint.Address)
		if err != nil || without == string(content) {
			continue // nobody has told it
		}
		if err := os.WriteFile(name, []byte(without), 0o644); err != nil {
			return fmt.Errorf("taking back the container's name: %w", err)
		}
	}
	return nil
}

// withoutAddress leaves out the lines of an address.
func withoutAddress(hosts string, addr netip.Addr) string {
	var kept strings.Builder
	for line := range strings.Lines(hosts) {
		if !strings.HasPrefix(line, addr.String()+"\t") {
			kept.WriteString(line)
		}
	}
	return kept.String()
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
