//go:build linux

package runtime

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stayAsInit returns in a child of process 1, which goes on to become the command. Process 1
// itself stays behind as the container's init: it passes signals on to that child, and buries
// whatever loses its parent, until the child ends. It never was anything but a fork of ours, so
// it needs no program in the image, and hardly any memory of its own.
//
//go:nosplit
//go:norace
func stayAsInit() unix.Errno {
	const closed = uintptr(unix.SIGUSR1)
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for nextSignal() != closed {
		}
		return 0
	}
	// Some of our files are the host's: nobody in the container may find them in /proc/1/fd. And
	// a pipe ends when nobody holds its other end any more, so init must not either.
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE_RANGE, 0, ^uintptr(0)>>32, 0)
	_, _, _ = syscall.RawSyscall(unix.SYS_KILL, pid, closed, 0)
	for {
		signal := nextSignal()
		if signal == uintptr(unix.SIGCHLD) {
			bury(pid)
		} else {
			_, _, _ = syscall.RawSyscall(unix.SYS_KILL, pid, signal, 0)
		}
	}
}

// nextSignal waits for a signal. All are blocked, and so none of them gets lost.
//
//go:nosplit
//go:norace
func nextSignal() uintptr {
	all := ^uint64(0)
	signal, _, _ := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&all)), 0, 0, unsafe.Sizeof(all), 0, 0)
	return signal
}

// bury waits for all that have ended. With the child init ends too, with the child's status.
//
//go:nosplit
//go:norace
func bury(child uintptr) {
	for {
		var status uint32
		pid, _, errno := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&status)), unix.WNOHANG, 0, 0, 0)
		if pid == 0 || errno != 0 {
			return
		}
		if pid == child {
			code := uintptr(status>>8) & 0xff
			if signal := uintptr(status) & 0x7f; signal != 0 {
				code = 128 + signal
			}
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
		}
	}
}
