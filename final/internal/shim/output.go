//go:build linux

package shim

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// output is our end of a pipe or of a terminal that a container writes to.
type output struct {
	file  *os.File
	ended bool // read no more than what is there
	left  int  // bytes to read at most, when ended
}

// end makes Read return what the container has written until now, and then io.EOF. Without it Read
// goes on until the last writer has closed the file. That may be a process that the command has
// left behind, or one outside of the container that got the descriptor over a socket.
func (o *output) end() {
	_ = o.file.SetReadDeadline(time.Now()) // fails if it is closed, and so at its end
}

// Read returns io.EOF at the end, which a terminal tells by EIO.
func (o *output) Read(buffer []byte) (int, error) {
	if o.ended {
		return o.readHeld(buffer)
	}
	n, err := o.file.Read(buffer)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.ended, o.left = true, pipeSize
		if err := o.file.SetReadDeadline(time.Time{}); err != nil {
			return 0, err
		}
		return o.readHeld(buffer)
	case errors.Is(err, unix.EIO):
		return n, io.EOF
	}
	return n, err
}

// readHeld reads without waiting, and no more than a pipe can hold: others may go on writing.
func (o *output) readHeld(buffer []byte) (n int, err error) {
	conn, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, _ = unix.Read(int(fd), buffer[:min(len(buffer), o.left)])
		return true
	})
	if err != nil || n <= 0 { // EAGAIN or EIO: it holds nothing more
		return 0, io.EOF
	}
	o.left -= n
	return n, nil
}
