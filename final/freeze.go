//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/lixd/mydocker/final/internal/container"
)

// whileFrozen calls do while the container's processes stand still. A guard, which is a process of
// its own, thaws them when do has returned, or when this process has been killed. If the guard is
// killed as well, the next command thaws them.
func whileFrozen(c *container.Container, do func() error) (err error) {
	guard := again("thaw", c.ID)
	guard.Stderr = os.Stderr
	frozen, err := guard.StdinPipe()
	if err != nil {
		return fmt.Errorf("making the pipe to the guard: %w", err)
	}
	if err := startOutside(guard); err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	defer func() {
		frozen.Close()
		if guard.Wait() != nil { // it may have been killed
			err = errors.Join(err, thaw(c.ID))
		}
	}()
	lock, err := c.PauseToCommit()
	if err != nil {
		return err
	}
	defer lock.Close()
	return do()
}

// runThaw is what the guard does. Its stdin ends with the process that has frozen the container.
func runThaw(id string) error {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return errors.New("thaw is an internal command: use unpause")
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("waiting for the end of the commit: %w", err)
	}
	return thaw(id)
}

// thaw lets a container go on. One that has ended meanwhile, or goes on already, is no error.
func thaw(id string) error {
	c, err := containers().Find(id)
	if errors.As(err, &container.NotFoundError{}) {
		return nil
	}
	if err != nil || c.State() != container.Paused {
		return err
	}
	if err := c.Unpause(); err != nil && c.IsRunning() {
		return err
	}
	return nil
}
