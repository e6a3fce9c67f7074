//go:build linux

package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Signal sends a signal to the container's first process, and to no other that has come to its
// process ID. If the container is not running, the error is ErrNotRunning.
func (t Target) Signal(signal unix.Signal) error {
	pidfd, err := t.open()
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	err = unix.PidfdSendSignal(pidfd, signal, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("sending %v to process %d: %w", signal, t.PID, err)
	}
	return nil
}

// IsAlive reports whether the first process lives. A zombie does not: a host whose process 1 does
// not reap may keep it for ever.
func (t Target) IsAlive() bool {
	pidfd, err := t.open()
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0) // readable when it has ended
	return n == 0 && err == nil
}

// OpenRoot opens the container's root directory.
func (t Target) OpenRoot() (*os.File, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", t.PID))
	if err != nil {
		return nil, fmt.Errorf("opening the container's root: %w", err)
	}
	if !t.IsAlive() { // then it may be that of another process
		return nil, errors.Join(ErrNotRunning, root.Close())
	}
	return root, nil
}

// ResumeParent resumes the parent of a first process that has ended, if the parent is stopped: it is
// the parent that reaps the process, and records how it ended.
func (t Target) ResumeParent() {
	own, err := t.open()
	if err != nil {
		return // it is reaped
	}
	defer unix.Close(own)
	state, parent := stateOf(t.PID)
	pidfd, err := unix.PidfdOpen(parent, 0)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	parentState, _ := stateOf(parent)
	if _, now := stateOf(t.PID); state == "Z" && parentState == "T" && now == parent {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGCONT, nil, 0) // it may just have ended
	}
}

// stateOf returns a process's state, as in "Z", and its parent, or nothing if it is gone.
func stateOf(pid int) (state string, parent int) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, _ = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent)
	return state, parent
}

// WaitEnd returns when the first process has ended, whoever is its parent, or with
// os.ErrDeadlineExceeded.
func (t Target) WaitEnd(deadline time.Time) error {
	pidfd, err := t.open()
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	for {
		left := max(0, min(time.Until(deadline), time.Hour))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case n > 0:
			t.ResumeParent()
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("waiting for process %d: %w", t.PID, err)
		case time.Now().After(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}
