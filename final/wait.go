//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/fvbommel/sortorder"
	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/network"
)

func newWaitCommand() *cli.Command {
	return &cli.Command{
		Name:      "wait",
		Usage:     "wait until containers have ended, and print their exit statuses",
		ArgsUsage: "CONTAINER...",
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return each(cmd, func(given string) error {
				c, err := containers().Find(given)
				if err != nil {
					return err
				}
				status, err := c.Wait()
				if err == nil {
					fmt.Println(status)
				}
				return err
			})
		}),
	}
}

func newPauseCommand() *cli.Command {
	return &cli.Command{
		Name:      "pause",
		Usage:     "stop all that runs in containers, until unpause",
		ArgsUsage: "CONTAINER...",
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return eachContainer(cmd, (*container.Container).Pause)
		}),
	}
}

func newUnpauseCommand() *cli.Command {
	return &cli.Command{
		Name:      "unpause",
		Usage:     "let what was stopped by pause go on",
		ArgsUsage: "CONTAINER...",
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			return eachContainer(cmd, (*container.Container).Unpause)
		}),
	}
}

func newRenameCommand() *cli.Command {
	return &cli.Command{
		Name:      "rename",
		Usage:     "give a container another name",
		ArgsUsage: "CONTAINER NAME",
		Before:    requireRoot,
		Action: needArgs(2, 2, func(_ context.Context, cmd *cli.Command) error {
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			if err := c.Rename(cmd.Args().Get(1)); err != nil {
				return fmt.Errorf("failed to rename container: %w", err)
			}
			return nil
		}),
	}
}

func newPortCommand() *cli.Command {
	return &cli.Command{
		Name:      "port",
		Usage:     "print where a container's ports are published",
		ArgsUsage: "CONTAINER [PORT[/PROTOCOL]]",
		Before:    requireRoot,
		Action: needArgs(1, 2, func(_ context.Context, cmd *cli.Command) error {
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			var published []network.Port
			if c.Endpoint != nil && c.IsRunning() {
				published = slices.SortedStableFunc(slices.Values(c.Endpoint.Ports), func(a, b network.Port) int {
					return sortorder.NaturalCompare(a.Private(), b.Private())
				})
			}
			wanted, found := cmd.Args().Get(1), false
			for _, p := range published {
				private := p.Private()
				switch {
				case wanted == "":
					fmt.Printf("%s -> %s\n", private, p.Public())
				case wanted == private || wanted+"/tcp" == private:
					fmt.Println(p.Public())
					found = true
				}
			}
			if wanted != "" && !found {
				return fmt.Errorf("no public port '%s' published for %s", wanted, cmd.Args().First())
			}
			return nil
		}),
	}
}

func newTopCommand() *cli.Command {
	return &cli.Command{
		Name:         "top",
		Usage:        "list what runs in a container, with the host's ps",
		ArgsUsage:    "CONTAINER [PS OPTION...]",
		StopOnNthArg: new(1),
		Before:       requireRoot,
		Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			pids, err := c.Processes()
			if err != nil {
				return err
			}
			options := cmd.Args().Tail()
			if len(options) == 0 {
				options = []string{"-ef"}
			}
			return top(pids, options)
		}),
	}
}

// top prints the lines of the host's ps that are about these processes.
func top(pids []int, options []string) error {
	ps := exec.Command("ps", options...)
	ps.Stderr = os.Stderr
	output, err := ps.Output()
	if err != nil {
		return fmt.Errorf("running the host's ps: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	column := -1
	for i, name := range strings.Fields(lines[0]) {
		if name == "PID" {
			column = i
		}
	}
	if column == -1 {
		return errors.New("couldn't find PID field in ps output")
	}
	wanted := map[string]bool{}
	for _, pid := range pids {
		wanted[strconv.Itoa(pid)] = true
	}
	fmt.Println(lines[0])
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); len(fields) > column && wanted[fields[column]] {
			fmt.Println(line)
		}
	}
	return nil
}
