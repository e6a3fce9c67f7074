//go:build linux

// Package cgroup limits, counts, stops and ends the processes of a container: with control groups
// of version 1 or 2, whichever the machine has. See cgroups(7).
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Group is the control group of one container.
type Group interface {
	// Open returns what a process joins the group by. It is the caller's to close.
	Open() (Handles, error)
	// OOMKills returns how many of the members were killed because they used up the memory.
	OOMKills() (int, error)
	// Processes returns the IDs of the members on the host.
	Processes() ([]int, error)
	// Freeze stops all members at one moment, and returns when none of them runs any more.
	Freeze() error
	// IsFrozen reports whether the members are frozen, or about to be. A group that is gone is not.
	IsFrozen() (bool, error)
	// Thaw lets them go on.
	Thaw() error
	// Remove removes the group, whose members have all ended. That there is none is no error.
	Remove() error
}

// Handles are what a process joins a group by. To join costs next to nothing; to be moved by
// somebody else 5 to 20 ms, because the kernel then waits until no processor can be in the middle
// of a fork.
type Handles struct {
	Dir   *os.File // under v2 the group: a process can be born in it
	Tasks []string // under v1 files, of every controller: a thread that writes 0 to them joins
	// Make makes the group, unless it is nil: then it is there. Under v1 a process joins when it
	// has been set up, and meanwhile there is time for it.
	Make func() error
	// IsFrozen is the group's.
	IsFrozen func() (bool, error)
}

// Close closes what is open.
func (h Handles) Close() {
	h.Dir.Close() // of nil too: then it does nothing
}

// mountPoint is where every distribution mounts the cgroup file systems.
const mountPoint = "/sys/fs/cgroup"

// Parent is the name of the group that has those of all containers of a state directory.
type Parent string

// New makes the group of the container with this ID, with its limits, or leaves that to the Make
// of its handles. A limit that cannot be set is an error: the container would run without it.
func (parent Parent) New(id string, limits Limits) (Group, error) {
	version, err := version()
	if err != nil {
		return nil, err
	}
	if version == 2 {
		return newV2(mountPoint, parent.group(id), limits)
	}
	return newV1(mountPoint, parent.group(id), limits), nil
}

// Find returns the group of the container with this ID, which need not be there any more.
func (parent Parent) Find(id string) (Group, error) {
	version, err := version()
	if err != nil {
		return nil, err
	}
	if version == 2 {
		return &v2{dir: filepath.Join(mountPoint, parent.group(id))}, nil
	}
	return findV1(mountPoint, parent.group(id)), nil
}

// IDs returns the IDs of all containers that have a group: those that run, and those whose mydocker
// was killed.
func (parent Parent) IDs() ([]string, error) {
	dirs, err := parent.dirs()
	if err != nil {
		return nil, err
	}
	return groupsIn(dirs)
}

// Count returns about how many IDs there are, which costs the same for any number of them.
func (parent Parent) Count() int {
	dirs, _ := parent.dirs() // none, without cgroups
	var stat unix.Stat_t
	if len(dirs) == 0 || unix.Stat(dirs[0], &stat) != nil {
		return 0
	}
	return int(stat.Nlink) - 2 // one for each directory in it: see inode(7)
}

// dirs returns the directories with the containers' groups.
func (parent Parent) dirs() ([]string, error) {
	version, err := version()
	if err != nil {
		return nil, err
	}
	if version == 2 {
		return []string{filepath.Join(mountPoint, string(parent))}, nil
	}
	return dirsV1(mountPoint, string(parent)), nil
}

// group returns the path of a container's group.
func (parent Parent) group(id string) string { return filepath.Join(string(parent), id) }

// groupsIn returns the names of the groups in those directories that there are.
func groupsIn(dirs []string) (names []string, err error) {
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("looking for cgroups: %w", err)
		}
		for _, entry := range entries {
			if entry.IsDir() {
				names = append(names, entry.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// version tells v2, which is one hierarchy for all controllers, from v1, a tmpfs with one
// hierarchy for each. Asking with mkdir would not do, a tmpfs lets us.
func version() (int, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(mountPoint, &stat); err != nil {
		return 0, fmt.Errorf("looking for cgroups in %s: %w", mountPoint, err)
	}
	switch stat.Type {
	case unix.CGROUP2_SUPER_MAGIC:
		return 2, nil
	case unix.TMPFS_MAGIC:
		return 1, nil
	default:
		return 0, fmt.Errorf("no cgroup file system is mounted at %s", mountPoint)
	}
}

// setting is a file of a group and what is to be in it. Up to the first dot the file's name
// is that of its controller.
type setting struct {
	file, value string
	optional    bool // a machine without the file needs no limit either
}

func (s setting) controller() string {
	controller, _, _ := strings.Cut(s.file, ".")
	return controller
}

// write writes the setting to the group in dir.
func (s setting) write(dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, s.file), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) && s.optional {
		return nil
	}
	if err != nil {
		return fmt.Errorf("setting %s: the %s controller is not to be had: %w", s.file, s.controller(), err)
	}
	defer file.Close()
	if _, err := file.WriteString(s.value); err != nil {
		return fmt.Errorf("setting %s to %s: %w", s.file, s.value, err)
	}
	return nil
}

// readCounter reads one line of a file of "name number" lines.
func readCounter(path, name string) (int, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // no controller, no counter
	}
	if err != nil {
		return 0, fmt.Errorf("reading the cgroup: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if count, found := strings.CutPrefix(line, name+" "); found {
			return strconv.Atoi(strings.TrimSpace(count))
		}
	}
	return 0, nil
}

// processes returns the members of the group in dir, none if it is not there.
func processes(dir string) ([]int, error) {
	members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	var pids []int
	for _, member := range strings.Fields(string(members)) {
		pid, atoiErr := strconv.Atoi(member)
		err = errors.Join(err, atoiErr)
		pids = append(pids, pid)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cgroup's members: %w", err)
	}
	return pids, nil
}

// Kill kills the members of a group whose container nobody waits for any more. Members may be
// left because the signal that a child gets at the end of its parent is lost with a change of
// user: see PR_SET_PDEATHSIG(2const).
func Kill(group Group) error {
	pids, err := group.Processes()
	for _, pid := range pids {
		if killErr := unix.Kill(pid, unix.SIGKILL); killErr != nil && !errors.Is(killErr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("killing process %d of the container: %w", pid, killErr))
		}
	}
	return err
}

// removeGroup removes a group's directory; the files in it are the kernel's and go with it.
// For a moment after its last member has ended, a group may still be busy.
func removeGroup(dir string) error {
	return patiently(func() (bool, error) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return true, nil
		case errors.Is(err, unix.EBUSY):
			return false, nil
		default:
			return false, fmt.Errorf("removing the cgroup %s: %w", dir, err)
		}
	}, "removing the cgroup "+dir+": processes are left in it")
}

// freeze writes the setting, and waits until the group is frozen. A process in the middle of a
// system call may take a moment.
func freeze(dir string, setting setting, isFrozen func() (bool, error)) error {
	if err := setting.write(dir); err != nil {
		return err
	}
	return patiently(isFrozen, "freezing the container: its processes do not stop")
}

// readState returns what a file of a group says, or nothing if it is not there.
func readState(dir, file string) (string, error) {
	state, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the cgroup: %w", err)
	}
	return strings.TrimSpace(string(state)), nil
}

// patiently asks until it is done, or for five seconds.
func patiently(isDone func() (bool, error), complaint string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		done, err := isDone()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New(complaint)
		}
		time.Sleep(time.Millisecond)
	}
}
