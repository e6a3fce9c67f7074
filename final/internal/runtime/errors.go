//go:build linux

package runtime

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Exit statuses for a command that did not run, as shells and docker have them.
const (
	StatusFailed        = 125 // it is our fault, or the container's
	StatusNotExecutable = 126
	StatusNotFound      = 127
)

// Error is why a command did not run, and the status to exit with.
type Error struct {
	Status int
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives errors.Is the cause, which is a unix.Errno where the kernel was asked.
func (e *Error) Unwrap() error { return e.Err }

// asError makes an Error of any error.
func asError(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	return &Error{Status: StatusFailed, Err: err}
}

// describe makes an error of what a child has reported. The child waits for us to do so: its
// root is the one place where the reason may be found.
func (l *launch) describe(message report, pid int) error {
	step, errno := l.steps[message.Step], unix.Errno(message.Errno)
	if step.number == unix.SYS_EXECVE {
		return l.explainExec(errno, pid)
	}
	if meaning, known := step.meanings[errno]; known {
		return fmt.Errorf("%s: %w", step.doing, explained{errno, meaning})
	}
	return fmt.Errorf("%s: %w", step.doing, errno)
}

// explained is an error of the kernel's in words of ours.
type explained struct {
	unix.Errno
	meaning string
}

func (e explained) Error() string { return e.meaning }
func (e explained) Unwrap() error { return e.Errno }

// explainExec says more about a file that is there and that execve(2) refused to run: the
// kernel's "no such file" may be about another file, and its "exec format error" has two causes.
func (l *launch) explainExec(errno unix.Errno, pid int) error {
	name := l.command.Args[0]
	failed := &Error{Status: StatusNotExecutable}
	if errno == unix.ENOENT || errno == unix.ENOTDIR {
		failed.Status = StatusNotFound
	}
	reason := error(errno)
	file, err := l.find(pid)
	switch {
	case err != nil && failed.Status == StatusNotFound && !strings.Contains(name, "/"):
		reason = exec.ErrNotFound
	case err == nil:
		defer file.Close()
		reason = explainFile(file, errno)
	}
	failed.Err = fmt.Errorf("running %q: %w", name, reason)
	return failed
}

// find opens the first candidate that is there, with the child's eyes.
func (l *launch) find(pid int) (*os.File, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for _, candidate := range l.command.candidates() {
		if !path.IsAbs(candidate) {
			candidate = path.Join("/", l.command.Dir, candidate)
		}
		if fd, err := unix.Openat2(int(root.Fd()), candidate, &how); err == nil {
			return os.NewFile(uintptr(fd), candidate), nil
		}
	}
	return nil, unix.ENOENT
}

func explainFile(file *os.File, errno unix.Errno) error {
	if info, err := file.Stat(); err == nil && info.IsDir() {
		return unix.EISDIR // which execve(2) calls a permission denied
	}
	if errno == unix.ENOENT {
		if interpreter := interpreterOf(file); interpreter != "" {
			return fmt.Errorf("it is run by %s, which is not in the image: %w", interpreter, errno)
		}
	}
	if errno == unix.ENOEXEC {
		if machine := machineOf(file); machine != "" {
			return fmt.Errorf("it is made for %s, and this machine is %s: %w", machine, runtime.GOARCH, errno)
		}
		return fmt.Errorf("it is neither a program nor a script that begins with #!: %w", errno)
	}
	return errno
}

// interpreterOf returns what runs the file: the loader of a dynamically linked program, or
// the first line's program of a script.
func interpreterOf(file *os.File) string {
	program, err := elf.NewFile(file)
	if err != nil {
		return shebangOf(file)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(segment.Open())
			if err != nil {
				return ""
			}
			return strings.TrimRight(string(loader), "\x00")
		}
	}
	return ""
}

func shebangOf(file *os.File) string {
	line, _ := bufio.NewReader(io.NewSectionReader(file, 0, 256)).ReadString('\n') // the end of the file ends a line too
	command, found := strings.CutPrefix(line, "#!")
	if fields := strings.Fields(command); found && len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// machineOf returns the processor that a program is made for, as in "aarch64".
func machineOf(file *os.File) string {
	program, err := elf.NewFile(file)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(program.Machine.String(), "EM_"))
}
