//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
	if err := l.openFiles(); err != nil {
		unix.Close(pidfd)
		return nil, err
	}
	container := l.hand(pidfd)
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
	if err := l.joinOpenCgroup(); err != nil {
		return nil, err
	}
	l.joinNamespaces(container)
	l.closeFiles()
	l.enterDir()
	l.confine()
	l.goOnInside()
	l.tie()
	l.become()

	return l.runInside()
}

// joinOpenCgroup joins as joinCgroup does, but by files that this process has opened, so that the
// player's memory holds no path of the host's.
func (l *launch) joinOpenCgroup() error {
	for _, tasks := range l.command.Cgroup.Tasks {
		fd, err := unix.Open(tasks, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("joining the cgroup: %w", err)
		}
		l.call("joining the cgroup", unix.SYS_WRITE, l.hand(fd), "0", 1)
	}
	return nil
}

// joinNamespaces joins all of the container's namespaces, and with them its root. Only children of
// the player will be in the PID namespace: see goOnInside.
func (l *launch) joinNamespaces(pidfd int) {
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP | unix.CLONE_NEWPID
	l.call("joining the container's namespaces", unix.SYS_SETNS, pidfd, all)
}

// goOnInside forks the player: the child goes on and is a child of this process, too. A process
// never changes its PID namespace, so only the child is in the container's. There the container's
// processes can see it, and with CAP_SYS_PTRACE trace it. By then it is confined as they are, and
// has nothing open or in memory that is not for the command.
func (l *launch) goOnInside() {
	const doing = "joining the container's PID namespace"
	l.call(doing, unix.SYS_CLONE, unix.CLONE_PARENT|int(unix.SIGCHLD), 0, 0, 0, 0).
		explain(unix.EAGAIN, "the container may have no more processes: see --pids-limit").
		explain(unix.ENOMEM, "the container is ending, or out of memory")
	l.call(doing, opNumber(opLeave))
}

// runInside starts a player, and returns its child when that has become the command.
func (l *launch) runInside() (*Process, error) {
	first, err := l.fork(0)
	if err != nil {
		return nil, err
	}
	pid, failure, err := l.hearOfChild(first)
	if err != nil {
		first.end()
		return nil, err
	}
	_, _ = first.Wait()                  // its exit status is always 0
	pidfd, err := unix.PidfdOpen(pid, 0) // the ID is not reused before we have waited for it
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_ = waitFor(pid, nil)
		return nil, fmt.Errorf("opening process %d: %w", pid, err)
	}
	process := &Process{PID: pid, pidfd: pidfd}
	if failure != (report{}) {
		err := l.describe(failure, pid)
		process.end()
		return nil, err
	}
	return process, l.follow(process)
}

// hearOfChild returns the ID of the player's child, and the child's failure if that came first.
func (l *launch) hearOfChild(first *Process) (pid int, failure report, err error) {
	message, err := l.hear()
	if err == nil && message.Errno != 0 && l.isInside(message) {
		failure = message
		message, err = l.hear()
	}
	if err == nil && message.Errno != 0 {
		err = l.describe(message, first.PID)
	}
	if errors.Is(err, unix.ESRCH) { // from joinNamespaces
		err = ErrNotRunning
	}
	return int(message.Step), failure, err
}

// isInside reports whether a failure is the child's.
func (l *launch) isInside(failure report) bool {
	return slices.ContainsFunc(l.steps[:failure.Step], func(s step) bool { return s.number == opNumber(opLeave) })
}
