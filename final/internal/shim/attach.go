//go:build linux

package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const socketName = "attach.sock"

// socketAddress returns the address of the socket in a directory. A path may be longer than
// an address, so the directory is opened, and found again among our descriptors. See unix(7).
func socketAddress(dir string) (address *net.UnixAddr, done func(), err error) {
	handle, err := os.Open(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the container's directory: %w", err)
	}
	name := filepath.Join(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()), socketName)
	return &net.UnixAddr{Name: name, Net: "unix"}, func() { handle.Close() }, nil
}

// Dial attaches to the container whose shim listens in dir.
func Dial(dir string) (*Attached, error) {
	address, done, err := socketAddress(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := net.DialUnix("unix", nil, address)
	if err != nil {
		return nil, fmt.Errorf("attaching: %w", err)
	}
	return &Attached{Conn: conn}, nil
}

// Attached is the side of who is attached. To read is to get what the container writes, and to
// write to type: so it can stand for the container's terminal.
type Attached struct {
	net.Conn        // no more than that, or io.Copy would find ways past our Write
	Ended    bool   // the container, and we have all that it has written
	Status   int    // of the container then
	rest     []byte // of a frame
}

// next returns what the container writes to one of its streams, or io.EOF when it has ended, or
// its shim has.
func (a *Attached) next() (kind byte, data []byte, err error) {
	kind, data, err = readFrame(a.Conn)
	if kind == ended && len(data) == 1 {
		a.Ended, a.Status = true, int(data[0])
		return 0, nil, io.EOF
	}
	if isEnd(err) {
		return 0, nil, io.EOF
	}
	return kind, data, err
}

// Receive writes what the container writes to stdout and stderr, until it has ended.
func (a *Attached) Receive() error {
	for {
		kind, data, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receiving what the container writes: %w", err)
		}
		file := os.Stdout
		if kind == stderr {
			file = os.Stderr
		}
		if _, err := file.Write(data); err != nil {
			return fmt.Errorf("printing what the container writes: %w", err)
		}
	}
}

// isEnd tells whether an error means that the container has ended, and its shim.
func isEnd(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, unix.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// Read returns what the container writes to either of its streams.
func (a *Attached) Read(data []byte) (int, error) {
	if len(a.rest) == 0 {
		_, frame, err := a.next()
		if err != nil {
			return 0, err
		}
		a.rest = frame
	}
	n := copy(data, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Write sends what is typed.
func (a *Attached) Write(data []byte) (int, error) {
	if err := writeFrame(a.Conn, stdin, data); err != nil {
		return 0, err
	}
	return len(data), nil
}

// End says that nothing more will be typed.
func (a *Attached) End() error { return writeFrame(a.Conn, stdinEnd, nil) }

// Resize tells the size of the terminal.
func (a *Attached) Resize(size *unix.Winsize) error {
	return writeFrame(a.Conn, resize, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, size.Row), size.Col))
}
