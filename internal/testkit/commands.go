//go:build linux

package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are the script commands of doc.go.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"status": positive("status N COMMAND...", cmdStatus),
	"start":  positive("start [-tty] NAME COMMAND...", cmdStart),
	"send":   positive("send NAME TEXT", cmdSend),
	"until":  positive("until NAME REGEXP", cmdUntil),
	"signal": positive("signal [-init] NAME SIGNAL", cmdSignal),
	"end":    positive("end NAME STATUS", cmdEnd),
}

// patience is how long a script waits for something that should happen at once.
const patience = 20 * time.Second

// positive makes a script command of one that has no use for "!", and for less than two arguments.
func positive(usage string, command func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: %s", usage)
		}
		command(ts, args)
	}
}

func cmdStatus(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if got := exitCode(err); got != want {
		ts.Fatalf("exit status is %d, not %d", got, want)
	}
}

// exitCode is the status as a shell has it.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	if status := exit.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

type (
	processesKey struct{}
	processes    map[string]*process
)

// process is a command in the background.
type process struct {
	cmd   *exec.Cmd
	input io.WriteCloser
	ended chan error

	mu     sync.Mutex
	output bytes.Buffer
	seen   int // how much of output the last until has looked at
}

func (p *process) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(data)
}

func find(ts *testscript.TestScript, name string) *process {
	p := ts.Value(processesKey{}).(processes)[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func cmdStart(ts *testscript.TestScript, args []string) {
	tty := args[0] == "-tty"
	if tty {
		args = args[1:]
	}
	path, err := lookPath(ts.Getenv("PATH"), args[1])
	ts.Check(err)
	p := &process{cmd: exec.Command(path, args[2:]...), ended: make(chan error, 1)}
	p.cmd.Args[0] = args[1]
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "WORK", "STATE", "IMAGE", "MYDOCKER_ROOT"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	if tty {
		ts.Check(p.startOnTerminal())
	} else {
		ts.Check(p.startOnPipes())
	}
	ts.Value(processesKey{}).(processes)[args[0]] = p
	ts.Defer(func() {
		_ = p.cmd.Process.Kill() // it has ended, unless the script failed
		p.input.Close()
	})
}

func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in %s", name, path)
}

func (p *process) startOnPipes() (err error) {
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// Our children must not keep us waiting for the end of their output.
	p.cmd.WaitDelay = time.Second
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return nil
}

func (p *process) startOnTerminal() error {
	terminal, err := pty.StartWithAttrs(p.cmd, &pty.Winsize{Rows: 24, Cols: 132}, &syscall.SysProcAttr{Setsid: true, Setctty: true})
	if err != nil {
		return err
	}
	p.input = terminal
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(p, terminal) // ends with EIO when the last user of the terminal is gone
	}()
	go func() {
		err := p.cmd.Wait()
		<-copied
		p.ended <- err
	}()
	return nil
}

func cmdSend(ts *testscript.TestScript, args []string) {
	text := strings.NewReplacer("^C", "\x03", "^D", "\x04", "^P", "\x10", "^Q", "\x11", "^Z", "\x1a").Replace(args[1])
	if text == args[1] {
		text += "\n"
	}
	_, err := io.WriteString(find(ts, args[0]).input, text)
	ts.Check(err)
}

func cmdUntil(ts *testscript.TestScript, args []string) {
	p := find(ts, args[0])
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	deadline := time.Now().Add(patience)
	for !p.saw(pattern) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s never printed %q, but\n%s", args[0], args[1], p.output.String())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (p *process) saw(pattern *regexp.Regexp) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	match := pattern.FindIndex(p.output.Bytes()[p.seen:])
	if match == nil {
		return false
	}
	p.seen += match[1]
	return true
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	toInit := args[0] == "-init"
	if toInit {
		args = args[1:]
	}
	pid := find(ts, args[0]).cmd.Process.Pid
	if toInit {
		pid = childOf(ts, pid)
	}
	sig := unix.SignalNum("SIG" + args[1])
	if sig == 0 {
		ts.Fatalf("no such signal: %s", args[1])
	}
	ts.Check(unix.Kill(pid, sig))
}

// childOf returns the one child of a process.
func childOf(ts *testscript.TestScript, parent int) int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	ts.Check(err)
	for _, file := range stats {
		if stat, err := readStat(file); err == nil && stat.parent == parent {
			return stat.pid
		}
	}
	ts.Fatalf("process %d has no child", parent)
	return 0
}

type procStat struct {
	pid, parent int
	name        string // with (Z) behind it for a zombie
}

// readStat reads a /proc/PID/stat: see proc_pid_stat(5).
func readStat(file string) (stat procStat, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return stat, err
	}
	// The name is in parentheses, and may hold some itself.
	first, last := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	stat.name = string(data[first+1 : last])
	var state string
	if _, err := fmt.Sscan(string(data[last+1:]), &state, &stat.parent); err != nil {
		return stat, err
	}
	if state == "Z" {
		stat.name += " (Z)"
	}
	stat.pid, err = strconv.Atoi(strings.TrimSpace(string(data[:first])))
	return stat, err
}

func cmdEnd(ts *testscript.TestScript, args []string) {
	p := find(ts, args[0])
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	select {
	case err = <-p.ended:
	case <-time.After(patience):
		ts.Fatalf("%s does not end; it has printed\n%s", args[0], p.output.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".out"), p.output.Bytes(), 0o600))
	if got := exitCode(err); got != want {
		ts.Fatalf("%s has ended with status %d, not %d, and printed\n%s", args[0], got, want, p.output.String())
	}
}

// hold takes the lock on a file, says so, and keeps it until it is killed.
func hold() {
	file, err := os.Open(os.Args[1])
	fatal(err)
	fatal(unix.Flock(int(file.Fd()), unix.LOCK_EX))
	fmt.Println("held")
	time.Sleep(time.Hour)
}
