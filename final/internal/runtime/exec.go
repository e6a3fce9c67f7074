//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotRunning is why nothing can be run in a container whose first process has ended.
var ErrNotRunning = errors.New("the container is not running")

// ErrPaused is why nothing can be run in a container whose cgroup is frozen.
var ErrPaused = errors.New("the container is paused")

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
// run. If the container is not running, the error is ErrNotRunning, and if it is paused before the
// command runs, ErrPaused.
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
	if err := l.limitSilence(); err != nil {
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
	l.keep()
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

// keep forks the player: the child goes on, and the parent stays as the keeper, which is the command's
// parent in place of this process. A PID namespace ends only when all its processes are reaped, and
// this process may be stopped, or killed where process 1 reaps nothing. The keeper exits with the
// command's status. When this process ends, the keeper kills the command, unless the command
// outlives us. The keeper is in no namespace and no cgroup of the container, and has nothing open.
//
// The child shares the keeper's memory and suspends it, until the child has left the command behind
// as another child of the keeper: see goOnInside.
func (l *launch) keep() {
	const doing = "making the command's keeper"
	l.setSignalMask("blocking signals", ^uint64(0))
	l.call(doing, unix.SYS_SETSID)
	if !l.command.Outlives {
		l.call(doing, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGTERM), 0, 0, 0)
	}
	args := &cloneArgs{flags: unix.CLONE_VM | unix.CLONE_VFORK, exitSignal: uint64(unix.SIGCHLD)}
	if dir := l.command.Cgroup.Dir; dir != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(len(l.files))
		l.files = append(l.files, int(dir.Fd()))
	}
	l.call(doing, unix.SYS_CLONE3, bytesOf(args), unsafe.Sizeof(*args)).explain(unix.EAGAIN, noMoreProcesses)
	l.call(doing, opNumber(opKeep))
}

const noMoreProcesses = "the container may have no more processes: see --pids-limit"

// cloneArgs is struct clone_args of clone(2).
type cloneArgs struct {
	flags      uint64
	_          [3]uint64 // pidfd, child_tid, parent_tid
	exitSignal uint64
	_          [5]uint64 // stack, stack_size, tls, set_tid, set_tid_size
	cgroup     uint64
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

// goOnInside forks the player: the child goes on and is a child of the keeper, too. A process
// never changes its PID namespace, so only the child is in the container's. There the container's
// processes can see it, and with CAP_SYS_PTRACE trace it. By then it is confined as they are, and
// has nothing open or in memory that is not for the command.
func (l *launch) goOnInside() {
	const doing = "joining the container's PID namespace"
	l.call(doing, unix.SYS_CLONE, unix.CLONE_PARENT|int(unix.SIGCHLD), 0, 0, 0, 0).
		explain(unix.EAGAIN, noMoreProcesses).
		explain(unix.ENOMEM, "the container is ending, or out of memory")
	l.call(doing, opNumber(opLeave))
}

// runInside starts the keeper, and returns when the command runs. The process is the keeper when it
// is waited for, and the command when it gets a signal.
func (l *launch) runInside() (*Process, error) {
	keeper, err := l.fork(0, nil)
	if err != nil {
		return nil, err
	}
	pid, failure, err := l.hearOfChild(keeper)
	if err != nil {
		if errors.Is(err, ErrPaused) {
			keeper.Abandon()
		}
		l.ours.Close() // the player waits for us
		_, _ = keeper.Wait()
		return nil, err
	}
	// The keeper has the process ID for the command until it has ended itself.
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		keeper.end()
		return nil, fmt.Errorf("opening process %d: %w", pid, err)
	}
	unix.Close(keeper.pidfd)
	process := &Process{PID: keeper.PID, pidfd: pidfd}
	if failure == (report{}) {
		failure, err = l.hear()
	}
	switch {
	case errors.Is(err, io.EOF): // exec has closed the command's end of the pipe
		process.Terminal, l.terminal = l.terminal, nil
		return process, nil
	case errors.Is(err, ErrPaused):
		process.Abandon()
	case err == nil:
		err = l.describe(failure, pid)
	}
	process.end()
	return nil, err
}

// limitSilence makes a read from the pipe fail with EAGAIN after a while, so that hear can look
// whether the player is frozen: it is from when it joins the cgroup of a container that is paused.
func (l *launch) limitSilence() error {
	const limit = 50 * time.Millisecond
	timeout := unix.NsecToTimeval(int64(limit))
	if err := unix.SetsockoptTimeval(int(l.ours.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return fmt.Errorf("making the pipe to the container: %w", err)
	}
	return nil
}

// isFrozen reports whether the cgroup that the player joins is frozen.
func (l *launch) isFrozen() bool {
	isFrozen := l.command.Cgroup.IsFrozen
	if isFrozen == nil {
		return false
	}
	frozen, err := isFrozen()
	return frozen && err == nil
}

// Abandon kills a process that Exec has started, and its keeper. Wait then returns at once, also
// where the process is frozen: under cgroup v1 it ends only when it is thawed.
func (p *Process) Abandon() {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.PID)) // none, if it has ended
	for _, child := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
	_ = unix.Kill(p.PID, unix.SIGKILL)
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
