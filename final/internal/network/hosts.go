//go:build linux

package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/record"
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

// hostsFile has the lines of the containers on the network. Each of them has a file of its own,
// which begins with LocalHosts and goes on like this one.
//
// What is mounted in a container is the file and not its name, so the files are changed in place,
// and no line ever moves: a line goes to the end or into the place of others that were made blank. A
// reader sees all other lines at any moment. The files are never read, as containers may write to
// them. One that its container has written to is that container's own and stays as it is. They
// are in the network's directory, on the disk: the runtime directory is in memory.
func (n *Network) hostsFile() string { return filepath.Join(n.dir(), "hosts") }

func (n *Network) hostsDir() string { return filepath.Join(n.dir(), "hosts.d") }

// HostsFile is the file hosts of a container on a network.
func (s *Store) HostsFile(network, containerID string) string {
	n := &Network{Name: network, store: s}
	return filepath.Join(n.hostsDir(), containerID)
}

// writeHosts makes the container's file, and tells the others on the network its name. The caller
// holds the lock on the networks.
func (e *Endpoint) writeHosts() error {
	n, line := e.network, []byte(e.hostsLine())
	before, _ := os.ReadFile(n.hostsFile()) // not there before there are any
	change := hostsChange{before: before, at: placeForLine(before, len(line)), text: line}
	err := os.MkdirAll(n.hostsDir(), 0o700)
	if err == nil {
		err = change.apply(n)
	}
	if err == nil {
		err = change.create(filepath.Join(n.hostsDir(), e.ContainerID))
	}
	if err != nil {
		return fmt.Errorf("writing the container's hosts: %w", err)
	}
	return nil
}

// removeHosts removes the container's file, and its line from those of the others.
func (n *Network) removeHosts(e *Endpoint) error {
	err := os.Remove(filepath.Join(n.hostsDir(), e.ContainerID))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	before, _ := os.ReadFile(n.hostsFile())
	at := 0
	for line := range bytes.Lines(before) {
		if bytes.HasPrefix(line, []byte(e.Address.String()+"\t")) {
			blank := append(bytes.Repeat([]byte(" "), len(line)-1), '\n')
			change := hostsChange{before: before, at: at, text: blank}
			err = errors.Join(err, change.apply(n))
			before = change.after()
		}
		at += len(line)
	}
	if err != nil {
		return fmt.Errorf("taking back the container's name: %w", err)
	}
	return nil
}

// placeForLine returns where a line of this length goes: to blank lines, or to the end.
func placeForLine(hosts []byte, length int) int {
	blank, at := 0, 0
	for line := range bytes.Lines(hosts) {
		at += len(line)
		if len(bytes.TrimSpace(line)) > 0 {
			blank = at
		} else if at-blank >= length {
			return blank
		}
	}
	return blank
}

// hostsChange puts a text in the place of another in all files hosts of a network.
type hostsChange struct {
	before []byte // the lines of the containers
	at     int    // where the text goes, which ends before a line ends, or with it
	text   []byte
}

func (c hostsChange) after() []byte {
	end := min(c.at+len(c.text), len(c.before))
	return slices.Concat(c.before[:c.at], c.text, c.before[end:])
}

// changingFile returns the path of a file that is there while the containers' files are changed.
func (n *Network) changingFile() string { return filepath.Join(n.dir(), "hosts.changing") }

// apply changes the network's file and those of its containers. A file that a container has
// written to is left alone, unless a killed process has left the changing file behind: then it may
// be that process that wrote last, and all files are written anew.
func (c hostsChange) apply(n *Network) error {
	_, err := os.Lstat(n.changingFile())
	anew := err == nil
	if err := os.WriteFile(n.changingFile(), nil, 0o600); err != nil {
		return err
	}
	if err := record.ReplaceFile(n.hostsFile(), c.after()); err != nil {
		return err
	}
	files, err := os.ReadDir(n.hostsDir())
	for _, file := range files {
		err = errors.Join(err, c.applyTo(filepath.Join(n.hostsDir(), file.Name()), anew))
	}
	return errors.Join(err, os.Remove(n.changingFile()))
}

// ourTime is the time at which a file was changed that its container has not written to.
var ourTime = []unix.Timeval{{Sec: 1e9}, {Sec: 1e9}}

// applyTo changes a container's file. One that a killed process has not brought up to date gets
// everything anew.
func (c hostsChange) applyTo(file string, anew bool) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mtim.Sec != ourTime[1].Sec && !anew {
		return err
	}
	if stat.Size == int64(len(LocalHosts)+len(c.before)) && !anew {
		_, err = unix.Pwrite(fd, c.text, int64(len(LocalHosts)+c.at))
	} else {
		all := append([]byte(LocalHosts), c.after()...)
		if _, err = unix.Pwrite(fd, all, 0); err == nil {
			err = unix.Ftruncate(fd, int64(len(all)))
		}
	}
	fault.Point("hosts-changed")
	return errors.Join(err, unix.Futimes(fd, ourTime))
}

// create makes a container's file.
func (c hostsChange) create(file string) error {
	_ = os.Remove(file) // of a killed process, perhaps
	if err := os.WriteFile(file, append([]byte(LocalHosts), c.after()...), 0o644); err != nil {
		return err
	}
	return unix.Utimes(file, ourTime)
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
