//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// shimReport is what a shim tells the command line that started it.
type shimReport struct {
	ID      string // of the container that runs now
	Status  int    // or what to exit with, if it does not
	Message string // and why
}

// startShim starts a shim: this program once more, with the same command line, but as the
// leader of a session of its own, which no terminal ends. The shim is the parent that waits
// for the container. We wait only until the command runs, or cannot.
func startShim() error {
	root, err := filepath.Abs(stateDir())
	if err != nil {
		return fmt.Errorf("starting the shim: %w", err)
	}
	ours, theirs, err := newPipe()
	if err != nil {
		return fmt.Errorf("making the pipe to the shim: %w", err)
	}
	shim := exec.Command("/proc/self/exe", append([]string{"--shim"}, os.Args[1:]...)...)
	shim.Args[0] = os.Args[0]
	// To wait takes no more of Go's threads than one processor has.
	shim.Env = append(os.Environ(), "MYDOCKER_ROOT="+root, "GOMAXPROCS=1")
	shim.ExtraFiles = []*os.File{theirs}
	shim.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = shim.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("starting the shim: %w", err)
	}
	var report shimReport
	if err := readFrame(ours, &report); err != nil {
		return fmt.Errorf("reading the shim's report: %w", err)
	}
	if report.Message != "" {
		return exitError{status: report.Status, err: errors.New(report.Message)}
	}
	fmt.Println(report.ID)
	return nil
}

// runShim is what a shim does: it runs the container, and reports when the command runs, or
// why it does not. After that nobody listens to it any more: what is to be known is recorded.
func runShim(opts runOptions) error {
	pipe := os.NewFile(pipeFD, "pipe")
	if err := os.Chdir("/"); err != nil { // so that no file system is kept busy
		return err
	}
	reported := false
	err := runContainer(opts, func(id string) error {
		reported = true
		if err := errors.Join(writeFrame(pipe, shimReport{ID: id}), pipe.Close()); err != nil {
			return err
		}
		if err := shrink(); err != nil {
			log.Debug(err) // then we stay as large as we are
		}
		return nil
	})
	if reported || err == nil {
		return err
	}
	exit := exitError{status: statusFailed}
	errors.As(err, &exit)
	return writeFrame(pipe, shimReport{Status: exit.status, Message: err.Error()})
}

// shrink gives back the memory that is not needed by a process which only waits: what is left
// on the heap of the start, and of the program itself what is as it is in its file. The kernel
// reads that again, page by page, when it is wanted: see MADV_DONTNEED in madvise(2).
func shrink() error {
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("reading our memory map: %w", err)
	}
	unchanged := unchangedMappings(string(maps))
	debug.FreeOSMemory()
	for _, m := range unchanged {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("giving back memory: %w", errno)
		}
	}
	return nil
}

type mapping struct{ start, end uintptr }

// unchangedMappings finds in a /proc/PID/smaps what is mapped from a file, cannot be written
// to, and was not before either: the linker makes some of its work read-only when it is done
// with it, and that is in no file. See proc_pid_smaps(5).
func unchangedMappings(maps string) []mapping {
	var unchanged []mapping
	var current mapping
	var readOnly, ofFile bool
	for line := range strings.Lines(maps) {
		var m mapping
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &m.start, &m.end, &mode); err == nil {
			current, readOnly, ofFile = m, strings.HasPrefix(mode, "r-"), strings.Contains(line, "/")
		}
		if readOnly && ofFile && slices.Equal(strings.Fields(line), []string{"Anonymous:", "0", "kB"}) {
			unchanged = append(unchanged, current)
		}
	}
	return unchanged
}
