//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v3"
)

// psOptions is what the command line of ps asks for.
type psOptions struct {
	all     bool
	quiet   bool
	noTrunc bool
}

func newPsCommand() *cli.Command {
	var opts psOptions
	return &cli.Command{
		Name:  "ps",
		Usage: "list the containers that run",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "list those too that do not run", Destination: &opts.all},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print IDs only", Destination: &opts.quiet},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not shorten IDs and commands", Destination: &opts.noTrunc},
		},
		Before: requireRoot,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return errors.New("ps takes no arguments")
			}
			return listContainers(opts)
		},
	}
}

// listContainers prints what is known of the containers, the newest first. Of those that
// cannot be read it returns why; the others are listed all the same.
func listContainers(opts psOptions) error {
	containers, err := readContainers()
	table := tabwriter.NewWriter(os.Stdout, 10, 1, 3, ' ', 0)
	if !opts.quiet {
		fmt.Fprintln(table, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES")
	}
	for _, c := range containers {
		if !opts.all && !c.isRunning() {
			continue
		}
		fmt.Fprintln(table, strings.Join(opts.row(c), "\t"))
	}
	return errors.Join(err, table.Flush())
}

// row is what ps prints of a container, column by column.
func (opts psOptions) row(c *container) []string {
	id, command := c.ID, strings.Join(c.Command, " ")
	if !opts.noTrunc {
		id, command = shortID(id), ellipsis(command, 20)
	}
	if opts.quiet {
		return []string{id}
	}
	return []string{id, c.Image, strconv.Quote(command), since(c.Created) + " ago", c.status(), c.ports(), c.Name}
}

// ellipsis shortens a text to so many characters.
func ellipsis(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length-1]) + "…"
	}
	return text
}

// status says what has become of a container. Dead is one that ended when nobody was there to
// see how, because its shim had been killed.
func (c *container) status() string {
	switch {
	case c.isRunning():
		return "Up " + since(c.Started)
	case !c.Finished.IsZero():
		return fmt.Sprintf("Exited (%d) %s ago", c.Status, since(c.Finished))
	case c.Started.IsZero():
		return "Created"
	default:
		return "Dead"
	}
}

// since says how long ago that was, as people do.
func since(t time.Time) string {
	return units.HumanDuration(time.Since(t))
}
