//go:build linux

package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Process is a running child of ours, in a container.
type Process struct {
	PID      int      // on the host
	Terminal *os.File // our side of the command's terminal, if it has one: the caller's to close

	lock  sync.Mutex // on pidfd
	pidfd int        // or -1, when it has ended and was waited for
}

// follow returns when the player has become the command. A player that fails is reaped first.
func (l *launch) follow(process *Process) error {
	if err := l.listen(process); err != nil {
		process.end()
		return err
	}
	process.Terminal, l.terminal = l.terminal, nil
	return nil
}

// end kills and reaps a process.
func (p *Process) end() {
	_ = p.Signal(unix.SIGKILL) // it may have ended already
	_, _ = p.Wait()            // the status says no more than the caller knows
}

// listen makes the cgroup and the network while the player sets the container up, and returns the
// player's failure.
func (l *launch) listen(process *Process) error {
	if makeGroup := l.command.Cgroup.Make; makeGroup != nil {
		if err := makeGroup(); err != nil {
			return err
		}
	}
	if l.prepare != nil {
		if err := l.prepare(process.PID); err != nil {
			return err
		}
	}
	if l.isAwaited() {
		_, _ = l.ours.Write([]byte{0}) // if nobody reads it, the player tells why
	}
	message, err := l.hear()
	if errors.Is(err, io.EOF) {
		return nil // exec has closed the player's end of the pipe
	}
	if err != nil {
		return err
	}
	return l.describe(message, process.PID)
}

// hear reads a report. If none comes because the player is frozen, the error is ErrPaused: see
// limitSilence.
func (l *launch) hear() (report, error) {
	for {
		var message report
		err := binary.Read(l.ours, binary.NativeEndian, &message)
		switch {
		case err == nil:
			return message, nil
		case !errors.Is(err, unix.EAGAIN):
			return report{}, fmt.Errorf("reading the container's report: %w", err)
		case l.isFrozen():
			return report{}, ErrPaused
		}
	}
}

// Wait returns the exit status of the process, as a shell would put it: 128+n if signal n has
// ended it. It is for one caller, once: the process ID means nothing afterwards.
func (p *Process) Wait() (int, error) {
	var status unix.WaitStatus
	if err := waitFor(p.PID, &status); err != nil {
		return 0, fmt.Errorf("waiting for process %d: %w", p.PID, err)
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	unix.Close(p.pidfd)
	p.pidfd = -1
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

func waitFor(pid int, status *unix.WaitStatus) error {
	for {
		_, err := unix.Wait4(pid, status, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Signal sends a signal to the process, and to no other that has come to its process ID. After
// its end that is os.ErrProcessDone. As process 1 of its namespace it gets only the signals that
// it has a handler for, and SIGKILL and SIGSTOP: see pid_namespaces(7).
func (p *Process) Signal(signal unix.Signal) error {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.pidfd == -1 {
		return os.ErrProcessDone
	}
	err := unix.PidfdSendSignal(p.pidfd, signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("sending %v to process %d: %w", signal, p.PID, err)
	}
	return nil
}

// StartTime returns when a process was started, in clock ticks since the machine was. With it a
// process ID means one process for good: alone it is given to another some time after the
// process has ended. See proc_pid_stat(5).
func StartTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading when process %d was started: %w", pid, err)
	}
	return parseStartTime(stat)
}

// BootID returns what tells one start of the machine from all others. Process IDs and start times
// begin anew with each: one from before says nothing of what runs now. See proc_sys_kernel(5).
func BootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // always there
	return strings.TrimSpace(string(id))
}

// parseStartTime finds field 22. The second is the program's name in parentheses, and may hold
// blanks and parentheses itself.
func parseStartTime(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("reading when a process was started: %q is no stat line", stat)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
