//go:build linux

// Mydocker runs containers.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	log "github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/instance"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
)

// Exit statuses, as docker has them.
const (
	statusFailed    = 1   // of most commands
	statusRunFailed = 125 // of run and create, and of all for a flag that is wrong
)

// The main goroutine stays on the main thread, because a container ends with the thread that
// started it: see runtime.Start.
func init() {
	runtime.LockOSThread()
}

func main() {
	// Our caller's would change the modes of what we make. Containers and shims inherit ours.
	unix.Umask(0o022)
	if len(os.Args) > 2 && os.Args[1] == "shim" {
		os.Exit(report(runShim(os.Args[2], strings.Join(os.Args[3:], ""))))
	}
	if len(os.Args) > 2 && os.Args[1] == "thaw" {
		os.Exit(report(runThaw(os.Args[2])))
	}
	app := newApp(os.Args)
	os.Exit(report(app.Run(context.Background(), endFlags(app, os.Args))))
}

// commands are all there are, in the order of the help.
var commands = []struct {
	name string
	make func() *cli.Command
}{
	{"run", newRunCommand},
	{"create", newCreateCommand},
	{"start", newStartCommand},
	{"exec", newExecCommand},
	{"stop", newStopCommand},
	{"kill", newKillCommand},
	{"restart", newRestartCommand},
	{"rm", newRmCommand},
	{"container", newContainerCommand},
	{"ps", newPsCommand},
	{"logs", newLogsCommand},
	{"attach", newAttachCommand},
	{"wait", newWaitCommand},
	{"inspect", newInspectCommand},
	{"pause", newPauseCommand},
	{"unpause", newUnpauseCommand},
	{"rename", newRenameCommand},
	{"top", newTopCommand},
	{"port", newPortCommand},
	{"commit", newCommitCommand},
	{"image", newImageCommand},
	{"images", newImagesCommand},
	{"rmi", newRmiCommand},
	{"tag", newTagCommand},
	{"history", newHistoryCommand},
	{"import", newImportCommand},
	{"load", newLoadCommand},
	{"save", newSaveCommand},
	{"network", newNetworkCommand},
	{"volume", newVolumeCommand},
}

// newCommands makes the command that is called, or all of them, for the help. To make and to set up
// all takes longer than most commands do.
func newCommands(args []string) (all []*cli.Command) {
	for _, command := range commands {
		if len(args) > 1 && args[1] == command.name {
			return []*cli.Command{command.make()}
		}
	}
	for _, command := range commands {
		all = append(all, command.make())
	}
	return all
}

func newApp(args []string) *cli.Command {
	app := &cli.Command{
		Name:  "mydocker",
		Usage: "run containers",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "debug", Usage: "say on stderr what is being done"},
		},
		Commands:               newCommands(args),
		Before:                 setLogLevel,
		Action:                 helpOnly,
		UseShortOptionHandling: true,
		HideHelpCommand:        true,
	}
	prepareCommand(app)
	return app
}

// prepareCommand has errors printed once, by report, and commas be part of values.
func prepareCommand(cmd *cli.Command) {
	cmd.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return exitError{status: statusRunFailed, err: explainUsage(cmd, err)}
	}
	cmd.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	cmd.DisableSliceFlagSeparator = true
	for _, sub := range cmd.Commands {
		prepareCommand(sub)
	}
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
		return fmt.Errorf("unknown command %q (see %s --help)", cmd.Args().First(), cmd.FullName())
	}
	return cli.ShowSubcommandHelp(cmd)
}

