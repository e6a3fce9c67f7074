//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/container"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
	"github.com/lixd/mydocker/final/internal/shim"
)

// execOptions is what the command line of exec asks for.
type execOptions struct {
	interactive bool
	terminal    bool
	detach      bool
	dir         string
	user        string
	env         []string
}

func newExecCommand() *cli.Command {
	var opts execOptions
	return &cli.Command{
		Name:         "exec",
		Usage:        "run a command in a container that runs",
		ArgsUsage:    "CONTAINER COMMAND [ARG...]",
		StopOnNthArg: new(1),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "give the command our standard input", Destination: &opts.interactive},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal", Destination: &opts.terminal},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait for the command", Destination: &opts.detach},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set a variable of the environment, as in K=V, or pass on our K"},
			&cli.StringSliceFlag{Name: "env-file", Usage: "read variables from a file, one a line"},
			&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "begin in this directory", Destination: &opts.dir},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "run as NAME, UID, NAME:GROUP or UID:GID", Destination: &opts.user},
		},
		Before: requireRoot,
		Action: needArgs(2, orMore, func(_ context.Context, cmd *cli.Command) (err error) {
			if opts.terminal && opts.interactive && !opts.detach && !isTerminal(os.Stdin) {
				return errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
			}
			if opts.env, err = parseEnv(cmd.StringSlice("env-file"), cmd.StringSlice("env")); err != nil {
				return err
			}
			signals := aside(catchSignals)
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			return opts.execute(c, cmd.Args().Tail(), signals())
		}),
	}
}

// execute runs a command in the container, with what it was configured with unless we say otherwise.
// It gets our signals.
func (o *execOptions) execute(c *container.Container, args []string, signals <-chan os.Signal) error {
	user, home, err := c.FindUser(cmp.Or(o.user, c.Config.User))
	if err != nil && c.IsRunning() {
		return exitError{status: containerruntime.StatusNotExecutable, err: err}
	}
	if err != nil {
		return err
	}
	command := &containerruntime.Command{
		Args: args, Dir: cmp.Or(o.dir, c.Config.Dir), User: user, Terminal: o.terminal, Size: terminalSize(),
		Env:      c.ExecEnv(home, o.terminal, o.env),
		Outlives: o.detach,
	}
	relay, err := o.relay(command)
	if err != nil {
		return err
	}
	process, err := c.Exec(command)
	if err != nil {
		return execError(err)
	}
	if o.detach {
		return nil
	}
	if o.terminal {
		return execAttached(c, process, o.interactive)
	}
	go func() {
		for sig := range signals {
			_ = passSignal(c, process, sig.(unix.Signal)) // it may just have ended
		}
	}()
	status, waitErr := process.Wait()
	status, err = relay.Finish(status)
	return exitWith(status, errors.Join(waitErr, err))
}

// relay gives the command our standard files, or what stands for them.
func (o *execOptions) relay(command *containerruntime.Command) (*shim.Relay, error) {
	if o.detach || o.terminal {
		return nil, nil
	}
	var stdin *os.File
	if o.interactive {
		stdin = os.Stdin
	}
	relay, err := shim.NewRelay(command.User, stdin, os.Stdout, os.Stderr)
	if err != nil {
		return nil, err
	}
	command.Stdin, command.Stdout, command.Stderr = relay.Stdin, relay.Stdout, relay.Stderr
	return relay, nil
}

// execError gives an error of the command the exit status that docker gives it: 127 for a command
// that is not found, and 126 for all else that happens in the container. All others exit with 1.
func execError(err error) error {
	var started *containerruntime.Error
	if errors.Is(err, containerruntime.ErrNotRunning) || !errors.As(err, &started) {
		return err
	}
	if started.Status == containerruntime.StatusFailed {
		return exitError{status: containerruntime.StatusNotExecutable, err: err}
	}
	return exitError{status: started.Status, err: err}
}

// passSignal sends a signal to a command of exec's. In a paused container the command cannot handle
// it, so that one which would end the command kills it, and us with it.
func passSignal(c *container.Container, process *containerruntime.Process, signal unix.Signal) error {
	if slices.Contains(endingSignals, signal) && c.State() == container.Paused {
		process.Abandon()
		return nil
	}
	return process.Signal(signal)
}

// execAttached is our end of a command's terminal.
func execAttached(c *container.Container, process *containerruntime.Process, interactive bool) error {
	ended := make(chan struct{})
	status, waitErr := 0, error(nil)
	go func() {
		defer close(ended)
		status, waitErr = process.Wait()
	}()
	attachment := &containerruntime.Attachment{
		Terminal: process.Terminal, Out: os.Stdout,
		Resize:     func(size *unix.Winsize) error { return containerruntime.SetSize(process.Terminal, size) },
		DetachKeys: containerruntime.DetachKeys, Ended: ended,
		Signal: func(signal unix.Signal) error { return passSignal(c, process, signal) },
	}
	if interactive {
		attachment.In = os.Stdin
	}
	err := attachment.Run()
	if errors.Is(err, containerruntime.ErrDetached) {
		return nil
	}
	<-ended
	return exitWith(status, errors.Join(err, waitErr))
}
