//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
)

func newRmCommand() *cli.Command {
	var force, volumes bool
	return &cli.Command{
		Name:      "rm",
		Usage:     "remove containers",
		ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also one that runs, which is killed, or is not there", Destination: &force},
			&cli.BoolFlag{Name: "volumes", Aliases: []string{"v"}, Usage: "and the volumes that were made for them", Destination: &volumes},
		},
		Before: requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return eachAtOnce(cmd, func(given string) (string, error) {
				c, err := containers().Find(given)
				if errors.As(err, &container.NotFoundError{}) && force {
					return "", nil
				}
				if err != nil && (c == nil || !force) {
					return "", err
				}
				return given, c.Remove(force, volumes)
			})
		}),
	}
}

func newContainerCommand() *cli.Command {
	var force bool
	return &cli.Command{
		Name:            "container",
		Usage:           "do something to many containers",
		HideHelpCommand: true,
		Before:          requireRoot,
		Action:          helpOnly,
		Commands: []*cli.Command{{
			Name:  "prune",
			Usage: "remove all containers that do not run",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask", Destination: &force},
			},
			Action: needArgs(0, 0, func(context.Context, *cli.Command) error { return prune(force) }),
		}},
	}
}

func prune(force bool) error {
	if !force && !confirm("WARNING! This will remove all stopped containers.") {
		return nil
	}
	all, err := containers().List()
	var removed []string
	var reclaimed int64
	for _, c := range all {
		warn(c.Damage())
		if c.IsRunning() || c.Damage() != nil {
			continue
		}
		size := sizeOf(c.Upper())
		if removeErr := c.Remove(false, false); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		reclaimed += size
		removed = append(removed, c.ID)
	}
	printReclaimed("Deleted Containers:", removed, reclaimed)
	return err
}

// printReclaimed says what a prune has removed, and how many bytes that had.
func printReclaimed(title string, removed []string, bytes int64) {
	if removed != nil {
		fmt.Printf("%s\n%s\n\n", title, strings.Join(removed, "\n"))
	}
	fmt.Println("Total reclaimed space:", units.HumanSize(float64(bytes)))
}

// confirm asks, and takes nothing but yes for one.
func confirm(warning string) bool {
	fmt.Printf("%s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // the end of the input is no yes
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// sizeOf returns how many bytes the files in a directory have, as far as they can be seen.
func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // somebody changes it meanwhile
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