// stateDir is where everything is that mydocker keeps.
func stateDir() string {
	dir := os.Getenv("MYDOCKER_ROOT")
	if dir == "" {
		return instance.DefaultRoot
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	return absolute
}

func containers() *container.Store { return container.Open(stateDir()) }
func images() *image.Store         { return image.Open(stateDir()) }

// requireRoot stops a command before it touches anything.
func requireRoot(ctx context.Context, _ *cli.Command) (context.Context, error) {
	if os.Geteuid() != 0 {
		return ctx, exitError{status: statusRunFailed, err: errors.New("mydocker must run as root (try sudo)")}
	}
	return ctx, nil
}

// orMore is how many arguments a command takes that takes any number of them.
const orMore = math.MaxInt

// needArgs makes an action of one that wants so many arguments.
func needArgs(least, most int, action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		got := cmd.Args().Len()
		if least <= got && got <= most {
			return action(ctx, cmd)
		}
		name := strings.TrimPrefix(cmd.FullName(), cmd.Root().Name+" ")
		if most == 0 {
			return fmt.Errorf("%s takes no arguments", name)
		}
		return fmt.Errorf("%s needs %s (see %s --help)", name, cmd.ArgsUsage, cmd.FullName())
	}
}

// eachContainer does something to every container that the command line names, to all of them at
// once, and prints each name as it was given.
func eachContainer(cmd *cli.Command, do func(c *container.Container) error) error {
	return eachAtOnce(cmd, func(given string) (string, error) {
		c, err := containers().Find(given)
		if err != nil {
			return "", err
		}
		return given, do(c)
	})
}

// atOnce is how many containers have something done to them at once.
const atOnce = 50

// eachAtOnce does something for every argument, prints what that returns unless it failed, in the
// order of the arguments, and goes on behind one that fails.
func eachAtOnce(cmd *cli.Command, do func(given string) (string, error)) error {
	type outcome struct {
		text string
		err  error
	}
	var outcomes []chan outcome
	places := make(chan bool, atOnce)
	for _, given := range cmd.Args().Slice() {
		o := make(chan outcome, 1)
		outcomes = append(outcomes, o)
		go func() {
			places <- true
			text, err := do(given)
			<-places
			o <- outcome{text, err}
		}()
	}
	var errs []error
	for _, o := range outcomes {
		done := <-o
		if done.err == nil && done.text != "" {
			fmt.Println(done.text)
		}
		errs = append(errs, done.err)
	}
	return errors.Join(errs...)
}

// toContainer does something to one container, and prints its name as it was given.
func toContainer(given string, do func(c *container.Container) error) error {
	c, err := containers().Find(given)
	if err == nil {
		err = do(c)
	}
	if err == nil {
		fmt.Println(given)
	}
	return err
}

// each does something for every argument, one after the other, and goes on behind one that fails.
func each(cmd *cli.Command, do func(given string) error) error {
	var errs []error
	for _, given := range cmd.Args().Slice() {
		errs = append(errs, do(given))
	}
	return errors.Join(errs...)
}

// exitError is an error that knows the status to exit with.
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

func (e exitError) Unwrap() error { return e.err }

// exitWith returns a command's exit status as an error, with what else there is to say of its
// end. If it did not run, it says that.
func exitWith(status int, err error) error {
	if errors.As(err, new(*containerruntime.Error)) {
		return runError(err)
	}
	if status == 0 && err == nil {
		return nil
	}
	return exitError{status: status, err: err}
}

// runError has an error exit as run and create do, unless it knows better.
func runError(err error) error {
	if err == nil {
		return nil
	}
	var signal interruption
	if errors.As(err, &signal) {
		return exitError{status: 128 + int(signal.Signal), err: signal}
	}
	var started *containerruntime.Error
	if errors.As(err, &started) {
		return exitError{status: started.Status, err: err}
	}
	return exitError{status: statusRunFailed, err: err}
}

// warn prints what does not keep a command from its work, a line each.
func warn(err error) {
	if err != nil {
		for line := range strings.Lines(err.Error() + "\n") {
			fmt.Fprint(os.Stderr, "mydocker: ", line)
		}
	}
}

// report prints what went wrong, if anything did, and returns the status to exit with.
func report(err error) int {
	if err == nil {
		return 0
	}
	exit := exitError{status: statusFailed, err: err}
	errors.As(err, &exit)
	if exit.err != nil {
		fmt.Fprintln(os.Stderr, "mydocker:", err)
	}
	return exit.status
}
