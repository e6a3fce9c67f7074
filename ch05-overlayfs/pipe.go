//go:build linux

package main

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// pipeFD is where init finds its end of the pipe: os/exec puts ExtraFiles behind stderr.
const pipeFD = 3

// initConfig is what the parent tells init about the container.
type initConfig struct {
	Hostname     string
	Overlay      *overlay // to make the root of
	Console      string   // to mount as /dev/console
	CgroupValues []string // see enterCgroup
	Command      []string
}

// initReport is what init answers when it cannot start the command.
type initReport struct {
	Status  int // to exit with
	Message string
}

// startInit starts init, sends it the config that it waits for, and returns when the command
// runs, or with the reason why it does not.
func startInit(init *exec.Cmd, config initConfig) error {
	ours, theirs, err := newPipe()
	if err != nil {
		return fmt.Errorf("making the pipe to init: %w", err)
	}
	defer ours.Close()
	init.ExtraFiles = append([]*os.File{theirs}, init.ExtraFiles...)
	err = init.Start()
	for _, file := range init.ExtraFiles {
		file.Close() // a pipe ends when nobody holds its other end any more, so we must not either
	}
	if err != nil {
		return fmt.Errorf("starting init: %w", err)
	}
	if err := instruct(ours, config); err != nil {
		_ = init.Process.Kill() // it may have ended already
		_ = init.Wait()         // why it ended is in err
		return err
	}
	return nil
}

// instruct sends the config, and waits until init's end of the pipe is closed. Exec does
// that, because the end is marked close-on-exec, and then the command runs.
func instruct(pipe io.ReadWriter, config initConfig) error {
	if err := writeFrame(pipe, config); err != nil {
		return fmt.Errorf("sending init its config: %w", err)
	}
	var report initReport
	err := readFrame(pipe, &report)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading init's report: %w", err)
	}
	return exitError{status: report.Status, err: errors.New(report.Message)}
}

// answer is init's side: it hands the parent's config to become, which returns only if the
// command could not be started, and reports why.
func answer(pipe io.ReadWriter, become func(initConfig) error) error {
	var config initConfig
	if err := readFrame(pipe, &config); err != nil {
		return fmt.Errorf("waiting for the parent's config: %w", err)
	}
	err := become(config)
	exit := exitError{status: statusFailed}
	errors.As(err, &exit)
	if err := writeFrame(pipe, initReport{Status: exit.status, Message: err.Error()}); err != nil {
		return fmt.Errorf("reporting to the parent: %w", err)
	}
	return exitError{status: exit.status}
}

// newPipe returns the two ends of a pipe that carries bytes both ways: a pair of sockets.
func newPipe() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// writeFrame sends one message. A pipe carries bytes, not messages, so gob puts the length of
// each before it. Its strings hold any bytes, as arguments and paths do. JSON's must be UTF-8.
func writeFrame(w io.Writer, message any) error {
	return gob.NewEncoder(w).Encode(message)
}

// readFrame receives one message. It returns io.EOF if the other side closed the pipe instead
// of sending one, and io.ErrUnexpectedEOF if it did so in the middle.
func readFrame(r io.Reader, message any) error {
	return gob.NewDecoder(r).Decode(message)
}
