//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
)

func newVolumeCommand() *cli.Command {
	var quiet, force bool
	return &cli.Command{
		Name:            "volume",
		Usage:           "make, list and remove volumes",
		HideHelpCommand: true,
		Before:          requireRoot,
		Action:          helpOnly,
		Commands: []*cli.Command{{
			Name:      "create",
			Usage:     "make a volume, and print its name",
			ArgsUsage: "[NAME]",
			Action: func(_ context.Context, cmd *cli.Command) error {
				v, err := containers().MakeVolume(cmp.Or(cmd.Args().First(), container.NewID()))
				if err == nil {
					fmt.Println(v.Name)
				}
				return err
			},
		}, {
			Name:    "ls",
			Aliases: []string{"list"},
			Usage:   "list the volumes",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print names only", Destination: &quiet},
			},
			Action: needArgs(0, 0, func(context.Context, *cli.Command) error {
				volumes, err := containers().Volumes()
				table := [][]string{{"DRIVER", "VOLUME NAME"}}
				for _, v := range volumes {
					if quiet {
						fmt.Println(v.Name)
					}
					table = append(table, []string{"local", v.Name})
				}
				if quiet {
					return err
				}
				return errors.Join(err, printTable(table))
			}),
		}, {
			Name:      "rm",
			Aliases:   []string{"remove"},
			Usage:     "remove volumes that no container has",
			ArgsUsage: "NAME...",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "that one is not there is no error", Destination: &force},
			},
			Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
				return each(cmd, func(name string) error {
					if _, err := containers().FindVolume(name); err != nil && force {
						return nil
					}
					err := removeVolume(name)
					if err == nil {
						fmt.Println(name)
					}
					return err
				})
			}),
		}, {
			Name:      "inspect",
			Usage:     "print what is known about volumes",
			ArgsUsage: "NAME...",
			Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
				found := []any{}
				err := each(cmd, func(name string) error {
					v, err := containers().FindVolume(name)
					if err == nil {
						found = append(found, describeVolume(v))
					}
					return err
				})
				return errors.Join(printJSON(found), err)
			}),
		}, {
			Name:  "prune",
			Usage: "remove the volumes that were made for containers that are gone",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask", Destination: &force},
			},
			Action: needArgs(0, 0, func(context.Context, *cli.Command) error { return pruneVolumes(force) }),
		}},
	}
}

func removeVolume(name string) error {
	store := containers()
	if _, err := store.FindVolume(name); err != nil {
		return err
	}
	users, err := store.VolumeUsers(name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	return store.RemoveVolume(name)
}

// pruneVolumes removes those whose names are IDs: a name that somebody has given is a reason to keep one.
func pruneVolumes(force bool) error {
	if !force && !confirm("WARNING! This will remove anonymous local volumes not used by at least one container.") {
		return nil
	}
	volumes, err := containers().Volumes()
	for _, v := range volumes {
		if len(v.Name) != 64 || strings.Trim(v.Name, "0123456789abcdef") != "" {
			continue
		}
		if users, usersErr := containers().VolumeUsers(v.Name); len(users) > 0 || usersErr != nil {
			continue
		}
		if removeErr := removeVolume(v.Name); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		fmt.Println("Deleted:", v.Name)
	}
	return err
}

func describeVolume(v *container.Volume) any {
	return map[string]any{"Name": v.Name, "CreatedAt": v.Created, "Driver": "local", "Mountpoint": v.Mountpoint, "Scope": "local"}
}
