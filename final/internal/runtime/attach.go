//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDetached is why an attachment ended before its command: the user has typed the keys for it.
var ErrDetached = errors.New("detached")

// DetachKeys are docker's: ctrl-p, ctrl-q.
var DetachKeys = []byte{'p' & 0x1f, 'q' & 0x1f}

// Terminal is a command's terminal as we see it: Process.Terminal, or somebody who has that.
type Terminal interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Attachment connects a user's terminal with that of a command in a container.
type Attachment struct {
	Terminal   Terminal
	Resize     func(*unix.Winsize) error // is told the size of the user's, in characters
	In, Out    *os.File                  // the user's; In may be nil
	DetachKeys []byte                    // that end the attachment; empty for none
	Ended      <-chan struct{}           // is closed when the command has ended, others may still have its terminal
	Signal     func(unix.Signal) error   // gets the signals that would otherwise end us
}

// Run returns when the command has ended and all that it has written is out, or with ErrDetached.
// Meanwhile the user's terminal is raw: what is typed goes to the command's, which gives ^C and
// the like their meaning. On every way out the user's is as it was. A signal would be a way past
// that, so signals are passed on to the command, whose end is ours.
func (a *Attachment) Run() (err error) {
	settings, err := makeRaw(a.In)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, settings.restore()) }()

	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	NotifyRealTime(signals)
	defer signal.Stop(signals)
	signals <- unix.SIGWINCH // the size is also news at the beginning

	stop, stopped, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("attaching to the container: %w", err)
	}
	defer stop.Close()
	input, output := make(chan error, 1), make(chan error, 1)
	go func() { output <- a.copyOutput() }()
	go func() { input <- a.copyInput(stop); close(input) }()
	defer a.endInput(stopped, input)

	ended, typing := a.Ended, input
	for {
		select {
		case s := <-signals:
			a.handle(s.(unix.Signal))
		case err := <-typing:
			if typing = nil; err != nil {
				return errors.Join(err, a.stopOutput(output))
			}
		case <-ended:
			ended = nil
			_ = a.Terminal.SetReadDeadline(time.Now()) // fails if it is closed: then copyOutput sees that itself
		case err := <-output:
			return err
		}
	}
}

// stopOutput has copyOutput end, and write what there is until then.
func (a *Attachment) stopOutput(output <-chan error) error {
	_ = a.Terminal.SetReadDeadline(time.Now()) // see Run
	return <-output
}

// endInput returns when copyInput does not read what is typed any more, nor write to a command
// that does not read it.
func (a *Attachment) endInput(stopped io.Closer, input <-chan error) {
	stopped.Close()
	_ = a.Terminal.SetWriteDeadline(time.Now()) // see Run
	for range input {
	}
	_ = a.Terminal.SetWriteDeadline(time.Time{})
}

func (a *Attachment) handle(s unix.Signal) {
	if s != unix.SIGWINCH {
		_ = a.Signal(s) // the command may just have ended
		return
	}
	if size, err := GetSize(a.In, a.Out); err == nil {
		_ = a.Resize(size) // it is not worth ending for
	}
}

// FirstRealTime and LastRealTime are the real-time signals that C libraries leave to programs: they
// keep two below for themselves. See signal(7).
const (
	FirstRealTime = unix.Signal(34)
	LastRealTime  = unix.Signal(64)
)

// NotifyRealTime sends real-time signals to the channel, but for the first: Go's runtime ignores it,
// and package os/signal cannot change that.
func NotifyRealTime(signals chan<- os.Signal) {
	for realTime := FirstRealTime + 1; realTime <= LastRealTime; realTime++ {
		signal.Notify(signals, realTime)
	}
}

// copyInput returns nil at the end of the input, or if stop ends. It reads nothing after that:
// what is typed then is for whoever reads the user's terminal next.
func (a *Attachment) copyInput(stop *os.File) error {
	if a.In == nil {
		return nil
	}
	filter := keyFilter{keys: a.DetachKeys}
	fds := []unix.PollFd{{Fd: int32(stop.Fd()), Events: unix.POLLIN}, {Fd: int32(a.In.Fd()), Events: unix.POLLIN}}
	buffer := make([]byte, 4096)
	for {
		if _, err := unix.Poll(fds, -1); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return fmt.Errorf("waiting for input: %w", err)
		}
		if fds[0].Revents != 0 {
			return nil
		}
		n, err := a.In.Read(buffer)
		if err != nil {
			return nil //nolint:nilerr // io.EOF, or EIO from a terminal that is gone: nobody types any more
		}
		typed, detached := filter.pass(buffer[:n])
		if _, err := a.Terminal.Write(typed); err != nil {
			return nil //nolint:nilerr // nobody reads it any more
		}
		if detached {
			return ErrDetached
		}
	}
}

