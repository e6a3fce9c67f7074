//go:build linux

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// unpack writes the files of a tar archive into dir, with owners, modes, times and extended
// attributes. It never writes outside of dir, whatever names and links the archive holds.
func unpack(ctx context.Context, archive io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()

	reader := tar.NewReader(contextReader{ctx, archive})
	var dirs []*tar.Header
	for entries := 0; ; entries++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) && entries == 0 {
			return errors.New("the archive is empty")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if err := unpackEntry(root, header, reader); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeDir {
			dirs = append(dirs, header)
		}
	}
	// What was put into a directory has changed its time.
	for _, header := range slices.Backward(dirs) {
		if err := inParent(root, header.Name, func(parent int, name string) error {
			return setTime(parent, name, header)
		}); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return nil
}

// contextReader is a reader that fails once its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// inside returns an archive's name for a file as one relative to the root of its files.
func inside(name string) (string, error) {
	name = path.Clean(strings.TrimLeft(name, "/"))
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("the name %s escapes from the root", name)
	}
	return name, nil
}

// inParent calls f with the open directory that the named file is in, and the rest of the
// name. Opening it is the step that could be led astray, by a symlink or by "..", and
// os.Root does not let itself.
func inParent(root *os.Root, name string, f func(parent int, name string) error) error {
	name, err := inside(name)
	if err != nil {
		return err
	}
	parent, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return f(int(parent.Fd()), path.Base(name))
}

// unpackEntry writes one file. An earlier one of that name is replaced, as tar does, only
// directories stay.
func unpackEntry(root *os.Root, header *tar.Header, content io.Reader) error {
	name, err := inside(header.Name)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	old, err := root.Lstat(name)
	bothDirs := err == nil && old.IsDir() && header.Typeflag == tar.TypeDir
	if err == nil && !bothDirs {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	switch header.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil // not a file: remarks about all that follow
	case tar.TypeLink:
		target, err := inside(header.Linkname)
		if err != nil {
			return err
		}
		return root.Link(target, name)
	}
	return inParent(root, header.Name, func(parent int, name string) error {
		if err := create(parent, name, header, content); err != nil {
			return err
		}
		return setAttributes(parent, name, header)
	})
}

// create makes a file of the entry's type in the directory parent.
func create(parent int, name string, header *tar.Header, content io.Reader) error {
	device := int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor)))
	switch header.Typeflag {
	case tar.TypeDir:
		if err := unix.Mkdirat(parent, name, 0o700); !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	case tar.TypeReg:
		return createRegular(parent, name, content)
	case tar.TypeSymlink:
		return unix.Symlinkat(header.Linkname, parent, name)
	case tar.TypeChar:
		return unix.Mknodat(parent, name, unix.S_IFCHR, device)
	case tar.TypeBlock:
		return unix.Mknodat(parent, name, unix.S_IFBLK, device)
	case tar.TypeFifo:
		return unix.Mknodat(parent, name, unix.S_IFIFO, 0)
	default:
		return fmt.Errorf("unknown type %q of file", header.Typeflag)
	}
}

func createRegular(parent int, name string, content io.Reader) error {
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// xattrPrefix is what the names of extended attributes begin with in an archive, as GNU tar
// and docker write them.
const xattrPrefix = "SCHILY.xattr."

// setAttributes gives the file what else the archive says of it. The order matters: a change
// of owner takes away the set-user-ID bit and the capabilities.
func setAttributes(parent int, name string, header *tar.Header) error {
	if err := unix.Fchownat(parent, name, header.Uid, header.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if header.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(parent, name, uint32(header.Mode)&0o7777, 0); err != nil {
			return fmt.Errorf("setting the mode: %w", err)
		}
	}
	for key, value := range header.PAXRecords {
		attribute, found := strings.CutPrefix(key, xattrPrefix)
		if !found {
			continue
		}
		file := fmt.Sprintf("/proc/self/fd/%d/%s", parent, name) // there is no fsetxattrat yet
		if err := unix.Lsetxattr(file, attribute, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", attribute, err)
		}
	}
	return setTime(parent, name, header)
}

func setTime(parent int, name string, header *tar.Header) error {
	time, err := unix.TimeToTimespec(header.ModTime)
	if err != nil {
		return fmt.Errorf("setting the time: %w", err)
	}
	err = unix.UtimesNanoAt(parent, name, []unix.Timespec{time, time}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("setting the time: %w", err)
	}
	return nil
}
