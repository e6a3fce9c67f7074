//go:build linux

package testkit

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// prepare gives a script a state directory, with nothing in it but the image, and a runtime
// directory, and checks behind the script that all is as it was before.
func prepare(env *testscript.Env, keepsContainers bool) error {
	for _, dir := range []string{stateDir, runtimeDir} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=700"); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
		env.Defer(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				env.T().Fatal("unmounting ", dir, ": ", err)
			}
		})
	}
	images := filepath.Join(stateDir, "images")
	if err := os.Mkdir(images, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(imagesDir, "busybox.tar"), filepath.Join(images, "busybox.tar")); err != nil {
		return err
	}
	before := snapshot(keepsContainers)
	env.Defer(func() {
		removeDefaultNetwork(env)
		diff := leaks(before, keepsContainers)
		// A script that fails must not make the next one fail. And its directory is removed after
		// this, so nothing may be mounted in it.
		killProcesses(before)
		for _, group := range groups() {
			_ = unix.Rmdir(filepath.Join(cgroupRoot, group))
		}
		removeNetworks()
		unmountBelow(env.WorkDir)
		if diff != "" {
			env.T().Fatal("the script leaves behind:\n" + diff)
		}
	})
	env.Values[processesKey{}] = processes{}
	return nil
}

// leakPatience is how long what is left may take to go: on a busy machine processes need time to end.
var leakPatience = 10 * time.Second

// leaks returns how the sandbox differs from what it was.
func leaks(before []string, keepsContainers bool) string {
	deadline := time.Now().Add(leakPatience)
	for {
		diff := cmp.Diff(before, snapshot(keepsContainers))
		if diff == "" || time.Now().After(deadline) {
			return diff
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// snapshot describes everything that a container may leave behind, a line each. Its
// directory counts, unless it is there to be kept.
func snapshot(keepsContainers bool) []string {
	hostname, err := os.Hostname()
	lines := []string{fmt.Sprint("hostname ", hostname, err)}
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		lines = append(lines, fmt.Sprint("broken /proc: ", err))
	}
	lines = append(lines, mounts()...)
	lines = append(lines, processList()...)
	lines = append(lines, links()...)
	lines = append(lines, firewall()...)
	for _, group := range groups() {
		lines = append(lines, "cgroup "+group)
	}
	containers, _ := filepath.Glob(filepath.Join(stateDir, "containers", "*")) // the pattern is good
	passing, _ := filepath.Glob(filepath.Join(runtimeDir, stateDir, "containers", "[^.]*"))
	networks, _ := filepath.Glob(filepath.Join(stateDir, "networks", "*"))
	temporary, _ := filepath.Glob(filepath.Join(stateDir, "images", ".[^l]*")) // .lock is to stay
	if !keepsContainers {
		lines = append(lines, containers...)
	}
	lines = append(lines, passing...)
	lines = append(lines, networks...)
	lines = append(lines, temporary...)
	slices.Sort(lines)
	return lines
}

// unmountBelow detaches all that a script has mounted below its directory.
func unmountBelow(dir string) {
	for _, line := range slices.Backward(mounts()) {
		target := strings.Fields(line)[1]
		if strings.HasPrefix(target, dir+"/") {
			// Private first, or a copy of the sandbox's mounts takes the originals with it. Errors
			// are about mounts that went with the one they were in.
			_ = unix.Mount("", target, "", unix.MS_REC|unix.MS_PRIVATE, "")
			_ = unix.Unmount(target, unix.MNT_DETACH)
		}
	}
}

func mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		lines = append(lines, "mount "+fields[4]+" of "+fields[len(fields)-2])
	}
	return lines
}

// processList lists processes and zombies; the PID namespace is the sandbox's own.
func processList() []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var lines []string
	for _, file := range stats {
		stat, err := readStat(file)
		if err != nil {
			continue // it has just ended
		}
		lines = append(lines, fmt.Sprintf("process %d %s", stat.pid, stat.name))
	}
	return lines
}

// killProcesses ends those that a snapshot does not have.
func killProcesses(snapshot []string) {
	isOld := func(process string) bool { return slices.Contains(snapshot, process) }
	for deadline := time.Now().Add(leakPatience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		processes := slices.DeleteFunc(processList(), isOld)
		if len(processes) == 0 {
			return
		}
		for _, process := range processes {
			var pid int
			if _, err := fmt.Sscanf(process, "process %d", &pid); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
			}
		}
	}
}

func links() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, link := range interfaces {
		// A container's veth that is switched off goes with its namespace, which the last packets
		// of a connection may keep for a while.
		if strings.HasPrefix(link.Name, "mdv") && link.Flags&net.FlagUp == 0 {
			continue
		}
		lines = append(lines, fmt.Sprintf("link %s %v", link.Name, link.Flags&net.FlagUp))
	}
	return lines
}
