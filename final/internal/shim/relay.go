//go:build linux

package shim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/runtime"
)

// Relay keeps the caller's files out of a command's hands. The command could type into a
// terminal that it holds (TIOCSTI), read what is typed there later, and change its settings. It
// could open a regular file anew by /proc/self/fd, and read and rewrite all of it. In place of
// such files the command gets pipes, and this process copies.
type Relay struct {
	Stdin, Stdout, Stderr *os.File // for the command

	user    runtime.User // that the command runs as
	outputs []*output    // our ends of those that it writes to
	copying sync.WaitGroup
	errs    [2]error // of writing, for each output
}

// NewRelay starts to copy from and to those of the caller's files that the command must not
// have. A nil file stays nil. Stdout and stderr that are one file become one pipe, so that what
// is written to them stays in order. The pipes belong to the user, who can then open them anew as
// /dev/stdin, /dev/stdout and /dev/stderr.
func NewRelay(user runtime.User, stdin, stdout, stderr *os.File) (*Relay, error) {
	r := &Relay{Stdin: stdin, Stdout: stdout, Stderr: stderr, user: user}
	var err error
	if r.Stdin, err = r.input(stdin); err != nil {
		return nil, err
	}
	if r.Stdout, err = r.output(stdout); err != nil {
		return nil, err
	}
	if r.Stdout != stdout && isSame(stdout, stderr) {
		r.Stderr = r.Stdout
		return r, nil
	}
	r.Stderr, err = r.output(stderr)
	return r, err
}

// input returns file, or the end of a pipe that its content comes from.
func (r *Relay) input(file *os.File) (*os.File, error) {
	reader, writer, err := r.pipe(file)
	if reader == nil {
		return file, err
	}
	go func() {
		copyInput(writer, file)
		writer.Close()
	}()
	return reader, nil
}

// output returns file, or the end of a pipe whose content goes there.
func (r *Relay) output(file *os.File) (*os.File, error) {
	reader, writer, err := r.pipe(file)
	if reader == nil {
		return file, err
	}
	failed := &r.errs[len(r.outputs)]
	from := &output{file: reader}
	r.outputs = append(r.outputs, from)
	r.copying.Go(func() {
		defer reader.Close() // if file takes no more, the command gets EPIPE
		_, *failed = io.Copy(file, from)
	})
	return writer, nil
}

// pipe makes a pipe, or none for a file that the command may have itself.
func (r *Relay) pipe(file *os.File) (reader, writer *os.File, err error) {
	if file == nil || r.isHarmless(file) {
		return nil, nil, nil
	}
	// A terminal would stop us in the background, and we could not wait for the command.
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU)
	return newPipe(r.user)
}

// newPipe returns the ends of a pipe that belongs to the user.
func newPipe(user runtime.User) (reader, writer *os.File, err error) {
	reader, writer, err = os.Pipe()
	if err == nil {
		err = writer.Chown(int(user.UID), int(user.GID)) // both ends are one file
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making the command's pipes: %w", err)
	}
	return reader, writer, nil
}

// Finish returns when all is copied that the command has written until now. Processes that it has
// left behind are not waited for. Finish is for when the command has ended. It returns the status to
// exit with: the command's, but not 0 if some of its output was lost.
func (r *Relay) Finish(status int) (int, error) {
	if len(r.outputs) == 0 {
		return status, nil
	}
	takeSignals()
	for _, output := range r.outputs {
		output.end()
	}
	r.copying.Wait()
	return lossStatus(status, errors.Join(r.errs[:]...))
}

// takeSignals lets signals end this process that were the command's, which has ended: our reader may
// stand still.
func takeSignals() {
	signal.Reset(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
}

// lossStatus returns 1 in place of 0 if output was lost. A reader that has gone wants none of it.
func lossStatus(status int, err error) (int, error) {
	if err == nil || errors.Is(err, unix.EPIPE) {
		return status, nil
	}
	return max(status, 1), fmt.Errorf("writing the command's output: %w", err)
}

// copyInput copies until one of the two ends. A terminal whose foreground we are not in is left to
// its shell: we look again a little later.
func copyInput(to io.Writer, from *os.File) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, unix.EIO) && isInBackground(from) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
	}
}

// isInBackground tells whether a terminal is ours, and other processes of our session have it now.
func isInBackground(terminal *os.File) bool {
	foreground, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground != unix.Getpgrp()
}

// isHarmless tells whether a command may have a file of the caller's itself. By a pipe or
// /dev/null it gets at nothing else. All other devices and files it could open anew, with other
// rights, or control. A pipe that its user could not open anew stays with the caller, too: we do
// not change who owns it.
func (r *Relay) isHarmless(file *os.File) bool {
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat := info.Sys().(*syscall.Stat_t)
	if info.Mode()&fs.ModeNamedPipe != 0 {
		return r.user.UID == 0 || r.user.UID == stat.Uid
	}
	return info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == unix.Mkdev(1, 3)
}

func isSame(a, b *os.File) bool {
	if a == nil || b == nil {
		return false
	}
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
