//go:build linux

// Package flock waits for locks on files, so that the wait can be interrupted. A lock ends with its
// file, and so with the process, however that ends: see flock(2).
package flock

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Lock waits for the exclusive lock on a file, until the context ends.
func Lock(ctx context.Context, file *os.File) error {
	fd := int(file.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return err
	}
	locked := make(chan error, 1)
	go func() { locked <- unix.Flock(fd, unix.LOCK_EX) }()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return context.Cause(ctx) // the caller closes the file, and with it the lock that may still come
	}
}
