//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Command is what to run in a container, and as whom.
type Command struct {
	Args     []string // Args[0] is looked up in the PATH of Env, in the container
	Env      []string // all of the environment, as NAME=value
	Dir      string   // absolute path of the working directory, made if it is missing; "" is /
	User     User
	Terminal bool          // gives the command a terminal of its own, as Process.Terminal, in place of the files below
	Size     *unix.Winsize // of that terminal at first: see GetSize; nil if it is not known
	Outlives bool          // lets the command go on when the caller ends, as for exec -d

	// Stdin, Stdout and Stderr stay the caller's to close. For each that is nil the command
	// gets the container's /dev/null.
	Stdin, Stdout, Stderr *os.File

	Cgroup Cgroup
}

// User is who a command runs as, in the numbers of the kernel. See credentials(7).
type User struct {
	UID, GID uint32
	Groups   []uint32 // additional ones
}

// Cgroup is the group that a command joins. Joining costs next to nothing. Being moved by somebody
// else would cost 5 to 20 ms, because the kernel then waits until no processor can be in the
// middle of a fork. See cgroups(7).
type Cgroup struct {
	Dir   *os.File     // the group's directory under v2: the command's process is born in it
	Tasks []string     // absolute paths of the group's files tasks under v1: the process joins by them
	Make  func() error // makes the group, or is nil: it is called when the process is being set up, and has yet to join

	// IsFrozen tells Exec whether the group is frozen, or is nil.
	IsFrozen func() (bool, error)
}

// Spec is a container: what its first process is, and what that process sees.
type Spec struct {
	Command
	Init     bool // put an init above the command, that passes signals on and buries orphans
	Hostname string
	Root     Overlay
	ReadOnly bool     // of the root alone: what is mounted in it may be written to
	Tmpfs    []Tmpfs  // mounted in this order
	Volumes  []Volume // then these: /a comes before /a/b, or would hide it
	Network  Network
	Sysctls  []Sysctl // of a network namespace that is new

	// Prepare, if it is not nil, is called when the container's namespaces exist, with its first
	// process's ID on the host, as in /proc/PID/ns/net. The command runs when it has returned
	// nil. The container sets itself up meanwhile, so that only what it costs more is waited for.
	Prepare func(pid int) error
}

// Overlay is a root of layers: those of an image, which nobody writes to, and one on top that
// takes every change. It is mounted in the container's mount namespace and ends with it. All
// paths are of the host.
type Overlay struct {
	Layers []string // the topmost first
	Upper  string   // what differs from the image
	Work   string   // the kernel's own, on Upper's file system
	Target string   // a directory to mount it on, where it hides what is there
	// Volatile has the end of the container not wait until the whole file system that Upper is on
	// is written to the disk. A power failure may then leave Upper, or Work, half written.
	Volatile bool
}

// Volume is a file or a directory of the host that the container sees as well.
type Volume struct {
	Source   string // absolute path on the host, where it exists
	Target   string // absolute path in the container, made if it is missing
	ReadOnly bool   // together with all that is mounted in it
	// InRoot takes Source for a file of the container's own root, below /dev: a container does not see
	// it there, as its /dev is mounted over it. A file that many containers have in a layer is
	// such a source. What a container writes to it is a copy, in its Upper.
	InRoot bool `json:",omitempty"`
	// Propagation is of later mounts in it: slave shows the host's to the container, shared also the
	// container's to the host, private neither. With an r before it, it says the same. See
	// mount_namespaces(7).
	Propagation string `json:",omitempty"`
}

// Tmpfs is a file system in memory, empty at first.
type Tmpfs struct {
	Target  string  // absolute path in the container, made if it is missing
	Flags   uintptr // MS_ flags of mount(2)
	Options string  // as in "size=64m,mode=1777": see tmpfs(5)
}

// Network is the network namespace of a container: a new one, with nothing but lo in it, unless
// a field says otherwise.
type Network struct {
	Host bool   // the host's, or rather that of the caller
	Path string // an existing one, as in /proc/PID/ns/net
}

// Sysctl is a setting of the kernel's, below /proc/sys.
type Sysctl struct{ Name, Value string }

// check finds what would only confuse the kernel.
func (c *Command) check() error {
	if len(c.Args) == 0 {
		return errors.New("no command specified")
	}
	if slices.ContainsFunc(slices.Concat(c.Args, c.Env, []string{c.Dir}), hasNUL) {
		return errors.New("a command line cannot hold NUL bytes")
	}
	if c.Dir != "" && !path.IsAbs(c.Dir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", c.Dir)
	}
	if len(c.candidates()) == 0 {
		return &Error{Status: StatusNotFound, Err: fmt.Errorf("running %q: %w", c.Args[0], exec.ErrNotFound)}
	}
	return nil
}

func (s *Spec) check() error {
	var paths []string
	for _, v := range s.Volumes {
		paths = append(paths, v.Target)
	}
	for _, t := range s.Tmpfs {
		paths = append(paths, t.Target)
	}
	for _, p := range paths {
		if !path.IsAbs(p) || hasNUL(p) {
			return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", p)
		}
	}
	return s.Command.check()
}

func hasNUL(s string) bool {
	return strings.Contains(s, "\x00")
}

// candidates are the paths that the command may be found at.
func (c *Command) candidates() []string {
	name := c.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	if name == "" {
		return nil
	}
	var paths []string
	for _, dir := range strings.Split(c.lookupEnv("PATH"), ":") {
		if path.IsAbs(dir) { // others would mean the working directory
			paths = append(paths, path.Join(dir, name))
		}
	}
	return paths
}

// lookupEnv returns the value that the command will see: the last, if there are several.
func (c *Command) lookupEnv(name string) string {
	value := ""
	for _, entry := range c.Env {
		if v, found := strings.CutPrefix(entry, name+"="); found {
			value = v
		}
	}
	return value
}
