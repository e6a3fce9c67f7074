//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupV1 is a group under cgroup v1: a directory in each controller's own file system.
type cgroupV1 struct {
	root        string
	id          string
	controllers []string // those that the machine has
}

func newCgroupV1(root, id string, limits limits) (_ cgroup, err error) {
	c := &cgroupV1{root: root, id: id}
	defer undoOnError(&err, c.remove)
	for _, controller := range []string{"memory", "cpu", "cpuset", "pids", "freezer"} {
		if _, err := os.Stat(filepath.Join(root, controller)); err != nil {
			continue // only a limit that needs it makes this an error, below
		}
		if err := os.MkdirAll(c.dir(controller), 0o755); err != nil {
			return nil, fmt.Errorf("making the cgroup: %w", err)
		}
		c.controllers = append(c.controllers, controller)
	}
	if err := c.fillCPUSet(limits.cpuset); err != nil {
		return nil, err
	}
	for _, setting := range limits.settingsV1() {
		if err := setting.write(c.dir(setting.controller())); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cgroupV1) dir(controller string) string {
	return filepath.Join(c.root, controller, cgroupParent, c.id)
}

// settingsV1 is the limits in v1's words.
func (l limits) settingsV1() []setting {
	var settings []setting
	if l.memory > 0 {
		bytes := strconv.FormatInt(l.memory, 10)
		settings = append(settings,
			setting{file: "memory.limit_in_bytes", value: bytes},
			setting{file: "memory.memsw.limit_in_bytes", value: bytes, optional: !haveSwap()}) // memory and swap together
	}
	if l.cpus > 0 {
		settings = append(settings,
			setting{file: "cpu.cfs_period_us", value: strconv.Itoa(cpuPeriod)},
			setting{file: "cpu.cfs_quota_us", value: strconv.FormatInt(l.cpuQuota(), 10)})
	}
	if l.cpuset != "" {
		settings = append(settings, setting{file: "cpuset.cpus", value: l.cpuset})
	}
	if l.pids > 0 {
		settings = append(settings, setting{file: "pids.max", value: strconv.FormatInt(l.pids, 10)})
	}
	return settings
}

// fillCPUSet gives the group, and the one it is in, what the group above has. A new cpuset
// has neither processors nor memory, and whoever joins it is told "no space left on device".
func (c *cgroupV1) fillCPUSet(requested string) error {
	root := filepath.Join(c.root, "cpuset")
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(root, file))
		if err != nil && requested == "" {
			return nil // nobody needs this controller
		}
		if err != nil {
			return fmt.Errorf("reading the machine's %s: %w", file, err)
		}
		fill := setting{file: file, value: strings.TrimSpace(string(value))}
		if file == "cpuset.cpus" && requested != "" {
			if err := checkCPUSet(requested, fill.value); err != nil {
				return err
			}
		}
		for _, dir := range []string{filepath.Join(root, cgroupParent), c.dir("cpuset")} {
			if err := fill.write(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// admit has init join with the one thread that becomes the command: that is what a 0 in
// tasks does. The others, which belong to Go and end with exec, do not count against the limits.
func (c *cgroupV1) admit(init *exec.Cmd, config *initConfig) error {
	for _, controller := range c.controllers {
		if err := inherit(init, config, filepath.Join(c.dir(controller), "tasks"), "0"); err != nil {
			return err
		}
	}
	return nil
}

func (c *cgroupV1) oomKills() (int, error) {
	return readCounter(filepath.Join(c.dir("memory"), "memory.oom_control"), "oom_kill")
}

func (c *cgroupV1) remove() error {
	for _, controller := range c.controllers {
		if err := removeGroup(c.dir(controller)); err != nil {
			return err
		}
	}
	return nil
}
