//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/oci"
)

// interruptible is a context that ends with a signal: what is half made then is removed. A command
// that does not notice, because it waits for what it reads or writes, ends two seconds later, and
// the next one removes it.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	stopWaiting := context.AfterFunc(ctx, func() {
		time.Sleep(2 * time.Second)
		os.Exit(report(context.Cause(ctx)))
	})
	return ctx, func() {
		stopWaiting()
		stop()
	}
}

func printTable(rows [][]string) error {
	table := tabwriter.NewWriter(os.Stdout, 10, 1, 3, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

func newRmiCommand() *cli.Command {
	var force bool
	return &cli.Command{
		Name:      "rmi",
		Usage:     "remove images",
		ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also one that containers were made of", Destination: &force},
		},
		Before: requireRoot,
		Action: needArgs(1, orMore, func(ctx context.Context, cmd *cli.Command) error {
			return each(cmd, func(given string) error {
				untagged, deleted, err := images().Remove(ctx, given, force, imageUses)
				for _, name := range untagged {
					fmt.Println("Untagged:", name)
				}
				for _, id := range deleted {
					fmt.Println("Deleted:", id)
				}
				if errors.As(err, &image.NotFoundError{}) && force {
					fmt.Fprintln(os.Stderr, "mydocker:", err)
					return nil
				}
				return err
			})
		}),
	}
}

// imageUses tells what containers use of the images.
func imageUses() ([]image.Use, error) {
	all, err := containers().List()
	var uses []image.Use
	for _, c := range all {
		use := image.Use{Container: c.ID, Running: c.IsRunning(), Image: oci.Digest(c.ImageID)}
		for _, layer := range c.Config.Layers {
			use.Layers = append(use.Layers, filepath.Join(stateDir(), layer))
		}
		uses = append(uses, use)
	}
	return uses, err
}

func newTagCommand() *cli.Command {
	return &cli.Command{
		Name:      "tag",
		Usage:     "give an image one more name",
		ArgsUsage: "IMAGE NAME[:TAG]",
		Before:    requireRoot,
		Action: needArgs(2, 2, func(ctx context.Context, cmd *cli.Command) error {
			return images().Tag(ctx, cmd.Args().Get(0), cmd.Args().Get(1))
		}),
	}
}

func newImportCommand() *cli.Command {
	var message string
	return &cli.Command{
		Name:      "import",
		Usage:     "make an image of an archive of files",
		ArgsUsage: "FILE|- [NAME[:TAG]]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "what history says of it", Destination: &message},
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: `change the image's config, as in 'CMD ["sh"]'`},
		},
		Before: requireRoot,
		Action: needArgs(1, 2, func(ctx context.Context, cmd *cli.Command) error {
			archive, err := openArchive(cmd.Args().First())
			if err != nil {
				return err
			}
			defer archive.Close()
			ctx, stop := interruptible(ctx)
			defer stop()
			img, err := images().Import(ctx, archive, cmd.Args().Get(1), cmd.StringSlice("change"), message)
			if err != nil {
				return err
			}
			fmt.Println(img.ID)
			return nil
		}),
	}
}

// openArchive opens a file, or for - what we are given.
func openArchive(name string) (*os.File, error) {
	if name == "-" {
		return os.Stdin, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening the archive: %w", err)
	}
	return file, nil
}

func newLoadCommand() *cli.Command {
	var input string
	var quiet bool
	return &cli.Command{
		Name:  "load",
		Usage: "add the images of an archive, as docker save makes it",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "input", Aliases: []string{"i"}, Value: "-", Usage: "read this file", Destination: &input},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "do not draw how far it is", Destination: &quiet},
		},
		Before: requireRoot,
		Action: needArgs(0, 0, func(ctx context.Context, _ *cli.Command) error {
			if input == "-" && isTerminal(os.Stdin) {
				return errors.New("requested load from stdin, but stdin is empty")
			}
			archive, err := openArchive(input)
			if err != nil {
				return err
			}
			defer archive.Close()
			var progress image.Progress
			if !quiet && isTerminal(os.Stdout) {
				progress = image.NewBar(os.Stdout)
			}
			ctx, stop := interruptible(ctx)
			defer stop()
			loaded, err := images().Load(ctx, archive, progress)
			for _, img := range loaded {
				fmt.Println(img)
			}
			return err
		}),
	}
}

func newSaveCommand() *cli.Command {
	var output string
	return &cli.Command{
		Name:      "save",
		Usage:     "write images to an archive, for load",
		ArgsUsage: "IMAGE...",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this file", Destination: &output},
		},
		Before: requireRoot,
		Action: needArgs(1, orMore, func(ctx context.Context, cmd *cli.Command) error {
			ctx, stop := interruptible(ctx)
			defer stop()
			save := func(to io.Writer) error { return images().Save(ctx, to, cmd.Args().Slice()) }
			if output != "" {
				return writeAside(output, save)
			}
			if isTerminal(os.Stdout) {
				return errors.New("cowardly refusing to save to a terminal: use the -o flag or redirect")
			}
			return save(os.Stdout)
		}),
	}
}

// writeAside writes a file that gets its name when it is whole. Until then it has none, where the file
// system can do that, so that nothing is left of it if we are killed. See O_TMPFILE in open(2).
func writeAside(name string, write func(io.Writer) error) (err error) {
	dir, base := filepath.Split(name)
	aside := dir + "." + base + "." + rand.Text()
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", name, err)
		}
	}()
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return errors.New("it is not a regular file") // a device would be replaced by a file
	}
	file, err := os.OpenFile(cmp.Or(dir, "."), unix.O_TMPFILE|os.O_WRONLY, 0o600)
	unnamed := err == nil
	if !unnamed {
		file, err = os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}
	if err != nil {
		return err
	}
	defer os.Remove(aside) // it has the other name if all went well
	err = write(file)
	if err == nil && unnamed {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.AT_FDCWD, aside, unix.AT_SYMLINK_FOLLOW)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(aside, name)
}
