//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupV2 is a group under cgroup v2: one directory for all controllers.
type cgroupV2 struct {
	dir    string
	handle *os.File // of dir
	pids   int64    // the limit that init sets itself
}

func newCgroupV2(root, id string, limits limits) (_ cgroup, err error) {
	parent := filepath.Join(root, cgroupParent)
	c := &cgroupV2{dir: filepath.Join(parent, id), pids: limits.pids}
	defer undoOnError(&err, c.remove)
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cgroup: %w", err)
	}
	for _, dir := range []string{root, parent} {
		if err := enableControllers(dir); err != nil {
			return nil, err
		}
	}
	if limits.cpuset != "" {
		available, err := os.ReadFile(filepath.Join(parent, "cpuset.cpus.effective"))
		if err != nil {
			return nil, fmt.Errorf("reading which CPUs there are: %w", err)
		}
		if err := checkCPUSet(limits.cpuset, strings.TrimSpace(string(available))); err != nil {
			return nil, err
		}
	}
	for _, setting := range limits.settingsV2() {
		if err := setting.write(c.dir); err != nil {
			return nil, err
		}
	}
	c.handle, err = os.Open(c.dir)
	return c, err
}

// settingsV2 is the limits in v2's words, without that of processes: see admit.
func (l limits) settingsV2() []setting {
	var settings []setting
	if l.memory > 0 {
		settings = append(settings,
			setting{file: "memory.max", value: strconv.FormatInt(l.memory, 10)},
			setting{file: "memory.swap.max", value: "0", optional: !haveSwap()}) // swap alone
	}
	if l.cpus > 0 {
		settings = append(settings, setting{file: "cpu.max", value: fmt.Sprintf("%d %d", l.cpuQuota(), cpuPeriod)})
	}
	if l.cpuset != "" {
		settings = append(settings, setting{file: "cpuset.cpus", value: l.cpuset})
	}
	return settings
}

// enableControllers makes the controllers that we use work in the groups below dir, as far
// as the machine has them. Every group on the way down has to pass them on.
func enableControllers(dir string) error {
	available, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading the controllers: %w", err)
	}
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("reading the controllers: %w", err)
	}
	var missing []string
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
		if slices.Contains(strings.Fields(string(available)), controller) &&
			!slices.Contains(strings.Fields(string(enabled)), controller) {
			missing = append(missing, "+"+controller)
		}
	}
	if missing == nil {
		return nil
	}
	// In one write, or the first of them would turn a group with processes into a threaded one.
	err = setting{file: "cgroup.subtree_control", value: strings.Join(missing, " ")}.write(dir)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w (processes in %s itself keep it from passing controllers on: "+
			`see "no internal processes" in cgroups(7))`, err, dir)
	}
	return err
}

// admit has init born in the group, with clone3(2) and CLONE_INTO_CGROUP. Init's Go runtime
// needs threads, so it is init that sets the limit of processes, as its last step.
func (c *cgroupV2) admit(init *exec.Cmd, config *initConfig) error {
	init.SysProcAttr.UseCgroupFD = true
	init.SysProcAttr.CgroupFD = int(c.handle.Fd())
	if c.pids == 0 {
		return nil
	}
	return inherit(init, config, filepath.Join(c.dir, "pids.max"), strconv.FormatInt(c.pids, 10))
}

func (c *cgroupV2) oomKills() (int, error) {
	return readCounter(filepath.Join(c.dir, "memory.events"), "oom_kill")
}

func (c *cgroupV2) remove() error {
	c.handle.Close()
	return removeGroup(c.dir)
}
