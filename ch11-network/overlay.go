//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// overlay is a container's files: the image, which nobody writes to, and over it a layer of
// the container's own that takes every change. See overlayfs.rst in the kernel's documentation.
type overlay struct {
	Image []string // the lower layers, the topmost first
	Dir   string   // the container's own directory, with those below in it

	lock *os.File // on Dir, as long as mydocker lives
}

func (o overlay) upper() string  { return filepath.Join(o.Dir, "upper") }  // what differs from the image
func (o overlay) work() string   { return filepath.Join(o.Dir, "work") }   // the kernel's own, next to upper
func (o overlay) merged() string { return filepath.Join(o.Dir, "merged") } // where the two are seen as one

// lowerFile says which layers are below, for a commit.
func (o overlay) lowerFile() string { return filepath.Join(o.Dir, "lower") }

// containersDir holds a directory for every container, called by its ID.
func containersDir() string {
	return filepath.Join(stateDir(), "containers")
}

// newOverlay makes the directories of a container's overlay. While it does, it holds the
// lock on all of them, so that nobody takes the new one for left over before it is locked.
func newOverlay(id string, image []string) (_ *overlay, err error) {
	if err := os.MkdirAll(containersDir(), 0o700); err != nil {
		return nil, fmt.Errorf("making the container's layer: %w", err)
	}
	lock, err := lockDir(containersDir())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := sweep(); err != nil {
		log.Warn(err) // a pity, but none of the new container's business
	}

	o := &overlay{Image: image, Dir: filepath.Join(containersDir(), id)}
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the container's layer: %w", err)
	}
	defer undoOnError(&err, o.remove)
	if o.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{o.upper(), o.work(), o.merged()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making the container's layer: %w", err)
		}
	}
	if err := writeLayers(o.lowerFile(), image); err != nil {
		return nil, fmt.Errorf("writing down the image's layers: %w", err)
	}
	return o, nil
}

// mount mounts the overlay and returns where. Init does it, in the container's mount
// namespace: so the mount ends with the container, whatever becomes of us.
func (o overlay) mount() (string, error) {
	// Without redirects a layer means the same over any other, as a committed one must.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off",
		strings.Join(escapeAll(o.Image), ":"), escape(o.upper()), escape(o.work()))
	if len(options) >= os.Getpagesize() {
		return "", fmt.Errorf("mounting the overlay: the image's %d layers are too many for mount(2)", len(o.Image))
	}
	err := unix.Mount("overlay", o.merged(), "overlay", 0, options)
	if errors.Is(err, unix.EINVAL) {
		return "", fmt.Errorf("mounting the overlay: the file system of %s cannot hold an upper layer "+
			"(overlay itself, NFS and vfat cannot): set MYDOCKER_ROOT to a directory on another: %w", o.Dir, err)
	}
	if err != nil {
		return "", fmt.Errorf("mounting the overlay: %w", err)
	}
	return o.merged(), nil
}

// escape keeps the characters that divide the options of a mount from doing so in a path.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(path)
}

func escapeAll(paths []string) []string {
	var escaped []string
	for _, path := range paths {
		escaped = append(escaped, escape(path))
	}
	return escaped
}

// remove deletes the container's layer. It does not if anything is mounted in there, which
// should not be: then it would delete what is mounted, and that may be the host's.
func (o overlay) remove() error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("removing the container's layer: %w", err)
	}
	if strings.Contains(string(mounts), filepath.Join(filepath.Base(containersDir()), filepath.Base(o.Dir))) {
		return fmt.Errorf("not removing %s: something is mounted in it", o.Dir)
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		return fmt.Errorf("removing the container's layer: %w", err)
	}
	o.lock.Close()
	return nil
}

// sweep clears up after mydockers that were killed: their locks ended with them. What a
// container has written stays, as if it had ended; one that never started goes. The caller
// holds the lock on containersDir.
func sweep() error {
	entries, err := os.ReadDir(containersDir())
	if err != nil {
		return fmt.Errorf("looking for what is left over: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, clearUp(entry.Name()))
	}
	return errors.Join(errs...)
}

// clearUp does what a container's mydocker would have done, unless that still lives. Only with
// the lock in our hands do we know that, and that the record says the last of it.
func clearUp(id string) (err error) {
	o := &overlay{Dir: filepath.Join(containersDir(), id)}
	if o.lock, err = os.Open(o.Dir); err != nil {
		return nil // gone in this moment
	}
	defer o.lock.Close()
	if unix.Flock(int(o.lock.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		return nil // in use; those who only look share the lock, and are not taken for users
	}
	c, err := readContainer(id)
	if errors.Is(err, fs.ErrNotExist) {
		c = &container{} // killed before there was a record
	} else if err != nil || !c.Finished.IsZero() {
		return nil
	}
	c.overlay = o
	log.Debugf("clearing up after container %s", id)
	if err := clearGroups(id); err != nil {
		return err
	}
	if err := c.leaveNetwork(); err != nil {
		return err
	}
	return c.removeUnlessStarted()
}
