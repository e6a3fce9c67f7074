//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// shims is the group under v2 of shims that were started in a group. The root takes them under v1.
// Under v2 it may be the root of a container, which cannot pass controllers on while it has members.
const shims = "mydocker-shims"

// Outside returns what a process leaves the caller's groups by. A service manager kills all that is
// in the group of a service or of a session when that ends, and a group's limit on memory is not
// for what the process does for others. If the caller is in no group, the handles are empty.
func Outside() (Handles, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Handles{}, fmt.Errorf("reading our cgroups: %w", err)
	}
	return outside(mountPoint, string(groups)), nil
}

// outside leaves out hierarchies that are not mounted, or that it may not change. Lines are as in
// "4:memory:/user.slice", "1:name=systemd:/user.slice" and, for v2, "0::/user.slice": see cgroups(7).
func outside(root, groups string) (handles Handles) {
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) < 3 || fields[2] == "/" || fields[2] == "/"+shims {
			continue
		}
		name := strings.TrimPrefix(fields[1], "name=")
		if name == "" {
			handles.Dir = openShims(root)
		} else if tasks := filepath.Join(root, name, "tasks"); unix.Access(tasks, unix.W_OK) == nil {
			handles.Tasks = append(handles.Tasks, tasks)
		}
	}
	return handles
}

// openShims returns the group of the shims under v2, which a machine with v1 may have as well, or nil.
func openShims(root string) *os.File {
	for _, dir := range []string{root, filepath.Join(root, "unified")} {
		var stat unix.Statfs_t
		if unix.Statfs(dir, &stat) != nil || stat.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir = filepath.Join(dir, shims)
		_ = os.Mkdir(dir, 0o755) // or it is there
		group, err := os.Open(dir)
		if err == nil {
			return group
		}
	}
	return nil
}
