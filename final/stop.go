//go:build linux

package main

import (
	"cmp"
	"context"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/container"
)

// stopOptions is what the command lines of stop and restart have in common.
type stopOptions struct {
	signalName string
	timeout    int
}

func (o *stopOptions) flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Usage: "send this signal first", Destination: &o.signalName},
		&cli.IntFlag{Name: "time", Aliases: []string{"timeout", "t"}, Usage: "seconds after which to kill, -1 for never", Destination: &o.timeout},
	}
}

// stop stops a container as the command line says.
func (o *stopOptions) stop(cmd *cli.Command, c *container.Container) error {
	var signal *unix.Signal
	var timeout *int
	if o.signalName != "" {
		parsed, err := container.ParseSignal(o.signalName)
		if err != nil {
			return err
		}
		signal = &parsed
	}
	if cmd.IsSet("time") {
		timeout = &o.timeout
	}
	return c.Stop(signal, timeout)
}

// restart stops a container and starts it again, also one with --rm.
func (o *stopOptions) restart(cmd *cli.Command, c *container.Container) error {
	if err := c.Keep(); err != nil {
		return err
	}
	if err := o.stop(cmd, c); err != nil {
		return err
	}
	return startShim(c, nil)
}

func newStopCommand() *cli.Command {
	var opts stopOptions
	return &cli.Command{
		Name:      "stop",
		Usage:     "ask containers to end, and kill those that do not",
		ArgsUsage: "CONTAINER...",
		Flags:     opts.flags(),
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return eachContainer(cmd, func(c *container.Container) error { return opts.stop(cmd, c) })
		}),
	}
}

func newRestartCommand() *cli.Command {
	var opts stopOptions
	return &cli.Command{
		Name:      "restart",
		Usage:     "stop containers, and start them again",
		ArgsUsage: "CONTAINER...",
		Flags:     opts.flags(),
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return each(cmd, func(given string) error {
				return toContainer(given, func(c *container.Container) error { return opts.restart(cmd, c) })
			})
		}),
	}
}

func newKillCommand() *cli.Command {
	var signalName string
	return &cli.Command{
		Name:      "kill",
		Usage:     "send containers a signal, SIGKILL unless told otherwise",
		ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Value: "KILL", Usage: "the signal", Destination: &signalName},
		},
		Before: requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			signal, err := container.ParseSignal(cmp.Or(signalName, "KILL"))
			if err != nil {
				return err
			}
			return eachContainer(cmd, func(c *container.Container) error { return c.Kill(signal) })
		}),
	}
}
