//go:build linux

package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Streams are a container's stdin, stdout and stderr, or its terminal, on our side: what it
// writes goes to the log and to all who are attached, and what they type to it.
type Streams struct {
	log      *Log
	inner    []*os.File // the container's ends, closed when it has its own
	stdin    *os.File   // our ends: nil without -i
	terminal *os.File   // nil without -t
	copying  sync.WaitGroup
	listener *net.UnixListener

	mu      sync.Mutex
	clients map[*client]bool
}

// client is who gets what the container writes.
type client struct {
	write func(stream byte, data []byte) error
	close func()
}

// The streams by number, which are the kinds of frames: see writeFrame.
const (
	stdin = iota
	stdout
	stderr
	stdinEnd // from the client: nothing more will come
	resize   // from the client: the terminal's rows and columns, two bytes each
	ended    // to the client: the container's exit status, one byte
)

var streamNames = [...]string{stdout: "stdout", stderr: "stderr"}

// NewStreams opens the log at path.
func NewStreams(path string) (*Streams, error) {
	log, err := OpenLog(path)
	if err != nil {
		return nil, err
	}
	return &Streams{log: log, clients: map[*client]bool{}}, nil
}

// pipeSize is how much the container may write before it has to wait for us, if we may have as
// much: enough not to, as long as we are no slower on the average.
const pipeSize = 1 << 20

// Pipes makes the pipes of a container without a terminal, and returns the container's ends.
// Stdin is one only if somebody may type; else it is nil.
func (s *Streams) Pipes(interactive bool) (files [3]*os.File, err error) {
	for i := range files {
		if i == stdin && !interactive {
			continue
		}
		reader, writer, err := os.Pipe()
		if err != nil {
			return files, fmt.Errorf("making the container's pipes: %w", err)
		}
		_, _ = unix.FcntlInt(writer.Fd(), unix.F_SETPIPE_SZ, pipeSize) // if we may not, it has the usual 64 KB
		if i == stdin {
			files[i], s.stdin = reader, writer
		} else {
			files[i] = writer
			s.copying.Go(func() { s.copy(byte(i), reader) })
		}
		s.inner = append(s.inner, files[i])
	}
	return files, nil
}

// Terminal has the streams be those of a terminal, which is our side of it.
func (s *Streams) Terminal(terminal *os.File) {
	s.stdin, s.terminal = terminal, terminal
	s.copying.Go(func() { s.copy(stdout, terminal) })
}

// Tee has what the container writes go to these files as well.
func (s *Streams) Tee(out, err *os.File) {
	files := [...]*os.File{stdout: out, stderr: err}
	s.add(&client{
		write: func(stream byte, data []byte) error {
			if stream == ended {
				return nil // it is we
			}
			_, err := files[stream].Write(data)
			return err
		},
		close: func() {},
	})
}

func (s *Streams) add(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c] = true
}

func (s *Streams) drop(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c] {
		delete(s.clients, c)
		c.close()
	}
}

// copy hands on what the container writes. What is there at one time goes on at once: a lone
// line is not kept back, and a flood of them costs few writes. Whatever becomes of the log, the
// reading goes on: the container must not have to wait, nor be killed by SIGPIPE.
func (s *Streams) copy(stream byte, from *os.File) {
	text := make([]byte, maxText)
	var entries []byte
	begun := 0 // bytes of a line whose end is still to come
	for {
		n, err := from.Read(text[begun:])
		s.broadcast(stream, text[begun:begun+n])
		var rest []byte
		entries, rest = addLines(entries[:0], text[:begun+n], streamNames[stream], err != nil)
		s.log.write(entries)
		begun = copy(text, rest)
		if err != nil { // the end, which for a terminal is EIO
			return
		}
	}
}

// broadcast gives all who are attached what the container has written. Who does not take it
// holds the container up, as a terminal does; who is gone is forgotten.
func (s *Streams) broadcast(stream byte, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		if len(data) > 0 && c.write(stream, data) != nil {
			delete(s.clients, c)
			c.close()
		}
	}
}

// Finish waits until all that the container has written is where it should be, tells who is
// attached the exit status, and closes the streams. It returns what of the log was lost.
func (s *Streams) Finish(status int) error {
	for _, file := range s.inner {
		file.Close() // the last one, as the container's are closed: so there is an end
	}
	s.copying.Wait()
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		_ = c.write(ended, []byte{byte(status)}) // who is gone does not want to know
		c.close()
	}
	return s.log.Close()
}

// Listen lets others attach, at a socket in the directory dir.
func (s *Streams) Listen(dir string) error {
	address, done, err := socketAddress(dir)
	if err != nil {
		return err
	}
	defer done()
	_ = os.Remove(address.Name) // of a shim that was killed
	if s.listener, err = net.ListenUnix("unix", address); err != nil {
		return fmt.Errorf("listening for who attaches: %w", err)
	}
	s.listener.SetUnlinkOnClose(false) // its name is not good for that any more
	go func() {
		for {
			conn, err := s.listener.AcceptUnix()
			if err != nil {
				return
			}
			s.Serve(conn, false)
		}
	}()
	return nil
}

// Serve attaches whoever is at the other end of a connection. The end of what they type is the
// end of the container's stdin, if it is theirs alone.
func (s *Streams) Serve(conn *net.UnixConn, owns bool) {
	c := &client{
		write: func(stream byte, data []byte) error { return writeFrame(conn, stream, data) },
		close: func() { conn.Close() },
	}
	s.add(c)
	go func() {
		s.receive(conn, owns)
		s.drop(c)
	}()
}

// receive does what a client says until it is gone.
func (s *Streams) receive(conn io.Reader, owns bool) {
	for {
		kind, data, err := readFrame(conn)
		if err != nil {
			return
		}
		switch {
		case kind == stdin && s.stdin != nil:
			if _, err := s.stdin.Write(data); err != nil {
				continue // nobody reads it any more
			}
		case kind == stdinEnd && s.stdin != nil && owns && s.terminal == nil:
			s.stdin.Close()
		case kind == resize && s.terminal != nil && len(data) == 4:
			size := &unix.Winsize{Row: binary.BigEndian.Uint16(data), Col: binary.BigEndian.Uint16(data[2:])}
			_ = unix.IoctlSetWinsize(int(s.terminal.Fd()), unix.TIOCSWINSZ, size) // a terminal that is gone has none
		}
	}
}

// writeFrame sends a frame: what kind it is, in four bytes how long, and that many bytes.
func writeFrame(w io.Writer, kind byte, data []byte) error {
	frame := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(data)))
	_, err := w.Write(append(frame, data...))
	return err
}

// maxFrame is more than anybody sends.
const maxFrame = 1 << 20

func readFrame(r io.Reader) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, errors.New("a frame is too long")
	}
	data = make([]byte, size)
	_, err = io.ReadFull(r, data)
	return head[0], data, err
}
