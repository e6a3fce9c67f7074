//go:build linux

package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupVersion is 1, 2, or 0 where there are no cgroups.
func cgroupVersion() int {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil {
		return 0
	}
	switch stat.Type {
	case unix.CGROUP2_SUPER_MAGIC:
		return 2
	case unix.TMPFS_MAGIC:
		return 1
	}
	return 0
}

// hierarchies returns where cgroups can be made: one place on v2, one per controller on v1.
func hierarchies() []string {
	if cgroupVersion() == 2 {
		return []string{cgroupRoot}
	}
	var dirs []string
	for _, controller := range []string{"memory", "cpu", "cpuset", "pids", "freezer"} {
		dir := filepath.Join(cgroupRoot, controller)
		if _, err := os.Stat(filepath.Join(dir, "tasks")); err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// makeGroups makes a group of the sandbox's own in every hierarchy.
func makeGroups(name string) (made []string, err error) {
	for _, root := range hierarchies() {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return made, err
		}
		made = append(made, dir)
		if filepath.Base(root) == "cpuset" {
			err = copyFiles(root, dir, "cpuset.cpus", "cpuset.mems")
		}
		if cgroupVersion() == 2 {
			err = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu +cpuset +memory +pids"), 0)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

func copyFiles(from, to string, names ...string) error {
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0); err != nil {
			return err
		}
	}
	return nil
}

// bindGroups makes the sandbox's groups the roots of the hierarchies that it sees.
func bindGroups(name string) error {
	for _, root := range hierarchies() {
		if err := unix.Mount(filepath.Join(root, name), root, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding cgroups: %w", err)
		}
	}
	return nil
}

// groups lists the containers' groups.
func groups() []string {
	var all []string
	for _, root := range hierarchies() {
		dirs, _ := filepath.Glob(filepath.Join(root, "mydocker", "*", "cgroup.procs")) // the pattern is good
		for _, dir := range dirs {
			all = append(all, strings.TrimPrefix(filepath.Dir(dir), cgroupRoot))
		}
	}
	return all
}

// printRunning is the scripts' running: the IDs of the containers that run, as their cgroups have them.
func printRunning() {
	var ids []string
	for _, group := range groups() {
		ids = append(ids, filepath.Base(group))
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		fmt.Println(id)
	}
}

// removeGroups removes a group and those below it, as far as they are empty.
func removeGroups(dir string) {
	below, _ := filepath.Glob(filepath.Join(dir, "*", "cgroup.procs")) // the pattern is good
	for _, procs := range below {
		removeGroups(filepath.Dir(procs))
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		fmt.Fprintf(os.Stderr, "testkit: removing %s: %v\n", dir, err)
	}
}
