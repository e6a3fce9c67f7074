//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/shim"
)

func newLogsCommand() *cli.Command {
	var opts shim.LogOptions
	return &cli.Command{
		Name:      "logs",
		Usage:     "print what a container has written",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the container ends", Destination: &opts.Follow},
			&cli.StringFlag{Name: "tail", Aliases: []string{"n"}, Value: "all", Usage: "begin so many lines before the end", Destination: &opts.Tail},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "print when each line was written", Destination: &opts.Timestamps},
			&cli.StringFlag{Name: "since", Usage: "begin at a time, as in 2026-11-23T19:26:53Z, or so long ago, as in 10m", Destination: &opts.Since},
			&cli.StringFlag{Name: "until", Usage: "end at a time", Destination: &opts.Until},
		},
		Before: requireRoot,
		Action: needArgs(1, 1, func(_ context.Context, cmd *cli.Command) (err error) {
			now := time.Now()
			if opts.Since, err = shim.ParseTime(opts.Since, now); err != nil {
				return fmt.Errorf("invalid time for --since: %w", err)
			}
			if opts.Until, err = shim.ParseTime(opts.Until, now); err != nil {
				return fmt.Errorf("invalid time for --until: %w", err)
			}
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			_, err = os.Stat(c.LogPath())
			if errors.Is(err, fs.ErrNotExist) && c.State() == container.Created {
				return nil // it never ran
			}
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("container %s has no log: what it writes with --rm and without -d is its caller's", c.ShortID())
			}
			return shim.PrintLog(c.LogPath(), c.Dir(), opts)
		}),
	}
}
