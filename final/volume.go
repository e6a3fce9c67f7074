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
	var format string
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
			Action: needArgs(0, 1, func(_ context.Context, cmd *cli.Command) error {
				release, err := containers().HoldVolumes()
				if err != nil {
					return err
				}
				defer release()
				v, err := containers().MakeVolume(cmp.Or(cmd.Args().First(), container.NewID()), "", nil)
				if err == nil {
					fmt.Println(v.Name)
				}
				return err
			}),
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
					warn(v.Damage())
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
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also one of a newer mydocker; that one is not there is no error", Destination: &force},
			},
			Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
				return each(cmd, func(name string) error {
					err := containers().RemoveVolume(name, force)
					if errors.As(err, &container.VolumeNotFoundError{}) && force {
						return nil
					}
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
			Flags:     []cli.Flag{formatFlag(&format)},
			Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
				found := []any{}
				err := each(cmd, func(name string) error {
					v, err := containers().FindVolume(name)
					if err == nil {
						found = append(found, describeVolume(v))
					}
					return err
				})
				return errors.Join(printObjects(format, found), err)
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

// pruneVolumes removes those whose names are IDs: a name that somebody has given is a reason to keep one.
func pruneVolumes(force bool) error {
	if !force && !confirm("WARNING! This will remove anonymous local volumes not used by at least one container.") {
		return nil
	}
	volumes, err := containers().Volumes()
	var removed []string
	var reclaimed int64
	for _, v := range volumes {
		warn(v.Damage())
		if v.Damage() != nil || len(v.Name) != 64 || strings.Trim(v.Name, "0123456789abcdef") != "" {
			continue
		}
		size := sizeOf(v.Mountpoint)
		removeErr := containers().RemoveVolume(v.Name, false)
		if errors.As(removeErr, &container.VolumeInUseError{}) {
			continue
		}
		if removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		removed, reclaimed = append(removed, v.Name), reclaimed+size
	}
	printReclaimed("Deleted Volumes:", removed, reclaimed)
	return err
}

func describeVolume(v *container.Volume) any {
	return map[string]any{
		"Name": v.Name, "CreatedAt": v.Created, "Driver": "local", "Mountpoint": v.Mountpoint, "Scope": "local",
		"Labels": map[string]string{}, "Options": map[string]string{},
	}
}
