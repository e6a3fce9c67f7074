//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// v2 is a group under version 2: one directory for all controllers.
type v2 struct {
	dir string
}

func newV2(root, path string, limits Limits) (_ Group, err error) {
	g := &v2{dir: filepath.Join(root, path)}
	above := filepath.Dir(g.dir)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Remove())
		}
	}()
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the cgroup: %w", err)
	}
	for _, dir := range []string{root, above} {
		if err := enableControllers(dir); err != nil {
			return nil, err
		}
	}
	if limits.CPUSet != "" {
		available, err := os.ReadFile(filepath.Join(above, "cpuset.cpus.effective"))
		if err != nil {
			return nil, fmt.Errorf("reading which CPUs there are: %w", err)
		}
		if err := checkCPUSet(limits.CPUSet, strings.TrimSpace(string(available))); err != nil {
			return nil, err
		}
	}
	for _, setting := range limits.settingsV2() {
		if err := setting.write(g.dir); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// settingsV2 is the limits in v2's words.
func (l Limits) settingsV2() []setting {
	var settings []setting
	if l.Memory > 0 {
		settings = append(settings,
			setting{file: "memory.max", value: strconv.FormatInt(l.Memory, 10)},
			setting{file: "memory.swap.max", value: "0", optional: !haveSwap()}) // swap alone
	}
	if l.CPUs > 0 {
		settings = append(settings, setting{file: "cpu.max", value: fmt.Sprintf("%d %d", l.cpuQuota(), cpuPeriod)})
	}
	if l.CPUSet != "" {
		settings = append(settings, setting{file: "cpuset.cpus", value: l.CPUSet})
	}
	if l.PIDs > 0 {
		settings = append(settings, setting{file: "pids.max", value: strconv.FormatInt(l.PIDs, 10)})
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

func (g *v2) Open() (Handles, error) {
	dir, err := os.Open(g.dir)
	if err != nil {
		return Handles{}, fmt.Errorf("opening the cgroup: %w", err)
	}
	return Handles{Dir: dir, IsFrozen: g.IsFrozen}, nil
}

func (g *v2) OOMKills() (int, error) {
	return readCounter(filepath.Join(g.dir, "memory.events"), "oom_kill")
}

func (g *v2) Processes() ([]int, error) { return processes(g.dir) }

func (g *v2) Freeze() error {
	return freeze(g.dir, setting{file: "cgroup.freeze", value: "1"}, func() (bool, error) {
		frozen, err := readCounter(filepath.Join(g.dir, "cgroup.events"), "frozen")
		return frozen == 1, err
	})
}

func (g *v2) IsFrozen() (bool, error) {
	state, err := readState(g.dir, "cgroup.freeze")
	return state == "1", err
}

func (g *v2) Thaw() error {
	return setting{file: "cgroup.freeze", value: "0"}.write(g.dir)
}

func (g *v2) Remove() error { return removeGroup(g.dir) }
