//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
)

func newStartCommand() *cli.Command {
	var attach, interactive bool
	return &cli.Command{
		Name:      "start",
		Usage:     "start containers that do not run",
		ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "attach", Aliases: []string{"a"}, Usage: "print what it writes, and exit as it does", Destination: &attach},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "give it what we are given", Destination: &interactive},
		},
		Before: requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			if !attach && !interactive {
				return startAll(cmd)
			}
			if cmd.Args().Len() > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			return startAttached(c, interactive)
		}),
	}
}

func startAll(cmd *cli.Command) error {
	var failed []string
	err := each(cmd, func(given string) error {
		err := toContainer(given, start)
		if err != nil {
			failed = append(failed, given)
		}
		return err
	})
	if len(failed) > 0 {
		return errors.Join(err, fmt.Errorf("failed to start containers: %s", strings.Join(failed, ", ")))
	}
	return err
}

// start starts a container in the background. One that runs already is no error. One that has lost
// its shim is ended and started anew: nothing would record its end, or what it writes.
func start(c *container.Container) error {
	switch c.State() {
	case container.Paused:
		return errors.New("cannot start a paused container, try unpause instead")
	case container.Running:
		if c.HasShim() {
			return nil
		}
	}
	err := startShim(c, nil)
	if err != nil {
		if now, findErr := containers().Find(c.ID); findErr == nil && now.IsRunning() {
			return nil // somebody else was faster
		}
	}
	return err
}

// startAttached starts a container, and is attached to it: interactive also to what it reads.
func startAttached(c *container.Container, interactive bool) error {
	if c.IsRunning() {
		return attachTo(c)
	}
	attached, err := startAndAttach(c)
	if err != nil {
		return err
	}
	var in *os.File
	if interactive {
		in = stdinOf(c)
	}
	return stayAttached(c, attached, in)
}
