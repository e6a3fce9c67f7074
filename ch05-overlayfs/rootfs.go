//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// enterRootfs makes the image's files all that there is: the new root, with the file systems
// and devices that programs expect in it, and the host's root gone.
func enterRootfs(rootfs, consoleName string) error {
	console, err := unix.Open(consoleName, unix.O_PATH|unix.O_CLOEXEC, 0) // while it can be found
	if err != nil {
		return fmt.Errorf("opening the console: %w", err)
	}
	if err := pivotRoot(rootfs); err != nil {
		return err
	}
	// From here on every path is looked up inside of the new root, so that no link in the
	// image can lead one of these mounts to the host's files: but see makeMountPoint.
	if err := mountFileSystems(); err != nil {
		return err
	}
	if err := makeDevices(console); err != nil {
		return err
	}
	if err := protectKernel(); err != nil {
		return err
	}
	return detachOldRoot()
}

// pivotRoot swaps the root mount for the one at rootfs. With "." for both of its paths,
// pivot_root(2) leaves the old root mounted on top of the new one, and needs no directory
// for it in the image. We stay in the old root until detachOldRoot.
func pivotRoot(rootfs string) error {
	if err := unix.Chdir(rootfs); err != nil {
		return fmt.Errorf("entering the rootfs: %w", err)
	}
	err := unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("changing the root: %w (not possible from an initramfs: switch_root first)", err)
	}
	if err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return nil
}

// detachOldRoot makes the host's files unreachable.
func detachOldRoot() error {
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detaching the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	return nil
}

// mountFileSystems mounts what programs expect to find, as docker does.
func mountFileSystems() error {
	const noDevices = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		target, fstype string
		flags          uintptr
		options        string
	}{
		{"/proc", "proc", noDevices, ""},
		{"/sys", "sysfs", noDevices | unix.MS_RDONLY, ""},
		{"/dev", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=64m"},
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"/dev/shm", "tmpfs", noDevices, "mode=1777,size=64m"},
		{"/dev/mqueue", "mqueue", noDevices, ""},
	} {
		if err := makeMountPoint(m.target); err != nil {
			return fmt.Errorf("making %s: %w", m.target, err)
		}
		if err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.options); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// makeMountPoint makes a directory, unless it is there. A link to one will not do: at the root
// ".." leads to the old root, which is mounted there until detachOldRoot, and a mount on top of
// that would be what detachOldRoot detaches.
func makeMountPoint(path string) error {
	err := os.Mkdir(path, 0o755)
	if info, statErr := os.Lstat(path); statErr == nil && info.IsDir() {
		return nil
	}
	return err
}

// makeDevices fills /dev. The numbers are those of Linux's Documentation/admin-guide/devices.txt.
func makeDevices(console int) error {
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	for _, device := range []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		path := filepath.Join("/dev", device.name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(device.major, device.minor))); err != nil {
			return fmt.Errorf("making %s: %w", path, err)
		}
	}
	for _, link := range []struct{ name, target string }{
		{"ptmx", "pts/ptmx"},
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
	} {
		if err := os.Symlink(link.target, filepath.Join("/dev", link.name)); err != nil {
			return fmt.Errorf("making /dev/%s: %w", link.name, err)
		}
	}
	return makeConsole(console)
}

// findConsole returns the name of what becomes /dev/console: with -t the terminal, else null.
// Init needs a name to mount it by: what its stdin and stdout refer to is in the host's mount
// namespace, and cannot be mounted in another.
func findConsole(terminal bool) string {
	for _, file := range []*os.File{os.Stdin, os.Stdout} {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
		if terminal && err == nil && isTerminal(file) && isSame(file, name) {
			return name
		}
	}
	return "/dev/null"
}

// isSame tells whether the path leads to the open file.
func isSame(file *os.File, path string) bool {
	open, err1 := file.Stat()
	named, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(open, named)
}

func makeConsole(console int) error {
	if err := os.WriteFile("/dev/console", nil, 0o600); err != nil {
		return fmt.Errorf("making /dev/console: %w", err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", console), "/dev/console", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting /dev/console: %w", err)
	}
	return nil
}

// protectKernel takes from the container what in /proc and /sys is the whole machine's. The
// lists are those of runc and docker.
func protectKernel() error {
	for _, path := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		if err := mask(path); err != nil {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if err := makeReadOnly(path); err != nil {
			return fmt.Errorf("making %s read-only: %w", path, err)
		}
	}
	return nil
}

// mask hides a file behind /dev/null, and a directory behind an empty one.
func mask(path string) error {
	err := unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.ENOTDIR) {
		err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0")
	}
	return ifExists(err)
}

// makeReadOnly binds the path to itself, because only a mount can be made read-only.
func makeReadOnly(path string) error {
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return ifExists(err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, "")
}

// ifExists forgives that a path is not there: not every kernel has all of them.
func ifExists(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
