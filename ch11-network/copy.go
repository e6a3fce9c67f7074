//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// copyTree copies all that is in the directory from into the directory to, as it is: types,
// owners, modes, times and extended attributes, hard links and holes, and what overlayfs
// keeps in a layer about files that were deleted or replaced.
//
// Where there is no freezer, a container may be at work in there. So every step begins at an
// open directory and follows no link: none leads the copy to the host's files, whenever it appears.
func copyTree(ctx context.Context, from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &stat); err != nil {
		return err
	}
	c := copier{ctx: ctx, top: int(dst.Fd()), names: map[uint64]string{}}
	if err := c.copyEntries(src, dst, "."); err != nil {
		return err
	}
	return copyAttributes(int(src.Fd()), int(dst.Fd()), ".", &stat)
}

type copier struct {
	ctx   context.Context
	top   int               // the directory that is copied to
	names map[uint64]string // by inode number, the name below top of a file that has several
}

// copyEntries copies what is in a directory, whose name below the top is at.
func (c *copier) copyEntries(src, dst *os.File, at string) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	for _, name := range names {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		if err := c.copyEntry(int(src.Fd()), int(dst.Fd()), name, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) copyEntry(src, dst int, name, at string) error {
	var stat unix.Stat_t
	err := unix.Fstatat(src, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // deleted in this moment
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.copyDir(src, dst, name, at, &stat)
	}
	if first, known := c.names[stat.Ino]; known {
		err = unix.Linkat(c.top, first, dst, name, 0)
	} else {
		err = copyFile(src, dst, name, &stat)
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	if stat.Nlink > 1 {
		c.names[stat.Ino] = at
	}
	return nil
}

func (c *copier) copyDir(src, dst int, name, at string, stat *unix.Stat_t) error {
	if err := unix.Mkdirat(dst, name, 0o700); err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	from, err := openAt(src, name, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	defer to.Close()
	if err := c.copyEntries(from, to, at); err != nil {
		return err
	}
	if err := copyAttributes(src, dst, name, stat); err != nil {
		return fmt.Errorf("copying %s: %w", at, err)
	}
	return nil
}

// openAt opens a file in an open directory, and not what a link of that name leads to. It
// does not wait for the other end of a pipe either.
func openAt(parent int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(parent, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// copyFile copies a file that is no directory.
func copyFile(src, dst int, name string, stat *unix.Stat_t) error {
	var err error
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = copyRegular(src, dst, name, stat.Size)
	case unix.S_IFLNK:
		err = copySymlink(src, dst, name)
	default: // among them the devices 0:0 by which overlayfs marks what was deleted
		err = unix.Mknodat(dst, name, stat.Mode, int(stat.Rdev))
	}
	if err != nil {
		return err
	}
	return copyAttributes(src, dst, name, stat)
}

func copyRegular(src, dst int, name string, size int64) error {
	in, err := openAt(src, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := openAt(dst, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	if err != nil {
		return err
	}
	return errors.Join(copyData(in, out, size), out.Close())
}

// copyData copies what is between the holes of a file: see lseek(2), SEEK_DATA. Where the
// file system can share the data between two files, nothing is copied at all.
func copyData(in, out *os.File, size int64) error {
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return nil
	}
	for offset := int64(0); offset < size; {
		start, err := in.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // there is only a hole left
		}
		if err != nil {
			return err
		}
		end, err := in.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(in, out, start, end); err != nil {
			return err
		}
		offset = end
	}
	return out.Truncate(size)
}

func copyRange(in, out *os.File, start, end int64) error {
	if _, err := in.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := out.Seek(start, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(out, in, end-start)
	if errors.Is(err, io.EOF) {
		return nil // it has just become shorter
	}
	return err
}

func copySymlink(src, dst int, name string) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(src, name, target)
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(target[:n]), dst, name)
}

// copyAttributes copies all that attributes has.
func copyAttributes(src, dst int, name string, stat *unix.Stat_t) error {
	xattrs, err := readXattrs(procPath(src, name))
	if err != nil {
		return err
	}
	a := attributes{uid: int(stat.Uid), gid: int(stat.Gid), mode: stat.Mode, xattrs: xattrs, time: stat.Mtim}
	return a.apply(dst, name)
}

// readXattrs returns a file's extended attributes. Of those that overlayfs uses itself, only
// "opaque" has a meaning in a copy: that a directory replaces the one in the layers below.
func readXattrs(file string) (map[string]string, error) {
	names, err := readXattr(func(buffer []byte) (int, error) { return unix.Llistxattr(file, buffer) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading extended attributes: %w", err)
	}
	xattrs := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") && name != "trusted.overlay.opaque" {
			continue
		}
		xattrs[name], err = readXattr(func(buffer []byte) (int, error) { return unix.Lgetxattr(file, name, buffer) })
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %s: %w", name, err)
		}
	}
	return xattrs, nil
}

// readXattr calls a function that fills a buffer, or without one tells how large it has to be.
func readXattr(read func(buffer []byte) (int, error)) (string, error) {
	size, err := read(nil)
	if err != nil || size == 0 {
		return "", err
	}
	buffer := make([]byte, size)
	size, err = read(buffer)
	return string(buffer[:max(size, 0)]), err
}
