//go:build linux

package main

import (
	"context"
	"errors"
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
	limits      limits
	volumes     []volume
	image       string
	command     []string
}

func newRunCommand() *cli.Command {
	var opts runOptions
	return &cli.Command{
		Name:         "run",
		Usage:        "run a command in a new container",
		ArgsUsage:    "IMAGE COMMAND [ARG...]",
		StopOnNthArg: new(1),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "give the command our standard input", Destination: &opts.interactive},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command our terminal", Destination: &opts.terminal},
			memoryFlag(&opts.limits.memory),
			&cli.Float64Flag{Name: "cpus", Usage: "limit processor time, as in 1.5 for one and a half processors' worth", Destination: &opts.limits.cpus},
			percentFlag(&opts.limits.cpus),
			&cli.StringFlag{Name: "cpuset-cpus", Aliases: []string{"cpuset"}, Usage: "run on these processors only, as in 0-2,4", Destination: &opts.limits.cpuset},
			&cli.Int64Flag{Name: "pids-limit", Usage: "limit the number of processes and threads", Destination: &opts.limits.pids},
			&cli.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "show the host's SRC in the container, as in SRC:DST or SRC:DST:ro"},
		},
		Before: requireRoot,
		Action: func(_ context.Context, cmd *cli.Command) error {
			opts.image = cmd.Args().First()
			opts.command = cmd.Args().Tail()
			if len(opts.command) == 0 {
				return errors.New("run needs an image and a command (see mydocker run --help)")
			}
			if err := opts.limits.check(); err != nil {
				return err
			}
			volumes, err := parseVolumes(cmd.StringSlice("volume"))
			if err != nil {
				return err
			}
			opts.volumes = volumes
			return runContainer(opts)
		},
	}
}

// runContainer is the life of a container: make what it needs, start it, wait, undo.
func runContainer(opts runOptions) (err error) {
	image, err := openImage(opts.image)
	if err != nil {
		return err
	}
	if err := makeSources(opts.volumes); err != nil {
		return err
	}

	signals := catchSignals()

	id := newID()

	overlay, err := newOverlay(id, image)
	if err != nil {
		return err
	}
	defer undo(&err, overlay.remove)

	init := newInit(opts, id)
	config := initConfig{
		Hostname: shortID(id),
		Overlay:  overlay,
		Volumes:  opts.volumes,
		Console:  findConsole(opts.terminal),
		Command:  opts.command,
	}

	cgroup, err := newCgroup(id, opts.limits)
	if err != nil {
		return err
	}
	defer undo(&err, cgroup.remove)
	if err := cgroup.admit(init, &config); err != nil {
		return err
	}

	if err := giveStreams(opts, init); err != nil {
		return err
	}
	terminal, err := lendTerminal(opts, init)
	if err != nil {
		return err
	}
	defer undo(&err, terminal.takeBack)

	if err := startInit(init, config); err != nil {
		return err
	}
	log.Debugf("init is process %d", init.Process.Pid)

	go forward(signals, init.Process)
	return explainOOM(waitFor(init), cgroup)
}

// undo runs what takes back an earlier step. Its error does not hide one that is already on its way.
func undo(err *error, takeBack func() error) {
	if undoErr := takeBack(); undoErr != nil {
		*err = errors.Join(*err, undoErr)
	}
}

// undoOnError is undo for what is to stay if all goes well.
func undoOnError(err *error, takeBack func() error) {
	if *err != nil {
		undo(err, takeBack)
	}
}

// newInit is the container's first process: this same program, as "mydocker init", in new
// namespaces. There it sets up its surroundings and then becomes the command.
func newInit(opts runOptions, id string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.Args[0] = os.Args[0]
	cmd.Env = containerEnv(opts, id)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID |
			unix.CLONE_NEWNS |
			unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC |
			unix.CLONE_NEWNET,
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

// containerEnv is all of the command's environment: nothing of the host's may leak into it.
func containerEnv(opts runOptions, id string) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + shortID(id),
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
