//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// terminal is our terminal while a container has the use of it.
type terminal struct {
	fd       int
	settings *unix.Termios
}

// lendTerminal puts the container's process group into the foreground of our terminal with -it:
// then it can read what is typed, and ^C and ^Z go to it and not to us. Without anything to
// lend it returns nil.
func lendTerminal(opts runOptions, init *exec.Cmd) (*terminal, error) {
	file := os.Stdout
	if opts.interactive {
		file = os.Stdin
	}
	if opts.terminal && !isTerminal(file) {
		return nil, fmt.Errorf("-t needs a terminal, which %s is not", file.Name())
	}
	fd := int(file.Fd())
	if !opts.terminal || !opts.interactive || !inForeground(fd) {
		return nil, nil
	}
	settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("reading the terminal's settings: %w", err)
	}
	init.SysProcAttr.Foreground = true
	init.SysProcAttr.Ctty = fd
	return &terminal{fd: fd, settings: settings}, nil
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// inForeground tells whether we may lend the terminal: it controls our session, and our
// process group is the one it listens to.
func inForeground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// takeBack returns us to the foreground, with the terminal's settings as they were.
func (t *terminal) takeBack() error {
	if t == nil {
		return nil
	}
	// Whoever changes a terminal from the background is stopped by SIGTTOU, unless it is ignored.
	signal.Ignore(unix.SIGTTOU)
	if err := unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, unix.Getpgrp()); err != nil {
		return fmt.Errorf("taking the terminal back: %w", err)
	}
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETSW, t.settings); err != nil {
		return fmt.Errorf("restoring the terminal's settings: %w", err)
	}
	return nil
}
