//go:build linux

package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lixd/mydocker/final/internal/fault"
)

// The files by which programs turn names into addresses. The container sees them as volumes.

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

// HostsLayer returns a layer for the root of every container on the network. It has their file hosts,
// with a line for each of them. A container that writes to the file gets a copy in its own layer, as of
// any file of an image, and that copy stays as it is.
//
// So a change costs the same for any number of containers. The kernel's overlayfs.rst promises nothing
// for changes below a mount. But a file that was not copied is read through the one below, and so shows
// what is changed in place, while a new file of the same name would not be seen. No line ever moves: a
// line goes to the end or over blank ones, and a reader sees all others at any moment.
func (s *Store) HostsLayer(network string) string {
	return (&Network{Name: network, store: s}).hostsLayer()
}

// HostsInLayer is the file's path in its layer. No container sees it there: its /dev is mounted over it.
const HostsInLayer = "dev/hosts"

func (n *Network) hostsLayer() string { return filepath.Join(n.dir(), "layer") }
func (n *Network) hostsFile() string  { return filepath.Join(n.hostsLayer(), HostsInLayer) }

// makeHosts makes the file, with the lines of all containers that are on the network already.
func (n *Network) makeHosts() error {
	hosts := []byte(LocalHosts)
	for _, e := range n.Endpoints() {
		hosts = append(hosts, e.hostsLine()...)
	}
	err := os.MkdirAll(filepath.Dir(n.hostsFile()), 0o755)
	if err == nil {
		err = os.WriteFile(n.hostsFile(), hosts, 0o644)
	}
	if err != nil {
		return fmt.Errorf("making the network's hosts: %w", err)
	}
	return nil
}

// writeHosts tells all on the network the endpoint's name. The caller holds the lock on the networks.
func (e *Endpoint) writeHosts() error {
	file, hosts, err := e.network.openHosts()
	if errors.Is(err, fs.ErrNotExist) { // an earlier mydocker made the network
		return e.network.makeHosts()
	}
	if err != nil {
		return err
	}
	defer file.Close()
	line := e.hostsLine()
	_, err = file.WriteAt([]byte(line), placeForLine(hosts, len(line)))
	fault.Point("hosts-changed")
	if err != nil { // perhaps it was written in part
		return fmt.Errorf("writing the network's hosts: %w", errors.Join(err, file.Truncate(int64(len(hosts)))))
	}
	return nil
}

// removeHosts makes the endpoint's line blank.
func (n *Network) removeHosts(e *Endpoint) error {
	file, hosts, err := n.openHosts()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	at := 0
	for line := range bytes.Lines(hosts) {
		if bytes.HasPrefix(line, []byte(e.Address.String()+"\t")) {
			blank := append(bytes.Repeat([]byte(" "), len(line)-1), '\n')
			_, writeErr := file.WriteAt(blank, int64(at))
			err = errors.Join(err, writeErr)
		}
		at += len(line)
	}
	if err != nil {
		return fmt.Errorf("taking back the container's name: %w", err)
	}
	return nil
}

// openHosts opens the network's file, and reads it. No container can write to this one.
func (n *Network) openHosts() (*os.File, []byte, error) {
	file, err := os.OpenFile(n.hostsFile(), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the network's hosts: %w", err)
	}
	hosts, err := io.ReadAll(file)
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("reading the network's hosts: %w", err)
	}
	return file, hosts, nil
}

// placeForLine returns where a line of this length goes: over blank lines, or to the end.
func placeForLine(hosts []byte, length int) int64 {
	blank, at := 0, 0
	for line := range bytes.Lines(hosts) {
		at += len(line)
		if len(bytes.TrimSpace(line)) > 0 {
			blank = at
		} else if at-blank >= length {
			return int64(blank)
		}
	}
	return int64(blank)
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