// copyOutput returns nil when nobody has the command's terminal any more, which read(2) tells by
// EIO, or at its read deadline: then what is left is copied, as far as it is there.
func (a *Attachment) copyOutput() error {
	buffer := make([]byte, 32*1024)
	for {
		n, err := a.Terminal.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return a.drain(buffer)
		}
		if err != nil {
			return ignoreEnd(err)
		}
		if _, err := a.Out.Write(buffer[:n]); err != nil {
			return fmt.Errorf("writing the container's output: %w", err)
		}
	}
}

// drain reads without waiting, and more than a terminal holds: processes that are left may write on.
func (a *Attachment) drain(buffer []byte) error {
	if err := a.Terminal.SetReadDeadline(time.Time{}); err != nil {
		return ignoreEnd(err)
	}
	file, ok := a.Terminal.(*os.File)
	if !ok {
		return nil
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return ignoreEnd(err)
	}
	for range 8 {
		n, readErr := 0, error(nil)
		err := conn.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buffer)
			return true
		})
		if err != nil || readErr != nil || n == 0 {
			return ignoreEnd(errors.Join(err, readErr))
		}
		if _, err := a.Out.Write(buffer[:n]); err != nil {
			return fmt.Errorf("writing the container's output: %w", err)
		}
	}
	return nil
}

// ignoreEnd forgives what only means that there is no more to read.
func ignoreEnd(err error) error {
	for _, end := range []error{unix.EIO, unix.EAGAIN, io.EOF, os.ErrClosed} {
		if errors.Is(err, end) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("reading the container's output: %w", err)
	}
	return nil
}

// keyFilter lets through what is typed, but for the keys that detach.
type keyFilter struct {
	keys    []byte
	matched int // of them, so far: kept back until it is clear what they mean
}

func (f *keyFilter) pass(typed []byte) (through []byte, detached bool) {
	if len(f.keys) == 0 {
		return typed, false
	}
	for _, key := range typed {
		if key != f.keys[f.matched] {
			through = append(through, f.keys[:f.matched]...)
			f.matched = 0
		}
		if key != f.keys[f.matched] {
			through = append(through, key)
			continue
		}
		if f.matched++; f.matched == len(f.keys) {
			f.matched = 0
			return through, true
		}
	}
	return through, false
}

// settings are those of a user's terminal, as they were.
type settings struct {
	fd      int
	termios *unix.Termios
}

// makeRaw has a terminal hand on what is typed as it is, at once and without an echo. See "raw
// mode" in termios(3). For a file that is no terminal, or nil, it does nothing and returns nil.
func makeRaw(file *os.File) (*settings, error) {
	if file == nil {
		return nil, nil
	}
	fd := int(file.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, nil //nolint:nilerr // it is no terminal
	}
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("making the terminal raw: %w", err)
	}
	return &settings{fd: fd, termios: before}, nil
}

func (s *settings) restore() error {
	if s == nil {
		return nil
	}
	err := unix.IoctlSetTermios(s.fd, unix.TCSETS, s.termios)
	if err != nil && !errors.Is(err, unix.EIO) { // which means that the terminal is gone
		return fmt.Errorf("restoring the terminal's settings: %w", err)
	}
	return nil
}

// SetSize tells a command's terminal how large the user's is, in characters. The kernel tells the
// command by SIGWINCH if that is news.
func SetSize(terminal *os.File, size *unix.Winsize) error {
	conn, err := terminal.SyscallConn() // Fd would make it blocking
	if err != nil {
		return fmt.Errorf("setting the terminal's size: %w", err)
	}
	var setErr error
	if err := conn.Control(func(fd uintptr) {
		setErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size)
	}); err != nil {
		return fmt.Errorf("setting the terminal's size: %w", err)
	}
	return setErr
}

// GetSize returns how large a user's terminal is, in characters: the first terminal among files, of
// which some may be nil. It fails if there is none.
func GetSize(files ...*os.File) (*unix.Winsize, error) {
	for _, file := range files {
		if file == nil {
			continue
		}
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil {
			return size, nil
		}
	}
	return nil, os.ErrInvalid
}
