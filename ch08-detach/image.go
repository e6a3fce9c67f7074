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
	"slices"
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

func checkImageName(name string) error {
	if !imageName.MatchString(name) {
		return fmt.Errorf("invalid image name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed", name)
	}
	return nil
}

// openImage returns the directories with an image's files, the topmost layer first: those
// that a commit wrote down, or the one of its archive, which it unpacks if need be.
func openImage(name string) (layers []string, err error) {
	if err := checkImageName(name); err != nil {
		return nil, err
	}
	layers, err = readLayers(filepath.Join(imagesDir(), name, layersFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return layers, err
	}
	rootfs := filepath.Join(imagesDir(), name, "rootfs")
	if _, err := os.Stat(rootfs); errors.Is(err, fs.ErrNotExist) {
		if err := unpackImage(name); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(rootfs)
	if err != nil {
		return nil, fmt.Errorf("opening image %s: %w", name, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("image %s is empty: there is nothing in %s", name, rootfs)
	}
	return []string{rootfs}, nil
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
	return errors.Join(os.Rename(temporary, dir), lock.Sync())
}

// replaceFile writes a small file. After a crash or a power failure it is the old one or the new
// one, but never half of it. See fsync(2) for why the directory must be synced too.
func replaceFile(path string, data []byte) error {
	aside := path + ".new"
	if err := os.WriteFile(aside, data, 0o600); err != nil {
		return err
	}
	if err := syncFile(aside); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(path))
}

// syncFile waits until the disk has a file's data, or a directory's names.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// imageNames lists the images: those that are an archive, and those that are a directory.
func imageNames() []string {
	var names []string
	entries, _ := os.ReadDir(imagesDir()) // without the directory there are no images
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), ".") {
			names = append(names, strings.TrimSuffix(entry.Name(), ".tar"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
