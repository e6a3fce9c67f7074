//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files by which programs turn names into addresses. They are in the container's directory,
// and the container sees them as volumes.

// LocalHosts is the file hosts of a container that is on no network.
const LocalHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// hostsLine is the container's own line in a file of hosts: see hosts(5).
func (e *Endpoint) hostsLine() string {
	names := []string{e.Name, e.ContainerID[:12]}
	if e.Hostname != "" && !slices.Contains(names, e.Hostname) {
		names = append(names, e.Hostname)
	}
	return fmt.Sprintf("%s\t%s\n", e.Address, strings.Join(names, " "))
}

// hostsFile has the lines of the containers on the network.
func (n *Network) hostsFile() string { return filepath.Join(n.dir(), "hosts") }

// writeHosts makes the container's file. The caller holds the lock on the networks.
func (e *Endpoint) writeHosts() error {
	others, _ := os.ReadFile(e.network.hostsFile()) // not there before there are any
	content := LocalHosts + string(others) + e.hostsLine()
	if err := os.WriteFile(e.hostsFile(), []byte(content), 0o644); err != nil {
		return fmt.Errorf("writing the container's hosts: %w", err)
	}
	return nil
}

// allHosts returns the files that have these lines: of the network and of all containers on it.
func (n *Network) allHosts() []string {
	files := []string{n.hostsFile()}
	for _, e := range n.Endpoints() {
		files = append(files, e.hostsFile())
	}
	return files
}

// introduce tells the others on the network the container's name. They see it at once: the files
// stay what they are, as what is mounted is the file and not its name.
func (e *Endpoint) introduce() error {
	for _, name := range e.network.allHosts() {
		if name == e.hostsFile() {
			continue
		}
		file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if os.IsNotExist(err) {
			continue // its container is gone
		}
		if err == nil {
			_, err = file.WriteString(e.hostsLine())
			file.Close()
		}
		if err != nil {
			return fmt.Errorf("telling others the container's name: %w", err)
		}
	}
	return nil
}

// takeLeaveOf has the others forget the name.
func (e *Endpoint) takeLeaveOf(n *Network) error {
	for _, name := range n.allHosts() {
		content, err := os.ReadFile(name)
		without := withoutAddress(string(content), e.Address)
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

// Resolvers returns the container's resolv.conf(5). It is the host's, but for servers on the
// host's own 127.0.0.0/8, which is not the container's. Behind that of systemd-resolved there
// are others, in a file for programs like us: see systemd-resolved.service(8).
func Resolvers(shared bool) string {
	content, _ := os.ReadFile("/etc/resolv.conf") // not every host has one
	if shared {
		return string(content)
	}
	if behind, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil && strings.Contains(string(content), "127.0.0.53") {
		content = behind
	}
	return withoutLocal(string(content))
}

// withoutLocal leaves out the servers that only the host itself reaches.
func withoutLocal(content string) string {
	var kept strings.Builder
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "nameserver" {
			if addr, err := netip.ParseAddr(fields[1]); err == nil && addr.IsLoopback() {
				continue
			}
		}
		kept.WriteString(line)
	}
	return kept.String()
}
