// Tour holds the stages together. What changes from one stage to the next is written down
// in stages.lock and in the tables of the READMEs, and a change that nobody meant is found.
//
//	go run ./internal/tour lock [--check]
//	go run ./internal/tour table [--check]
//	go run ./internal/tour check
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
)

func main() {
	if err := newApp(".").Run(context.Background(), os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "tour: "+strings.ReplaceAll(err.Error(), "\n", "\ntour: "))
		os.Exit(1)
	}
}

// newApp is the command line of tour, for the stages in the directory root.
func newApp(root string) *cli.Command {
	app := &cli.Command{
		Name:  "tour",
		Usage: "hold the stages together",
		Commands: []*cli.Command{
			{
				Name:   "lock",
				Usage:  "write down in " + lockFile + " which stages each declaration changes in",
				Flags:  []cli.Flag{checkFlag()},
				Action: onStages(root, lock),
			},
			{
				Name:   "table",
				Usage:  "write into each stage's READMEs what changes in it",
				Flags:  []cli.Flag{checkFlag()},
				Action: onStages(root, table),
			},
			{
				Name:   "check",
				Usage:  "do lock --check and table --check",
				Action: onStages(root, checkAll),
			},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return fmt.Errorf("unknown command %q (see tour --help)", cmd.Args().First())
			}
			return cli.ShowRootCommandHelp(cmd)
		},
		HideHelpCommand: true,
	}
	for _, cmd := range append(app.Commands, app) {
		// Errors are printed once, by main.
		cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
	}
	return app
}

func checkFlag() cli.Flag {
	return &cli.BoolFlag{Name: "check", Usage: "write nothing, and fail if anything would change"}
}

// onStages makes the action of a command that works on all stages.
func onStages(root string, work func(root string, stages []stage, check bool) error) cli.ActionFunc {
	return func(_ context.Context, cmd *cli.Command) error {
		if cmd.Args().Present() {
			return fmt.Errorf("%s takes no arguments", cmd.Name)
		}
		stages, err := readStages(root)
		if err != nil {
			return err
		}
		return work(root, stages, cmd.Bool("check"))
	}
}

// checkAll tells everything that is wrong, not just the first thing.
func checkAll(root string, stages []stage, _ bool) error {
	return errors.Join(lock(root, stages, true), table(root, stages, true))
}
