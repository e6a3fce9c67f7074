//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrNotRunning is why nothing can be run in a container whose first process has ended.
var ErrNotRunning = errors.New("the container is not running")

// Target is a running container, by its first process.
type Target struct {
	PID       int    // on the host
	StartTime uint64 // of that process: see the function StartTime
}

// open returns a pidfd, which means the same process for good. By the time that we have it, the
// process ID may have come to another, so we look at who we got. See pidfd_open(2).
func (t Target) open() (int, error) {
	pidfd, err := unix.PidfdOpen(t.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, ErrNotRunning
	}
	if err != nil {
		return -1, fmt.Errorf("opening process %d: %w", t.PID, err)
	}
	if started, err := StartTime(t.PID); err != nil || started != t.StartTime {
		unix.Close(pidfd)
		return -1, ErrNotRunning
	}
	return pidfd, nil
}

// Exec runs one more command in a container, as Start does the first one, and with the same
// errors and ties to the calling thread. It joins all of the container's namespaces, or does not
// run. If the container is not running, the error is ErrNotRunning.
func Exec(target Target, command *Command) (*Process, error) {
	process, err := execute(target, command)
	if err != nil {
		return nil, asError(err)
	}
	return process, nil
}

func execute(target Target, command *Command) (*Process, error) {
	if err := command.check(); err != nil {
		return nil, err
	}
	pidfd, err := target.open()
	if err != nil {
		return nil, err
	}
	l := &launch{command: command}
	defer l.close()
	l.owns(pidfd)
	if err := l.openFiles(); err != nil {
		return nil, err
	}
	if command.Terminal {
		root, err := os.Open(fmt.Sprintf("/proc/%d/root", target.PID))
		if err != nil {
			return nil, fmt.Errorf("opening the container's root: %w", err)
		}
		defer root.Close()
		if err := l.openTerminal(int(root.Fd()), "dev/pts/ptmx"); err != nil {
			return nil, err
		}
	}

	l.begin()
	if err := l.joinCgroup(); err != nil {
		return nil, err
	}
	l.joinNamespaces(pidfd)
	l.enterDir()
	l.confine()
	l.become()

	return l.runBeside(pidfd)
}

// joinNamespaces joins all but the PID namespace, and so gets the container's root, too.
func (l *launch) joinNamespaces(pidfd int) {
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	l.call("joining the container's namespaces", unix.SYS_SETNS, pidfd, all).
		explain(unix.ESRCH, ErrNotRunning.Error())
}

// runBeside forks the child into the PID namespace of the container. Into this one nobody can
// go, one can only be born: setns(2) changes where our children are, and not where we are. So we
// change it back at once. A thread that cannot must not go on: it would be in two places.
func (l *launch) runBeside(pidfd int) (*Process, error) {
	home, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("opening our own PID namespace: %w", err)
	}
	defer home.Close()
	runtime.LockOSThread() // before the change, so that Go starts new threads from another one
	defer runtime.UnlockOSThread()
	if err := unix.Setns(pidfd, unix.CLONE_NEWPID); errors.Is(err, unix.ESRCH) {
		return nil, ErrNotRunning
	} else if err != nil {
		return nil, fmt.Errorf("joining the container's PID namespace: %w", err)
	}
	process, err := l.fork(0)
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWPID); err != nil {
		panic(fmt.Sprintf("returning to our PID namespace: %v", err))
	}
	if err != nil {
		return nil, err
	}
	return process, l.follow(process)
}
