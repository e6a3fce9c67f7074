//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is the control group of one container. See cgroups(7).
type cgroup interface {
	// admit arranges that the command starts as a member of the group. Joining costs next to
	// nothing. Being moved by somebody else would cost 5 to 20 ms, because the kernel then
	// waits until no processor can be in the middle of a fork.
	admit(init *exec.Cmd, config *initConfig) error
	// oomKills returns how many of the members were killed because they used up the memory.
	oomKills() (int, error)
	// remove removes the group, whose members have all ended.
	remove() error
}

// cgroupRoot is where every distribution mounts the cgroup file systems.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupParent is the group that all containers' groups are in.
const cgroupParent = "mydocker"

// newCgroup makes a container's group with its limits. What kind of file system is at
// cgroupRoot tells the versions apart: v2 is one hierarchy for all controllers, v1 a tmpfs
// with one hierarchy for each. Asking with mkdir would not do, a tmpfs lets us.
func newCgroup(id string, limits limits) (cgroup, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil {
		return nil, fmt.Errorf("looking for cgroups in %s: %w", cgroupRoot, err)
	}
	switch stat.Type {
	case unix.CGROUP2_SUPER_MAGIC:
		return newCgroupV2(cgroupRoot, id, limits)
	case unix.TMPFS_MAGIC:
		return newCgroupV1(cgroupRoot, id, limits)
	default:
		return nil, fmt.Errorf("no cgroup file system is mounted at %s", cgroupRoot)
	}
}

// enterCgroup is init's part of admit, and its last step before the command: it writes each
// value to the file that it inherited for it. What this changes, it changes for the calling
// thread alone, which is the one that becomes the command.
func enterCgroup(values []string) error {
	for i, value := range values {
		file := os.NewFile(uintptr(pipeFD+1+i), "cgroup file")
		if _, err := file.WriteString(value); err != nil {
			return fmt.Errorf("entering the cgroup: %w", err)
		}
	}
	// The group that we are in at this moment becomes the root of what the command can see.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making the cgroup namespace: %w", err)
	}
	return nil
}

// inherit passes a group's file, opened for writing, to init, which writes value to it.
func inherit(init *exec.Cmd, config *initConfig, path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening the cgroup: %w", err)
	}
	init.ExtraFiles = append(init.ExtraFiles, file)
	config.CgroupValues = append(config.CgroupValues, value)
	return nil
}

// explainOOM adds to the command's exit status that the kernel has killed for want of memory.
func explainOOM(err error, group cgroup) error {
	kills, oomErr := group.oomKills()
	if oomErr != nil {
		return errors.Join(err, oomErr)
	}
	if kills == 0 {
		return err
	}
	var exit exitError
	errors.As(err, &exit)
	exit.err = fmt.Errorf("out of memory: the kernel killed %d of the container's processes", kills)
	return exit
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

// write writes the setting to the group in dir. A limit that cannot be set is an error: the
// container would run without it.
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

// haveSwap tells whether the machine has swap space. Kernels that cannot swap, or do not
// account for it, lack the files that limit it.
func haveSwap() bool {
	swaps, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(swaps), "\n") > 1 // the first line is a heading
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

// removeGroup removes a group's directory; the files in it are the kernel's and go with it.
// For a moment after its last member has ended, a group may still be busy.
func removeGroup(dir string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			return fmt.Errorf("removing the cgroup %s: %w", dir, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// clearGroups ends what is left of a container whose mydocker was killed, and removes its
// groups. Processes may be left because Pdeathsig is lost with a change of user: see prctl(2).
func clearGroups(id string) error {
	for _, pattern := range []string{cgroupRoot, cgroupRoot + "/*"} { // v2, v1
		dirs, err := filepath.Glob(filepath.Join(pattern, cgroupParent, id))
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if err := killMembers(dir); err != nil {
				return err
			}
			if err := removeGroup(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func killMembers(dir string) error {
	members, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("reading the cgroup's members: %w", err)
	}
	for _, member := range strings.Fields(string(members)) {
		pid, err := strconv.Atoi(member)
		if err != nil {
			return fmt.Errorf("reading the cgroup's members: %w", err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing process %d of the container: %w", pid, err)
		}
	}
	return nil
}
