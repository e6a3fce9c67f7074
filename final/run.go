//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/container"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
)

func newRunCommand() *cli.Command {
	go container.WarmUp() // while we read the command line
	var opts createOptions
	var detach bool
	flags := append(createFlags(&opts),
		&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait for the command: print the container's ID", Destination: &detach},
		helpFlag())
	return &cli.Command{
		Name:         "run",
		Usage:        "run a command in a new container",
		ArgsUsage:    "IMAGE [COMMAND] [ARG...]",
		StopOnNthArg: new(1),
		HideHelp:     true, // -h is --hostname
		Flags:        flags,
		Before:       requireRoot,
		Action: withHelp(needArgs(1, orMore, func(ctx context.Context, cmd *cli.Command) error {
			if opts.config.Terminal && !detach && opts.config.Interactive && !isTerminal(os.Stdin) {
				return errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
			}
			if detach || opts.config.Terminal {
				return runWithShim(ctx, cmd, &opts, detach)
			}
			return runHere(ctx, cmd, &opts)
		})),
	}
}

// runWithShim runs a container that has a shim: one in the background, or with a terminal, which
// may be detached.
func runWithShim(ctx context.Context, cmd *cli.Command, opts *createOptions, detach bool) error {
	c, err := create(ctx, cmd, opts)
	if err != nil {
		return runError(err)
	}
	if !detach {
		attached, err := startAndAttach(c)
		if err != nil {
			return runError(err)
		}
		return stayAttached(c, attached, stdinOf(c))
	}
	if err := startShim(c, nil); err != nil {
		return runError(orphaned(c, err))
	}
	fmt.Println(c.ID)
	return nil
}

// runHere runs a container for which this process waits. A signal that comes before it runs ends
// the attempt, and all others are for the container.
func runHere(ctx context.Context, cmd *cli.Command, opts *createOptions) error {
	ctx, signals := catchEarlySignals(ctx)
	c, err := create(ctx, cmd, opts)
	if err != nil {
		return runError(cmp.Or(context.Cause(ctx), err))
	}
	attendance := container.Attendance{Direct: c.Config.AutoRemove, Tee: !c.Config.AutoRemove, Signals: signals}
	if c.Config.Interactive {
		attendance.Stdin = os.Stdin
	}
	status, err := c.Run(attendance)
	return exitWith(status, err)
}

// interruption is the signal that has ended an attempt to run a container.
type interruption struct{ unix.Signal }

func (i interruption) Error() string { return "ended by a signal: " + i.String() }

// catchEarlySignals is catchSignals for a container that is to be made first. Until signals is
// called, a signal that asks us to end ends the context.
func catchEarlySignals(parent context.Context) (ctx context.Context, signals func() <-chan os.Signal) {
	ctx, end := context.WithCancelCause(parent)
	caught := aside(catchSignals)
	forContainer, runs := make(chan os.Signal, 16), make(chan bool)
	go func() {
		for sig := range caught() {
			select {
			case <-runs:
			default:
				if signal := sig.(unix.Signal); slices.Contains(endingSignals, signal) {
					end(interruption{signal})
					continue
				}
			}
			forContainer <- sig
		}
	}()
	return ctx, func() <-chan os.Signal {
		close(runs)
		return forContainer
	}
}

// endingSignals are those that ask a process to end.
var endingSignals = []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}

// aside has something done while we go on. What it returns waits for the result.
func aside[T any](do func() T) func() T {
	done := make(chan T, 1)
	go func() { done <- do() }()
	return func() T { return <-done }
}

// orphaned removes a container with --rm that has no shim to do so.
func orphaned(c *container.Container, err error) error {
	if c.Config.AutoRemove {
		return errors.Join(err, c.Remove(false, true))
	}
	return err
}

// catchSignals collects the signals that are meant for the command. That nobody reads what we
// print is no reason to end: it must not be the container's end.
func catchSignals() <-chan os.Signal {
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGALRM, unix.SIGCONT, unix.SIGTSTP, unix.SIGWINCH)
	go containerruntime.NotifyRealTime(signals) // it takes a tenth of an exec's time
	return signals
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
