//go:build linux

package main

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/oci"
)

func newCommitCommand() *cli.Command {
	var opts image.CommitOptions
	var noPause bool
	return &cli.Command{
		Name:         "commit",
		Usage:        "make an image of a container: of its image's layers, and its changes",
		ArgsUsage:    "CONTAINER [NAME[:TAG]]",
		StopOnNthArg: new(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "who made it", Destination: &opts.Author},
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "what history says of it", Destination: &opts.Message},
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: `change the image's config, as in 'CMD ["sh"]'`},
			&cli.BoolFlag{Name: "no-pause", Usage: "let the container go on meanwhile", Destination: &noPause},
		},
		Before: requireRoot,
		Action: needArgs(1, 2, func(ctx context.Context, cmd *cli.Command) (err error) {
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			store := images()
			opts.Ref, opts.Changes = cmd.Args().Get(1), cmd.StringSlice("change")
			opts.Upper, opts.Without = c.Upper(), path.Dir(network.HostsInLayer)
			opts.CreatedBy = strings.Join(c.Command, " ")
			if opts.Parent, err = store.FromConfig(c.ImageConfig); err != nil {
				return err
			}
			opts.Config = configOf(c, opts.Parent.Config.Config)
			ctx, stop := interruptible(ctx)
			defer stop()
			commit := func() error {
				img, err := store.Commit(ctx, opts)
				if err != nil {
					return err
				}
				fmt.Println(img.ID)
				return nil
			}
			if c.State() != container.Running || noPause {
				return commit()
			}
			return whileFrozen(c, commit)
		}),
	}
}

// configOf is the image's config with what the container was made with in its place.
func configOf(c *container.Container, config oci.ImageConfig) oci.ImageConfig {
	config.Entrypoint, config.Cmd = oci.CommandLine(c.Config.Entrypoint), oci.CommandLine(c.Command[len(c.Config.Entrypoint):])
	config.Env = c.Config.Env
	config.WorkingDir, config.User = c.Config.Dir, c.Config.User
	config.StopSignal, config.Labels = c.Config.StopSignal, c.Config.Labels
	config.ExposedPorts, config.Volumes = map[string]struct{}{}, map[string]struct{}{}
	for _, port := range c.Config.Exposed {
		config.ExposedPorts[port] = struct{}{}
	}
	for _, port := range c.Config.Ports {
		config.ExposedPorts[port.Private()] = struct{}{}
	}
	for _, mount := range c.Config.Mounts {
		if mount.Anonymous {
			config.Volumes[mount.Target] = struct{}{}
		}
	}
	return config
}
