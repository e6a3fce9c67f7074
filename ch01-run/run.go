//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	log "github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"
)

// runOptions is what the command line of run asks for.
type runOptions struct {
	interactive bool
	terminal    bool
	command     []string
}

func newRunCommand() *cli.Command {
	var opts runOptions
	return &cli.Command{
		Name:         "run",
		Usage:        "run a command in a new container",
		ArgsUsage:    "COMMAND [ARG...]",
		StopOnNthArg: new(1),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "give the command our standard input", Destination: &opts.interactive},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command our terminal", Destination: &opts.terminal},
		},
		Before: requireRoot,
		Action: func(_ context.Context, cmd *cli.Command) error {
			opts.command = cmd.Args().Slice()
			if len(opts.command) == 0 {
				return errors.New("run needs a command (see mydocker run --help)")
			}
			return runContainer(opts)
		},
	}
}

// runContainer is the life of a container: make what it needs, start it, wait, undo.
func runContainer(opts runOptions) (err error) {
	signals := catchSignals()

	init := newInit(opts)

	if err := giveStreams(opts, init); err != nil {
		return err
	}
	terminal, err := lendTerminal(opts, init)
	if err != nil {
		return err
	}
	defer undo(&err, terminal.takeBack)

	if err := init.Start(); err != nil {
		return fmt.Errorf("starting init: %w", err)
	}
	log.Debugf("init is process %d", init.Process.Pid)

	go forward(signals, init.Process)
	return waitFor(init)
}

// undo runs what takes back an earlier step. Its error does not hide one that is already on its way.
func undo(err *error, takeBack func() error) {
	if undoErr := takeBack(); undoErr != nil {
		*err = errors.Join(*err, undoErr)
	}
}

// newInit is the container's first process: this same program, as "mydocker init", in new
// namespaces. There it sets up its surroundings and then becomes the command.
func newInit(opts runOptions) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"init"}, opts.command...)...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = containerEnv(opts)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID |
			unix.CLONE_NEWNS |
			unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC |
			unix.CLONE_NEWNET |
			unix.CLONE_NEWCGROUP,
		// A process group of its own: ^C must not reach the command twice, once from the
		// terminal and once forwarded by us. Without -t also a session of its own, in which
		// /dev/tty is not our terminal.
		Setpgid: opts.terminal,
		Setsid:  !opts.terminal,
		// If we are killed, no container stays behind without a parent.
		Pdeathsig: unix.SIGKILL,
	}
	return cmd
}

// hostname is the name that every container has for itself.
const hostname = "mydocker"

// containerEnv is all of the command's environment: nothing of the host's may leak into it.
func containerEnv(opts runOptions) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + hostname,
		"HOME=/root",
	}
	if opts.terminal {
		env = append(env, "TERM=xterm")
	}
	return env
}

// catchSignals collects the signals that are meant for the command.
func catchSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	return signals
}

// forward passes signals on. As process 1 of its namespace the command gets only those that
// it has a handler for, and SIGKILL and SIGSTOP: see pid_namespaces(7).
func forward(signals <-chan os.Signal, process *os.Process) {
	for sig := range signals {
		if err := process.Signal(sig); err != nil {
			log.Debugf("forwarding %v: %v", sig, err)
		}
	}
}

// waitFor returns the command's exit status, as a shell would put it, in an exitError.
func waitFor(init *exec.Cmd) error {
	err := init.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return exitError{status: 128 + int(status.Signal())}
	}
	return exitError{status: status.ExitStatus()}
}
