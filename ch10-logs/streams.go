//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// giveStreams gives the command our stdout and stderr, and with -i our stdin. What must not get
// into a container is replaced by a pipe, and we copy.
func giveStreams(opts runOptions, init *exec.Cmd) error {
	init.Stdout, init.Stderr = os.Stdout, os.Stderr
	if isWithheld(os.Stdout, opts) {
		init.Stdout = struct{ io.Writer }{os.Stdout} // for what is no *os.File, os/exec makes a pipe
	}
	switch {
	case areSame(os.Stdout, os.Stderr):
		init.Stderr = init.Stdout // the same pipe keeps the order of what is written
	case isWithheld(os.Stderr, opts):
		init.Stderr = struct{ io.Writer }{os.Stderr}
	}
	if !opts.interactive {
		return nil // os/exec opens /dev/null
	}
	if !isWithheld(os.Stdin, opts) {
		init.Stdin = os.Stdin
		return nil
	}
	// Not as init.Stdin: Wait would wait for the end of our stdin, too.
	stdin, err := init.StdinPipe()
	if err != nil {
		return fmt.Errorf("making the pipe for stdin: %w", err)
	}
	go func() {
		_, _ = io.Copy(stdin, os.Stdin) // ends with either of them
		stdin.Close()
	}()
	return nil
}

// isWithheld reports whether a file must not get into a container. From a terminal, the command
// could read what is typed into our caller's shell, and type into it: see TIOCSTI(2const). So
// that needs -t. A regular file it could open anew by way of /proc/self/fd, to read or change it.
func isWithheld(file *os.File, opts runOptions) bool {
	if isTerminal(file) {
		return !opts.terminal
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

func areSame(a, b *os.File) bool {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
