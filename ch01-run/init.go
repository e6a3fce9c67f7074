//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Exit statuses for a command that could not be started, as shells and docker have them.
const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

// runInit is what process 1 of a container does: it sets up its surroundings, then becomes
// the command. After any failure the command never runs.
func runInit(command []string) error {
	if os.Getpid() != 1 {
		return errors.New("init is not for people: it runs inside of a container that mydocker makes")
	}
	if err := makeMountsPrivate(); err != nil {
		return err
	}
	if err := mountProc(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	if err := bringUpLoopback(); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	return become(command)
}

// makeMountsPrivate cuts the tie between the container's mounts and the host's. A new mount
// namespace begins with copies of the host's mounts, and under systemd these are shared:
// what is mounted on a copy appears on the host as well. So this comes before any other
// mount, or the host loses its /proc. See mount_namespaces(7), "SHARED SUBTREES".
func makeMountsPrivate() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf(`making all mounts private: %w ("/" is not a mount, as in a chroot)`, err)
	}
	if err != nil {
		return fmt.Errorf("making all mounts private: %w", err)
	}
	return nil
}

// mountProc gives the container a /proc that shows its own processes.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}

// bringUpLoopback switches lo on, which is down in a new network namespace. See netdevice(7).
func bringUpLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// become replaces this program by the command, and returns only if that fails.
func become(command []string) error {
	resetSignals()
	path, err := exec.LookPath(command[0])
	if err == nil {
		err = unix.Exec(path, command, os.Environ())
	}
	status := statusNotExecutable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		status = statusNotFound
	}
	return exitError{status: status, err: fmt.Errorf("running %q: %w", command[0], err)}
}

// resetSignals gives each signal its default action. One that our caller ignores, as nohup does
// SIGHUP, would stay ignored through fork and exec. See sigaction(2). Package os/signal would start
// a thread for it, which a limit of processes (chapter 3) may forbid.
func resetSignals() {
	var action [4]uint64 // all zero: SIG_DFL, no flags, no signals blocked
	for signal := range uintptr(64) {
		// SIGKILL and SIGSTOP are refused, and have the default action anyway.
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, signal+1, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}
