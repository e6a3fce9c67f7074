//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/container"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
)

// Where a shim finds what it inherits: os/exec puts ExtraFiles behind stderr.
const (
	reportFD = 3 // to tell us that the container runs, or why not
	attachFD = 4 // to who is attached from the beginning, if somebody is
)

// shimReport is what a shim tells who has started it.
type shimReport struct {
	Status  int // to exit with, if the container does not run
	Message string
}

// startShim starts a shim for a container, which waits for it; we wait only until it runs.
func startShim(c *container.Container, attached *os.File) error {
	// What our caller left open must not stay open for as long as the container runs.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("marking all descriptors close-on-exec: %w", err)
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making the pipe to the shim: %w", err)
	}
	defer ours.Close()
	shim := again("shim", c.ID)
	shim.Env = append(shim.Env, "MYDOCKER_FAULT="+os.Getenv("MYDOCKER_FAULT"))
	shim.ExtraFiles = []*os.File{theirs}
	if attached != nil {
		shim.ExtraFiles = append(shim.ExtraFiles, attached)
		size := terminalSize()
		shim.Args = append(shim.Args, fmt.Sprintf("%dx%d", size.Row, size.Col)) // which tells it that somebody is attached, too
	}
	if !c.Config.Terminal {
		shim.Stderr = os.Stderr // until the container runs: a network may have something to say
	}
	err = startOutside(shim)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("starting the shim: %w", err)
	}
	var report shimReport
	if err := json.NewDecoder(ours).Decode(&report); err != nil {
		return fmt.Errorf("reading the shim's report: %w", err)
	}
	if report.Message != "" {
		return &containerruntime.Error{Status: report.Status, Err: errors.New(report.Message)}
	}
	return nil
}

// again returns a command that is this program once more, as the leader of a session of its own,
// which no terminal ends.
func again(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = "/" // so that no file system is kept busy
	cmd.Env = []string{
		"MYDOCKER_ROOT=" + stateDir(), "PATH=" + os.Getenv("PATH"),
		"GOMAXPROCS=1", // to wait takes no more threads
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// startOutside starts a process outside of our caller's cgroups. A thread of ours leaves them and
// forks, and ends then: to be moved would take the process longer than to start.
func startOutside(cmd *exec.Cmd) error {
	groups, err := cgroup.Outside()
	if err != nil {
		return err
	}
	defer groups.Close()
	if groups.Dir != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(groups.Dir.Fd())
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		for _, tasks := range groups.Tasks {
			_ = os.WriteFile(tasks, []byte("0"), 0) // a group that takes no more is no reason not to start
		}
		started <- cmd.Start()
	}()
	return <-started
}

// becomeLastToKill makes the shim the last process that the kernel takes when memory is short:
// without it no process would record the container's end. The container was started before, and
// keeps the score of our caller. See proc_pid_oom_score_adj(5).
func becomeLastToKill() {
	const file = "/proc/self/oom_score_adj"
	if os.WriteFile(file, []byte("-999"), 0) == nil {
		return
	}
	score, _ := os.ReadFile(file)
	if !bytes.HasPrefix(score, []byte("-")) {
		_ = os.WriteFile(file, []byte("0"), 0) // less takes CAP_SYS_RESOURCE
	}
}

// runShim is what a shim does. When the container runs nobody listens to it any more: what is to
// be known is recorded. Size is that of the terminal of the client that is attached from the
// beginning, as in 24x80, or empty if no client is.
func runShim(id, size string) error {
	pipe := os.NewFile(reportFD, "pipe")
	if info, err := pipe.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errors.New("shim is not for people: run, start and the like start it when a container needs one")
	}
	unix.CloseOnExec(reportFD)
	var conn *net.UnixConn
	terminal := &unix.Winsize{}
	if size != "" {
		var err error
		if conn, err = inheritConn(attachFD); err != nil {
			return err
		}
		if _, err := fmt.Sscanf(size, "%dx%d", &terminal.Row, &terminal.Col); err != nil {
			return fmt.Errorf("reading the terminal's size %q: %w", size, err)
		}
	}
	tell := func(report shimReport) {
		_ = json.NewEncoder(pipe).Encode(report) // if nobody reads it, nobody wants to know
		pipe.Close()
	}
	c, err := containers().Find(id)
	if err != nil { // removed meanwhile
		tell(shimReport{Status: statusRunFailed, Message: err.Error()})
		return nil //nolint:nilerr // it was told
	}
	reported := false
	_, err = c.Run(container.Attendance{
		Conn:    conn,
		Size:    terminal,
		Signals: aside(catchSignals),
		Started: func() {
			reported = true
			tell(shimReport{})
			leaveOutput()
			becomeLastToKill()
			shrink()
		},
	})
	if !reported && err != nil {
		exit := exitError{status: statusRunFailed}
		errors.As(runError(err), &exit)
		tell(shimReport{Status: exit.status, Message: err.Error()})
		return nil
	}
	return err
}

// inheritConn returns the connection that we have inherited.
func inheritConn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "attached")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("finding who is attached: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// leaveOutput lets go of our caller's stderr.
func leaveOutput() {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return // then it stays open
	}
	defer null.Close()
	_ = unix.Dup3(int(null.Fd()), 2, 0)
}
