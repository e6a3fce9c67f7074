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
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/runtime"
)

// Streams are a container's stdin, stdout and stderr, or its terminal, on our side: what it
// writes goes to the log and to all clients, and what they type goes to the container.
type Streams struct {
	log      *Log
	inner    []*os.File // the container's ends, closed when it has its own
	stdin    *os.File   // our ends: nil without -i
	terminal *os.File   // nil without -t
	outputs  []*output
	copying  sync.WaitGroup
	listener *net.UnixListener
	serving  sync.WaitGroup // the clients

	mu      sync.Mutex
	clients map[*client]bool
	pending [stderr + 1][]byte // of each stream the line that has begun: clients have it, the log does not
	ended   bool               // the container, and so the log
	status  int                // its exit status then
	err     error              // why this process was not given all, as a client
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

// pipeSize is a pipe's capacity in bytes. A larger pipe absorbs bursts of output.
const pipeSize = 1 << 20

// Pipes makes the pipes of a container without a terminal, and returns the container's ends.
// Stdin is one only if a client may type; else it is nil. The pipes belong to the user that the
// container runs as, who can then open them anew as /dev/stdin, /dev/stdout and /dev/stderr.
func (s *Streams) Pipes(interactive bool, user runtime.User) (files [3]*os.File, err error) {
	for i := range files {
		if i == stdin && !interactive {
			continue
		}
		reader, writer, err := newPipe(user)
		if err != nil {
			return files, err
		}
		_, _ = unix.FcntlInt(writer.Fd(), unix.F_SETPIPE_SZ, pipeSize) // optional: else it has the usual 64 KB
		if i == stdin {
			files[i], s.stdin = reader, writer
		} else {
			files[i] = writer
			s.copy(byte(i), reader)
		}
		s.inner = append(s.inner, files[i])
	}
	return files, nil
}

// Terminal makes the streams those of a terminal, which is our side of it.
func (s *Streams) Terminal(terminal *os.File) {
	s.stdin, s.terminal = terminal, terminal
	s.copy(stdout, terminal)
}

// copy hands on what the container writes to one of its streams.
func (s *Streams) copy(stream byte, file *os.File) {
	from := &output{file: file}
	s.outputs = append(s.outputs, from)
	s.copying.Go(func() { s.copyFrom(stream, from) })
}

// copyFrom hands on at once what is there at one time: a lone line is not kept back, and a flood of
// them costs few writes. It waits for no client, and goes on when the log fails: the container
// must not have to wait, nor be killed by SIGPIPE.
func (s *Streams) copyFrom(stream byte, from io.Reader) {
	text := make([]byte, maxText)
	var entries []byte
	begun := 0 // bytes of a line whose end is still to come
	for {
		n, err := from.Read(text[begun:])
		var rest []byte
		entries, rest = addLines(entries[:0], text[:begun+n], streamNames[stream], err != nil)
		s.mu.Lock()
		for c := range s.clients {
			s.put(c, stream, text[begun:begun+n])
		}
		s.log.write(entries)
		begun = copy(text, rest)
		s.pending[stream] = text[:begun]
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Finish returns when all that the container has written is in its log, and what of the log was
// lost. The clients get the exit status, but not from Finish: see Close.
func (s *Streams) Finish(status int) error {
	for _, file := range s.inner {
		file.Close() // the last one, as the container's are closed: so there is an end
	}
	for _, output := range s.outputs {
		output.end()
	}
	s.copying.Wait()
	if s.listener != nil {
		s.listener.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.status = true, status
	for c := range s.clients {
		c.changed.Signal()
	}
	return s.log.loss()
}

// patience is how long a client may take nothing when the container has ended.
const patience = 10 * time.Second

// Close returns when the clients have all that the container has written and its exit status, or
// do not take it. It is for when no other process waits for us any more. It returns the status to
// exit with, as Relay.Finish does.
func (s *Streams) Close() (int, error) {
	defer s.log.file.Close()
	takeSignals()
	gone := make(chan struct{})
	go func() { s.serving.Wait(); close(gone) }()
	for {
		select {
		case <-gone:
			return lossStatus(s.status, s.err)
		case <-time.After(patience):
			if !s.isMoving() {
				return s.status, nil
			}
		}
	}
}

// isMoving tells whether a client has taken something since the last time, or is this process, whose
// stdout may have a reader that comes back.
func (s *Streams) isMoving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	moving := false
	for c := range s.clients {
		moving = moving || c.isSelf || c.moved
		c.moved = false
	}
	return moving
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
		write: func(kind byte, data []byte) error { return writeFrame(conn, kind, data) },
		close: conn.Close,
	}
	s.serve(c)
	go func() {
		s.receive(conn, owns)
		s.leave(c)
	}()
}

// Tee makes this process a client, with these files.
func (s *Streams) Tee(out, err *os.File) {
	files := [...]*os.File{stdout: out, stderr: err}
	s.serve(&client{isSelf: true, close: func() error { return nil }, write: func(kind byte, data []byte) error {
		if kind == ended {
			return nil
		}
		_, err := files[kind].Write(data)
		return err
	}})
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
			_ = runtime.SetSize(s.terminal, size) // a terminal that is gone has none
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
