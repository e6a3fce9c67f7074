//go:build linux

package testkit

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// diskFile is the file system that is mounted over the state directory.
const diskFile = imagesDir + "/disk"

// disk is the scripts' disk.
func disk() { fatal(makeDisk(diskFile)) }

// outage is the scripts' outage. The journal is committed first, as ext4 does every five seconds:
// then new files have their names and sizes, but not yet their data.
func outage() {
	fatal(commitJournal())
	fatal(cutPower(diskFile))
}

// makeDisk makes an ext4 file system in a file, and mounts it over the state directory.
func makeDisk(file string) error {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(file, 256<<20); err != nil {
		return err
	}
	if output, err := exec.Command("mkfs.ext4", "-q", "-F", file).CombinedOutput(); err != nil {
		return fmt.Errorf("making a file system: %w: %s", err, output)
	}
	if err := mountDisk(file); err != nil {
		return err
	}
	images := filepath.Join(stateDir, "images")
	if err := os.Mkdir(images, 0o700); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(imagesDir, "busybox.tar"), filepath.Join(images, "busybox.tar")); err != nil {
		return err
	}
	unix.Sync()                                             // this was there before
	return os.Remove(filepath.Join(stateDir, "lost+found")) // mydocker knows nothing of it
}

func mountDisk(file string) error {
	if output, err := exec.Command("mount", "-t", "ext4", "-o", "loop", file, stateDir).CombinedOutput(); err != nil {
		return fmt.Errorf("mounting the disk: %w: %s", err, output)
	}
	_ = os.Remove(filepath.Join(stateDir, committed)) // it need not be there
	return nil
}

// committed is a file that has nothing to do with the others.
const committed = "committed"

// commitJournal has ext4 write its journal, by way of that file.
func commitJournal() error {
	file, err := os.Create(filepath.Join(stateDir, committed))
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}

// losePower makes the file system forget what is not on the disk, as a power failure does: see
// EXT4_IOC_SHUTDOWN in the kernel's fs/ext4/ext4.h.
func losePower() error {
	dir, err := os.Open(stateDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	const (
		shutdown   = 0x8004587d // _IOR('X', 125, __u32)
		noLogFlush = 2
	)
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush); err != nil {
		return fmt.Errorf("shutting down the file system: %w", err)
	}
	return nil
}

// cutPower ends the machine, and starts it again.
func cutPower(disk string) error {
	if err := losePower(); err != nil {
		return err
	}
	if err := reboot(); err != nil {
		return err
	}
	if err := unix.Unmount(stateDir, 0); err != nil {
		return fmt.Errorf("unmounting the disk: %w", err)
	}
	return mountDisk(disk)
}

// reboot ends what a reboot ends: processes, cgroups, interfaces, the firewall's rules, and files in memory.
func reboot() error {
	ancestors := []int{os.Getpid()}
	for pid := os.Getppid(); pid > 0; {
		ancestors = append(ancestors, pid)
		stat, err := readStat(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		pid = stat.parent
	}
	err := eventually(func() error {
		left := 0
		for _, pid := range pids() {
			if !slices.Contains(ancestors, pid) {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
				left++
			}
		}
		for _, group := range groups() {
			_ = thaw(filepath.Base(group))                   // it need not be frozen
			_ = unix.Rmdir(filepath.Join(cgroupRoot, group)) // when its processes have ended
			left++
		}
		if left > 0 {
			return fmt.Errorf("%d processes and cgroups do not end", left)
		}
		return nil
	})
	if err != nil {
		return err
	}
	removeNetworks()
	return os.RemoveAll(filepath.Join(runtimeDir, stateDir))
}

// checkRecords makes sure that every record is whole.
func checkRecords() error {
	return filepath.WalkDir(stateDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".making") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".json" || strings.HasSuffix(path, "log.json") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && !json.Valid(data) {
			err = fmt.Errorf("%s is damaged: %d bytes, %.60q", path, len(data), data)
		}
		return err
	})
}
