//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freezer is the part of a container's cgroup that stops all of its processes at one moment,
// and lets them go on. See the kernel's cgroup-v2.rst, and freezer-subsystem.rst for v1.
type freezer struct {
	dir      string
	freeze   setting
	thaw     setting
	isFrozen func() (bool, error)
}

// findFreezer returns a running container's freezer, or nil if there is none: the container
// does not run, or the machine has no freezer.
func findFreezer(id string) *freezer {
	v2 := filepath.Join(cgroupRoot, cgroupParent, id)
	v1 := filepath.Join(cgroupRoot, "freezer", cgroupParent, id)
	for _, f := range []*freezer{
		{
			dir:    v2,
			freeze: setting{file: "cgroup.freeze", value: "1"},
			thaw:   setting{file: "cgroup.freeze", value: "0"},
			isFrozen: func() (bool, error) {
				frozen, err := readCounter(filepath.Join(v2, "cgroup.events"), "frozen")
				return frozen == 1, err
			},
		},
		{
			dir:    v1,
			freeze: setting{file: "freezer.state", value: "FROZEN"},
			thaw:   setting{file: "freezer.state", value: "THAWED"},
			isFrozen: func() (bool, error) {
				state, err := os.ReadFile(filepath.Join(v1, "freezer.state"))
				return strings.TrimSpace(string(state)) == "FROZEN", err
			},
		},
	} {
		if _, err := os.Stat(filepath.Join(f.dir, f.freeze.file)); err == nil {
			return f
		}
	}
	return nil
}

// stop freezes the container, and returns when none of its processes runs any more. A
// process in the middle of a system call may take a moment.
func (f *freezer) stop() error {
	if f == nil {
		return nil
	}
	if err := f.freeze.write(f.dir); err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		frozen, err := f.isFrozen()
		if err == nil && !frozen && time.Now().After(deadline) {
			err = errors.New("its processes do not stop")
		}
		if err != nil {
			return errors.Join(fmt.Errorf("freezing the container: %w", err), f.goOn())
		}
		if frozen {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// goOn takes back stop. If the container has been killed meanwhile, nothing is left to do.
func (f *freezer) goOn() error {
	if f == nil {
		return nil
	}
	if _, err := os.Stat(f.dir); err != nil {
		return nil //nolint:nilerr // its end has removed the cgroup
	}
	return f.thaw.write(f.dir)
}
