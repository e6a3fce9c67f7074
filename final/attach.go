//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/container"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
	"github.com/lixd/mydocker/final/internal/shim"
)

func newAttachCommand() *cli.Command {
	return &cli.Command{
		Name:      "attach",
		Usage:     "type to a container, and print what it writes, until ctrl-p ctrl-q or its end",
		ArgsUsage: "CONTAINER",
		Before:    requireRoot,
		Action: needArgs(1, 1, func(_ context.Context, cmd *cli.Command) error {
			c, err := containers().Find(cmd.Args().First())
			if err != nil {
				return err
			}
			return attachTo(c)
		}),
	}
}

// attachTo attaches to a container that runs.
func attachTo(c *container.Container) error {
	switch c.State() {
	case container.Running:
	case container.Paused:
		return errors.New("you cannot attach to a paused container, unpause it first")
	default:
		return errors.New("you cannot attach to a stopped container, start it first")
	}
	if c.Config.Terminal && c.Config.Interactive && !isTerminal(os.Stdin) {
		return errors.New("cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
	}
	attached, err := shim.Dial(c.Dir())
	if err != nil {
		return err
	}
	in := stdinOf(c)
	if c.Config.Terminal && isTerminal(os.Stdin) {
		in = os.Stdin // also without -i, or the keys that detach would be of no use
	}
	return stayAttached(c, attached, in)
}

// stdinOf is what the container is to read from us, or nil.
func stdinOf(c *container.Container) *os.File {
	if c.Config.Interactive {
		return os.Stdin
	}
	return nil
}

// startAndAttach starts a container with a shim, and attaches before there is anything to miss.
func startAndAttach(c *container.Container) (*shim.Attached, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making the connection to the shim: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "attached"), os.NewFile(uintptr(pair[1]), "attached")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("making the connection to the shim: %w", err)
	}
	err = startShim(c, theirs)
	theirs.Close()
	if err != nil {
		return nil, orphaned(c, err)
	}
	return &shim.Attached{Conn: conn}, nil
}

// stayAttached returns when the container has ended, with its status, or the user has detached.
func stayAttached(c *container.Container, attached *shim.Attached, in *os.File) error {
	defer attached.Close()
	err := exchange(c, attached, in)
	if errors.Is(err, containerruntime.ErrDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	status, err := c.Wait()
	if err != nil && !errors.As(err, &container.NotFoundError{}) { // which it is with --rm
		return err
	}
	if !attached.Ended {
		return exitError{status: cmp.Or(status, statusFailed), err: fmt.Errorf(
			"the shim has hung up, and some of the output may be missing here: see mydocker logs %s", c.Name)}
	}
	return exitWith(attached.Status, nil)
}

// exchange hands on what is typed, unless in is nil, and written.
func exchange(c *container.Container, attached *shim.Attached, in *os.File) error {
	pass := func(signal unix.Signal) error {
		now, err := containers().Find(c.ID) // our record may be older than its process
		if err != nil {
			return err
		}
		return now.Target().Signal(signal)
	}
	if c.Config.Terminal {
		attachment := &containerruntime.Attachment{
			Terminal: attached, Resize: attached.Resize, In: in, Out: os.Stdout,
			DetachKeys: containerruntime.DetachKeys, Signal: pass,
		}
		return attachment.Run()
	}
	signals := catchSignals()
	go func() {
		for signal := range signals {
			_ = pass(signal.(unix.Signal)) // it may just have ended
		}
	}()
	if in != nil {
		go func() {
			_, _ = io.Copy(attached, in) // ends with the one or the other
			_ = attached.End()
		}()
	}
	return attached.Receive()
}

// terminalSize returns how large our terminal is, in characters, or 0 by 0 if we have none.
func terminalSize() *unix.Winsize {
	if size, err := containerruntime.GetSize(os.Stdin, os.Stdout); err == nil {
		return size
	}
	return &unix.Winsize{}
}
