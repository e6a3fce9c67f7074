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

// OwnHosts returns the file hosts of a container that has no address: its hostname is one of
// those that lo has.
func OwnHosts(hostname string) string {
	return LocalHosts + hostsLine("127.0.1.1", hostname)
}

// hostsLine is the container's own line in a file of hosts.
func (e *Endpoint) hostsLine() string {
	return hostsLine(e.Address.String(), e.Hostname, e.Name, e.ContainerID[:12])
}

// hostsLine returns a line of hosts(5). The hostname comes first, whole: hostname -f prints the
// first name of the line that it finds itself on. The part before its first dot comes next.
func hostsLine(address, hostname string, others ...string) string {
	short, _, _ := strings.Cut(hostname, ".")
	names := []string{address}
	for _, name := range append([]string{hostname, short}, others...) {
		if isHostname(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names[0] + "\t" + strings.Join(names[1:], " ") + "\n"
}

// CheckHostname refuses what the kernel takes for a hostname and programs do not, such as a
// newline, which would begin another line of hosts(5). An empty one is replaced.
func CheckHostname(name string) error {
	if name != "" && !isHostname(name) || len(name) > 64 {
		return fmt.Errorf("invalid hostname %q: only [a-zA-Z0-9_][a-zA-Z0-9_.-] are allowed, and 64 characters at most", name)
	}
	return nil
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

func isHostname(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	return name != "" && strings.Trim(name, allowed) == "" && !strings.ContainsAny(name[:1], "-.")
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
