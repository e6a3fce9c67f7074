//go:build linux

package container

import (
	"fmt"
	"os"
	"regexp"
)

// Damage returns why the record of the container cannot be used, or nil. What is left of such a
// container can be listed and removed by force.
func (c *Container) Damage() error { return c.damage }

// recover finds out what can be known of a container without its record. Its name is the link that
// leads to it, and its anonymous volumes say whose they are. While it runs, the kernel knows which
// other volumes and which layers it has, so that they are not removed under it. When it has ended,
// it holds on to none of these: it cannot be started again.
func (c *Container) recover() {
	if name := c.store.nameOf(c.ID); name != "" {
		c.Name = name
	}
	if info, err := os.Stat(c.Dir()); err == nil && c.Created.IsZero() {
		c.Created = info.ModTime()
	}
	c.findOwnVolumes()
	mounts := c.mountTable()
	for _, volume := range regexp.MustCompile(`/volumes/([^/ ]+)/data `).FindAllStringSubmatch(mounts, -1) {
		c.Config.Mounts = append(c.Config.Mounts, Mount{Name: volume[1]})
	}
	c.Config.Layers = append(c.Config.Layers, regexp.MustCompile(`layers/sha256/[0-9a-f]{64}/fs`).FindAllString(mounts, -1)...)
}

// mountTable returns what one of the container's processes has mounted: see proc_pid_mountinfo(5).
func (c *Container) mountTable() string {
	for _, pid := range c.members() {
		if table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)); err == nil {
			return string(table)
		}
	}
	return ""
}

func (c *Container) hasProcesses() bool { return len(c.members()) > 0 }

// members returns the processes in the container's cgroup, as far as that can be read.
func (c *Container) members() []int {
	group, err := c.store.Groups.Find(c.ID)
	if err != nil {
		return nil
	}
	pids, _ := group.Processes()
	return pids
}
