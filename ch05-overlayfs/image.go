//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// stateDir is where everything is that mydocker keeps.
func stateDir() string {
	if dir := os.Getenv("MYDOCKER_ROOT"); dir != "" {
		return dir
	}
	return "/var/lib/mydocker"
}

// imagesDir holds each image as NAME.tar, an archive of all its files as docker export makes
// it, and from the image's first use on unpacked as NAME/rootfs.
func imagesDir() string {
	return filepath.Join(stateDir(), "images")
}

// imageName is what an image may be called: a file name, and nothing that leads elsewhere.
var imageName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// openImage returns the directory with an image's files. It unpacks them if need be.
func openImage(name string) (rootfs string, err error) {
	if !imageName.MatchString(name) {
		return "", fmt.Errorf("invalid image name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed", name)
	}
	rootfs = filepath.Join(imagesDir(), name, "rootfs")
	if _, err := os.Stat(rootfs); errors.Is(err, fs.ErrNotExist) {
		if err := unpackImage(name); err != nil {
			return "", err
		}
	}
	entries, err := os.ReadDir(rootfs)
	if err != nil {
		return "", fmt.Errorf("opening image %s: %w", name, err)
	}
	if len(entries) == 0 {
		return "", fmt.Errorf("image %s is empty: there is nothing in %s", name, rootfs)
	}
	return rootfs, nil
}

// unpackImage makes NAME/rootfs out of NAME.tar.
func unpackImage(name string) error {
	archive, err := os.Open(filepath.Join(imagesDir(), name+".tar"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no such image: %s (%s has: %s)", name, imagesDir(), strings.Join(imageNames(), " "))
	}
	if err != nil {
		return fmt.Errorf("opening image %s: %w", name, err)
	}
	defer archive.Close()

	err = makeWhole(imagesDir(), filepath.Join(name, "rootfs"), func(ctx context.Context, dir string) error {
		return unpack(ctx, bufio.NewReaderSize(archive, 1<<20), dir)
	})
	if err != nil {
		return fmt.Errorf("unpacking image %s: %w", name, err)
	}
	return nil
}

// makeWhole makes a directory within top, unless it is there: fill fills it in a temporary place,
// and it gets its name when it is whole. A signal ends it early and leaves nothing behind.
func makeWhole(top, name string, fill func(ctx context.Context, dir string) error) (err error) {
	lock, err := lockDir(top)
	if err != nil {
		return err
	}
	defer lock.Close()
	dir := filepath.Join(top, name)
	if _, err := os.Stat(dir); err == nil {
		return nil // somebody else was faster
	}

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	temporary := filepath.Join(top, ".making")      // nobody else's, while we have the lock
	if err := os.RemoveAll(temporary); err != nil { // somebody was killed here
		return err
	}
	defer undo(&err, func() error { return os.RemoveAll(temporary) })
	if err := os.Mkdir(temporary, 0o755); err != nil {
		return err
	}
	if err := fill(ctx, temporary); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	// A power failure may keep the new name and lose the data, unless the disk has it before.
	if err := unix.Syncfs(int(lock.Fd())); err != nil {
		return fmt.Errorf("writing the files to the disk: %w", err)
	}
	return os.Rename(temporary, dir)
}

// imageNames lists the images for an error message.
func imageNames() []string {
	var names []string
	entries, _ := os.ReadDir(imagesDir()) // without the directory there are no images
	for _, entry := range entries {
		if name, found := strings.CutSuffix(entry.Name(), ".tar"); found {
			names = append(names, name)
		}
	}
	return names
}

// lockDir waits until no other process holds the lock on the directory. Closing the file
// gives it back, and so does the end of the process, however it comes. See flock(2).
func lockDir(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return file, nil
}
