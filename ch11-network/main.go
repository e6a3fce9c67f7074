//go:build linux

// Mydocker runs commands in containers.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	log "github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"
)

// statusFailed is the exit status when mydocker itself failed, as docker has it.
const statusFailed = 125

// The main goroutine stays on the main thread, because Pdeathsig (see newInit) is a matter of
// threads: it fires when the thread that started init ends, and through init's exec it comes
// only with the thread that it was set for. See PR_SET_PDEATHSIG(2const).
func init() {
	runtime.LockOSThread()
}

func main() {
	unix.Umask(0o022) // our caller's would change the modes of what a container makes, or sees
	if err := closeOnExec(); err != nil {
		os.Exit(report(err))
	}
	if len(os.Args) > 1 && os.Args[1] == "init" {
		os.Exit(report(runInit()))
	}
	app := newApp()
	os.Exit(report(app.Run(context.Background(), endFlags(app, os.Args))))
}

func newApp() *cli.Command {
	app := &cli.Command{
		Name:  "mydocker",
		Usage: "run commands in containers",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "debug", Usage: "say on stderr what is being done"},
			&cli.BoolFlag{Name: "shim", Hidden: true}, // see startShim
		},
		Commands: []*cli.Command{
			newRunCommand(),
			newCommitCommand(),
			newImagesCommand(),
			newPsCommand(),
			newLogsCommand(),
			newNetworkCommand(),
		},
		Before:                 setLogLevel,
		Action:                 helpOnly,
		UseShortOptionHandling: true,
		HideHelpCommand:        true,
	}
	for _, cmd := range append(app.Commands, app) {
		// Errors are printed once, by report.
		cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
		cmd.ExitErrHandler = func(context.Context, *cli.Command, error) {}
		cmd.DisableSliceFlagSeparator = true // a comma is part of a value
	}
	return app
}

func setLogLevel(ctx context.Context, cmd *cli.Command) (context.Context, error) {
	if cmd.Bool("debug") {
		log.SetLevel(log.DebugLevel)
	}
	return ctx, nil
}

// helpOnly answers a command line that names no command.
func helpOnly(_ context.Context, cmd *cli.Command) error {
	if cmd.Args().Present() {
		return fmt.Errorf("unknown command %q (see mydocker --help)", cmd.Args().First())
	}
	return cli.ShowRootCommandHelp(cmd)
}

// requireRoot stops a command before it touches anything.
func requireRoot(ctx context.Context, _ *cli.Command) (context.Context, error) {
	if os.Geteuid() != 0 {
		return ctx, errors.New("mydocker must run as root (try sudo)")
	}
	return ctx, nil
}

// exitError is an error that knows the status to exit with; all others exit with statusFailed.
type exitError struct {
	status int
	err    error // nil when the status says it all
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

// report prints what went wrong, if anything did, and returns the status to exit with.
func report(err error) int {
	if err == nil {
		return 0
	}
	if own, ok := err.(exitError); ok && own.err == nil { //nolint:errorlint // wrapped, it would have more to say
		return own.status
	}
	fmt.Fprintln(os.Stderr, "mydocker:", err)
	exit := exitError{status: statusFailed}
	errors.As(err, &exit)
	return exit.status
}
