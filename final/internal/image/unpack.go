//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unpack writes the files of a tar archive into dir, with owners, modes, times and extended
// attributes, and returns how many bytes are in them. It never writes outside of dir, whatever
// names and links the archive holds. What the archive says of files in the layers below, it
// writes down as overlayfs does.
func unpack(ctx context.Context, archive io.Reader, dir string) (size int64, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()

	reader := tar.NewReader(contextReader{ctx, archive})
	var dirs []*tar.Header
	for entries := 0; ; entries++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) && entries == 0 {
			return 0, errEmpty
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("reading the archive: %w", err)
		}
		if err := unpackEntry(root, header, reader); err != nil {
			return 0, fmt.Errorf("%s: %w", header.Name, err)
		}
		switch header.Typeflag {
		case tar.TypeDir:
			dirs = append(dirs, header)
		case tar.TypeReg:
			size += header.Size
		}
	}
	return size, setTimes(root, dirs)
}

// errEmpty is an archive without files: not an image's, but a layer may well change nothing.
var errEmpty = errors.New("the archive is empty")

// setTimes gives directories their times, which changed with what was put into them. The top one
// has the oldest there is if the archive does not say, so that an archive always unpacks to the same.
func setTimes(root *os.Root, dirs []*tar.Header) error {
	isTop := func(header *tar.Header) bool { return path.Clean("/"+header.Name) == "/" }
	if !slices.ContainsFunc(dirs, isTop) {
		dirs = append(dirs, &tar.Header{Name: ".", ModTime: time.Unix(0, 0)})
	}
	for _, header := range slices.Backward(dirs) {
		err := inParent(root, header.Name, func(parent int, name string) error {
			a, err := attributesOf(header)
			if err != nil {
				return err
			}
			return a.applyTime(parent, name)
		})
		// A later entry may have put something else in its place.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
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
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil // not a file: remarks about all that follow
	}
	name, err := inside(header.Name)
	if err != nil {
		return err
	}
	if err := unpackParent(root, path.Dir(name)); err != nil {
		return err
	}
	if deleted, found := strings.CutPrefix(path.Base(name), whiteoutPrefix); found {
		return unpackWhiteout(root, path.Dir(name), deleted)
	}
	old, err := root.Lstat(name)
	replaced := err == nil && !(old.IsDir() && header.Typeflag == tar.TypeDir)
	if replaced {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	if header.Typeflag == tar.TypeLink {
		target, err := inside(header.Linkname)
		if err != nil {
			return err
		}
		return root.Link(target, name)
	}
	a, err := attributesOf(header)
	if err != nil {
		return err
	}
	return inParent(root, name, func(parent int, name string) error {
		if err := create(parent, name, header, content); err != nil {
			return err
		}
		if err := a.apply(parent, name); err != nil {
			return err
		}
		if replaced && isWhiteout(old) && header.Typeflag == tar.TypeDir {
			return setOpaque(parent, name) // a new directory, not more in the one below
		}
		return nil
	})
}

// unpackParent makes a directory of which the archive has not said anything.
func unpackParent(root *os.Root, name string) error {
	if _, err := root.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return unpackEntry(root, &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0)}, nil)
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
	size, err := io.Copy(holeWriter{file}, content)
	if err == nil {
		err = file.Truncate(size) // a hole at the end counts too
	}
	return errors.Join(err, file.Close())
}

// holeWriter leaves out what is all zeros. A sparse file is larger than what it takes on the
// disk, and would not be if it were written in full.
type holeWriter struct {
	file *os.File
}

var zeros [32 << 10]byte // what io.Copy writes at a time

func (w holeWriter) Write(p []byte) (int, error) {
	if len(p) <= len(zeros) && bytes.Equal(p, zeros[:len(p)]) {
		_, err := w.file.Seek(int64(len(p)), io.SeekCurrent)
		return len(p), err
	}
	return w.file.Write(p)
}

// xattrPrefix is what the names of extended attributes begin with in an archive, as GNU tar
// and docker write them.
const xattrPrefix = "SCHILY.xattr."

// attributes is what there is to a file besides its name and its content.
type attributes struct {
	uid, gid int
	mode     uint32 // with the file's type
	xattrs   map[string]string
	time     unix.Timespec
}

func attributesOf(header *tar.Header) (attributes, error) {
	time, err := unix.TimeToTimespec(header.ModTime)
	if err != nil {
		return attributes{}, err
	}
	a := attributes{uid: header.Uid, gid: header.Gid, mode: uint32(header.Mode) & 0o7777, xattrs: map[string]string{}, time: time}
	if header.Typeflag == tar.TypeSymlink {
		a.mode |= unix.S_IFLNK
	}
	for key, value := range header.PAXRecords {
		if name, found := strings.CutPrefix(key, xattrPrefix); found && !isOverlays(name) {
			a.xattrs[name] = value
		}
	}
	return a, nil
}

// apply gives the attributes to a file. The order matters: a change of owner takes away the
// set-user-ID bit and the capabilities, and all of them change the times.
func (a attributes) apply(parent int, name string) error {
	if err := unix.Fchownat(parent, name, a.uid, a.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the owner: %w", err)
	}
	if a.mode&unix.S_IFMT != unix.S_IFLNK { // a link has no mode
		if err := unix.Fchmodat(parent, name, a.mode&0o7777, 0); err != nil {
			return fmt.Errorf("setting the mode: %w", err)
		}
	}
	for key, value := range a.xattrs {
		if err := unix.Lsetxattr(procPath(parent, name), key, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", key, err)
		}
	}
	return a.applyTime(parent, name)
}

func (a attributes) applyTime(parent int, name string) error {
	if err := unix.UtimesNanoAt(parent, name, []unix.Timespec{a.time, a.time}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting the time: %w", err)
	}
	return nil
}

// procPath is a path to a file in an open directory, for system calls that have no at-variant.
func procPath(parent int, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", parent, name)
}
