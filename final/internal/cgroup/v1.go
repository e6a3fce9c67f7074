//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// v1 is a group under version 1: a directory in each controller's own file system.
type v1 struct {
	root        string
	path        string   // in each controller's file system
	controllers []string // those that have the group
	limits      *Limits  // of a group that is still to be made
}

// groupV1 returns the group with those controllers in which there is the directory found.
func groupV1(root, path, found string) *v1 {
	g := &v1{root: root, path: path}
	for _, controller := range []string{"memory", "cpu", "cpuset", "pids", "freezer"} {
		if _, err := os.Stat(filepath.Join(root, controller, found)); err == nil {
			g.controllers = append(g.controllers, controller)
		}
	}
	return g
}

func findV1(root, path string) *v1 {
	return groupV1(root, path, path)
}

func newV1(root, path string, limits Limits) *v1 {
	g := groupV1(root, path, ".")
	g.limits = &limits
	return g
}

func (g *v1) Open() (Handles, error) {
	handles := Handles{IsFrozen: g.IsFrozen}
	for _, controller := range g.controllers {
		handles.Tasks = append(handles.Tasks, filepath.Join(g.dir(controller), "tasks"))
	}
	if g.limits != nil {
		handles.Make = g.make
	}
	return handles, nil
}

func (g *v1) make() error {
	for _, controller := range g.controllers {
		if err := os.MkdirAll(g.dir(controller), 0o755); err != nil {
			return fmt.Errorf("making the cgroup: %w", err)
		}
	}
	if err := g.fillCPUSet(g.limits.CPUSet); err != nil {
		return err
	}
	for _, setting := range g.limits.settingsV1() {
		if err := setting.write(g.dir(setting.controller())); err != nil {
			return err
		}
	}
	return nil
}

// dirsV1 returns the directories of the first controller and of the last: whoever made a group, or
// removed it, went through them in this order, and may have been killed half way.
func dirsV1(root, parent string) []string {
	g := findV1(root, parent)
	controllers := g.controllers
	if len(controllers) > 2 {
		controllers = []string{controllers[0], controllers[len(controllers)-1]}
	}
	var dirs []string
	for _, controller := range controllers {
		dirs = append(dirs, g.dir(controller))
	}
	return dirs
}

func (g *v1) dir(controller string) string {
	return filepath.Join(g.root, controller, g.path)
}

// settingsV1 is the limits in v1's words.
func (l Limits) settingsV1() []setting {
	var settings []setting
	if l.Memory > 0 {
		bytes := strconv.FormatInt(l.Memory, 10)
		settings = append(settings,
			setting{file: "memory.limit_in_bytes", value: bytes},
			setting{file: "memory.memsw.limit_in_bytes", value: bytes, optional: !haveSwap()}) // memory and swap together
	}
	if l.CPUs > 0 {
		settings = append(settings,
			setting{file: "cpu.cfs_period_us", value: strconv.Itoa(cpuPeriod)},
			setting{file: "cpu.cfs_quota_us", value: strconv.FormatInt(l.cpuQuota(), 10)})
	}
	if l.CPUSet != "" {
		settings = append(settings, setting{file: "cpuset.cpus", value: l.CPUSet})
	}
	if l.PIDs > 0 {
		settings = append(settings, setting{file: "pids.max", value: strconv.FormatInt(l.PIDs, 10)})
	}
	return settings
}

// fillCPUSet gives the group, and the one it is in, what the group above has. A new cpuset
// has neither processors nor memory, and whoever joins it is told "no space left on device".
// That is so for the first: the next ones begin as clones of the one they are in.
func (g *v1) fillCPUSet(requested string) error {
	root, dir := filepath.Join(g.root, "cpuset"), g.dir("cpuset")
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
		own, _ := os.ReadFile(filepath.Join(dir, file)) // if it cannot be read, the write says why
		if strings.TrimSpace(string(own)) == fill.value {
			continue
		}
		above := filepath.Dir(dir)
		if err := fill.write(above); err != nil {
			return err
		}
		if err := (setting{file: "cgroup.clone_children", value: "1", optional: true}).write(above); err != nil {
			return err
		}
		if err := fill.write(dir); err != nil {
			return err
		}
	}
	return nil
}

func (g *v1) OOMKills() (int, error) {
	return readCounter(filepath.Join(g.dir("memory"), "memory.oom_control"), "oom_kill")
}

// Processes looks into the first group that is there: the members are the same in all of them.
func (g *v1) Processes() ([]int, error) {
	for _, controller := range g.controllers {
		if pids, err := processes(g.dir(controller)); len(pids) > 0 || err != nil {
			return pids, err
		}
	}
	return nil, nil
}

func (g *v1) Freeze() error {
	dir := g.dir("freezer")
	return freeze(dir, setting{file: "freezer.state", value: "FROZEN"}, func() (bool, error) {
		state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
		return strings.TrimSpace(string(state)) == "FROZEN", err
	})
}

func (g *v1) IsFrozen() (bool, error) {
	state, err := readState(g.dir("freezer"), "freezer.state")
	return state == "FROZEN" || state == "FREEZING", err
}

func (g *v1) Thaw() error {
	return setting{file: "freezer.state", value: "THAWED"}.write(g.dir("freezer"))
}

func (g *v1) Remove() error {
	var errs []error
	for _, controller := range g.controllers {
		errs = append(errs, removeGroup(g.dir(controller)))
	}
	return errors.Join(errs...)
}
