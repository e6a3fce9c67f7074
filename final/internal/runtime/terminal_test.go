//go:build linux

package runtime

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// newUserTerminal is what a user sits at: the test has the keyboard and the screen.
func newUserTerminal(t *testing.T) (user, screen *os.File) {
	t.Helper()
	pts, err := newDevpts()
	require.NoError(t, err)
	defer unix.Close(pts)
	l := &launch{command: &Command{}, files: make([]int, firstFD)}
	require.NoError(t, l.openTerminal(pts, "ptmx"))
	user = os.NewFile(uintptr(l.files[0]), "user's terminal")
	t.Cleanup(func() { user.Close(); l.terminal.Close() })
	return user, l.terminal
}

// expect reads from a terminal until it has shown the text.
func expect(t *testing.T, screen *bufio.Reader, text string) {
	t.Helper()
	seen := ""
	for !strings.Contains(seen, text) {
		b, err := screen.ReadByte()
		require.NoError(t, err, "wanted %q, seen %q", text, seen)
		seen += string(b)
	}
}

func resize(terminal *os.File) func(*unix.Winsize) error {
	return func(size *unix.Winsize) error { return SetSize(terminal, size) }
}

// attach starts a container with a terminal, attached to that of a user.
func attach(t *testing.T, spec *Spec) (keyboard *os.File, screen *bufio.Reader, size func(*unix.Winsize), result chan error, user *os.File) {
	t.Helper()
	user, master := newUserTerminal(t)
	require.NoError(t, SetSize(master, &unix.Winsize{Row: 33, Col: 77}))
	spec.Terminal = true
	spec.Size, _ = GetSize(user)
	process, _ := background(t, spec)
	ended := make(chan struct{})
	a := &Attachment{Terminal: process.Terminal, Resize: resize(process.Terminal), In: user, Out: user, DetachKeys: DetachKeys, Ended: ended, Signal: process.Signal}
	result = make(chan error, 1)
	go func() { result <- a.Run() }()
	t.Cleanup(func() { process.Terminal.Close() })
	return master, bufio.NewReader(master), func(size *unix.Winsize) {
		assert.NoError(t, SetSize(master, size))
		a.handle(unix.SIGWINCH) // our process does not have this terminal
	}, result, user
}

func termios(t *testing.T, file *os.File) unix.Termios {
	t.Helper()
	settings, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	require.NoError(t, err)
	return *settings
}

func TestTerminal(t *testing.T) {
	spec := newSpec(t, "sh", "-c", "stty size; tty; stat -c %u:%g:%a $(tty); readlink /proc/self/fd/0; test -c /dev/console && echo con >/dev/console; exec sh -i")
	spec.User.UID = 0
	keyboard, screen, resize, result, user := attach(t, spec)
	for _, text := range []string{"33 77\r\n", "/dev/pts/0\r\n", "0:5:620\r\n", "/dev/pts/0\r\n", "con\r\n", "# "} {
		expect(t, screen, text)
	}
	typed := func(s string) {
		_, err := keyboard.WriteString(s)
		require.NoError(t, err)
	}
	typed("stty size\r")
	expect(t, screen, "33 77\r\n")
	resize(&unix.Winsize{Row: 11, Col: 22})
	typed("stty size\r")
	expect(t, screen, "11 22\r\n")
	typed("sh -c 'echo con\"\"trol; exec cat'\r") // job control: cat is in the foreground, and ^C ends it alone
	expect(t, screen, "control\r\n")
	typed("\x03")
	expect(t, screen, "# ")
	typed("sh -c 'echo sle\"\"eping; exec sleep 1000'\r")
	expect(t, screen, "sleeping\r\n")
	typed("\x1a")
	expect(t, screen, "Stopped")
	typed("echo st''ill here\r")
	expect(t, screen, "still here\r\n")
	assert.Zero(t, termios(t, user).Lflag&unix.ECHO, "the user's terminal is raw")
	typed("exit\rexit\r")
	require.NoError(t, <-result)
	assert.NotZero(t, termios(t, user).Lflag&unix.ECHO, "and is restored")
}

func TestDetach(t *testing.T) {
	keyboard, screen, _, result, user := attach(t, newSpec(t, "sh", "-c", "echo ready; exec cat"))
	expect(t, screen, "ready")
	_, err := keyboard.WriteString("x\x10y\x10\x11")
	require.NoError(t, err)
	require.ErrorIs(t, <-result, ErrDetached)
	assert.NotZero(t, termios(t, user).Lflag&unix.ICANON)
}

func TestExecTerminal(t *testing.T) {
	_, target := background(t, newSpec(t, "sleep", "1000"))
	command := &Command{Args: []string{"sh", "-c", "tty; sleep 1000 & echo out; exit 4"}, Env: []string{"PATH=/bin"}, Terminal: true, User: User{UID: 9}}
	process, err := Exec(target, command)
	require.NoError(t, err)
	defer process.Terminal.Close()
	ended := make(chan struct{})
	status := 0
	go func() {
		status, _ = process.Wait()
		close(ended)
	}()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	a := &Attachment{Terminal: process.Terminal, Resize: resize(process.Terminal), Out: write, Ended: ended, Signal: process.Signal}
	require.NoError(t, a.Run(), "it does not wait for the sleep that still has the terminal")
	<-ended
	assert.Equal(t, 4, status)
	buffer := make([]byte, 100)
	n, err := read.Read(buffer)
	require.NoError(t, err)
	assert.Equal(t, "/dev/pts/0\r\nout\r\n", string(buffer[:n]))
}

func TestKeyFilter(t *testing.T) {
	for typed, want := range map[string]struct {
		through  string
		detached bool
	}{
		"abc": {"abc", false}, "a\x10": {"a", false}, "a\x10b": {"a\x10b", false},
		"\x10\x11x": {"", true}, "a\x10\x10\x11": {"a\x10", true}, "\x11\x10": {"\x11", false},
	} {
		for _, single := range []bool{false, true} {
			f := keyFilter{keys: DetachKeys}
			var got []byte
			detached := false
			chunks := []string{typed}
			if single {
				chunks = strings.Split(typed, "")
			}
			for _, chunk := range chunks {
				through, end := f.pass([]byte(chunk))
				got = append(got, through...)
				if detached = end; end {
					break
				}
			}
			assert.Equal(t, want.through, string(got), "%q", typed)
			assert.Equal(t, want.detached, detached, "%q", typed)
		}
	}
	through, _ := (&keyFilter{}).pass([]byte("\x10\x11"))
	assert.Equal(t, "\x10\x11", string(through), "without keys all goes through")
}

func TestIgnoreEnd(t *testing.T) {
	assert.NoError(t, ignoreEnd(unix.EIO))
	assert.Error(t, ignoreEnd(errors.New("other")))
}
