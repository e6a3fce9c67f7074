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
	root, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if err := root.Chmod(0o755); err != nil { // whatever the umask is
		return 0, err
	}

	u := unpacker{root: int(root.Fd())}
	reader := tar.NewReader(contextReader{ctx, archive})
	entries := 0
	for ; ; entries++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("reading the archive: %w", err)
		}
		header.Typeflag = fileType(header)
		if err := u.unpackEntry(header, reader); err != nil {
			return 0, fmt.Errorf("%s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeReg {
			size += header.Size
		}
	}
	if err := u.finish(); err != nil {
		return 0, err
	}
	if entries == 0 {
		return 0, errEmpty
	}
	return size, nil
}

// errEmpty is an archive without files. A layer may change nothing.
var errEmpty = errors.New("the archive is empty")

// unpacker is the state of unpack.
type unpacker struct {
	root    int           // the open directory that the archive is unpacked into
	dirs    []*tar.Header // the directories so far
	waiting []*tar.Header // hard links whose targets have not come yet
}

// finish makes the hard links that had to wait, and sets the times of the directories, which
// changed with every file that was put into them. The top one has the oldest time if the archive
// does not say, so that an archive always unpacks to the same.
func (u *unpacker) finish() error {
	waiting := u.waiting
	u.waiting = nil
	for _, header := range waiting {
		if err := u.unpackEntry(header, nil); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	if len(u.waiting) > 0 {
		return fmt.Errorf("%s: the archive has no %s to link to", u.waiting[0].Name, u.waiting[0].Linkname)
	}
	if err := u.removeAufs(); err != nil {
		return err
	}
	isTop := func(header *tar.Header) bool { return path.Clean("/"+header.Name) == "/" }
	if !slices.ContainsFunc(u.dirs, isTop) {
		u.dirs = append(u.dirs, &tar.Header{Name: ".", ModTime: time.Unix(0, 0)})
	}
	for _, header := range slices.Backward(u.dirs) {
		err := u.inParent(header.Name, func(parent int, name string) error {
			a, err := attributesOf(header)
			if err != nil {
				return err
			}
			return a.applyTime(parent, name)
		})
		// A later entry may have replaced the directory.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	return nil
}

// Types of entries that GNU tar writes and archive/tar does not name.
const (
	typeGNUDumpDir = 'D' // a directory, with a list of its files for content
	typeGNULabel   = 'V' // no file, but a name for the archive
)

// fileType returns the POSIX type of an entry's file. Old programs mark a directory only by the
// slash at the end of its name.
func fileType(header *tar.Header) byte {
	switch header.Typeflag {
	case tar.TypeReg:
		if strings.HasSuffix(header.Name, "/") {
			return tar.TypeDir
		}
	case tar.TypeGNUSparse, tar.TypeCont:
		return tar.TypeReg
	case typeGNUDumpDir:
		return tar.TypeDir
	}
	return header.Typeflag
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

// inParent calls f with the open directory that the named file is in, and the rest of the name.
func (u *unpacker) inParent(name string, f func(parent int, name string) error) error {
	name, err := inside(name)
	if err != nil {
		return err
	}
	parent, err := u.openDir(path.Dir(name))
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	return f(parent, path.Base(name))
}

// openDir opens a directory of the archive. The kernel follows symlinks and ".." as if the
// archive's root were "/", so none leads outside. See openat2(2), RESOLVE_IN_ROOT.
func (u *unpacker) openDir(name string) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err = unix.Openat2(u.root, name, &how)
		if !errors.Is(err, unix.EAGAIN) { // some process renamed a file while the kernel followed ".."
			return fd, err
		}
	}
}

// maxLinks limits the symlinks on the way to a directory, as the kernel does: see
// path_resolution(7).
const maxLinks = 40

// makeDir makes a directory that the archive has not described, and its parents. If a symlink
// has its name, makeDir makes the directory that the link points to.
func (u *unpacker) makeDir(name string, links int) error {
	fd, err := u.openDir(name)
	if err == nil {
		return unix.Close(fd)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if links == 0 {
		return unix.ELOOP
	}
	if err := u.makeDir(path.Dir(name), links); err != nil {
		return err
	}
	var target string
	err = u.inParent(name, func(parent int, name string) (err error) {
		target, err = os.Readlink(procPath(parent, name))
		return err
	})
	if err != nil { // it is no symlink: there is nothing of this name
		return u.unpackEntry(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0)}, nil)
	}
	if !path.IsAbs(target) {
		target = path.Join("/", path.Dir(name), target)
	}
	return u.makeDir(path.Clean(target), links-1)
}

// unpackEntry writes one file. As with tar, it replaces an earlier one of that name, and a
// directory stays a directory.
func (u *unpacker) unpackEntry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader || header.Typeflag == typeGNULabel {
		return nil // they describe the archive
	}
	name, err := inside(header.Name)
	if err != nil {
		return err
	}
	if name == "." && header.Typeflag != tar.TypeDir {
		return errors.New("the root must be a directory")
	}
	if err := u.makeDir(path.Dir(name), maxLinks); err != nil {
		return err
	}
	if deleted, found := strings.CutPrefix(path.Base(name), whiteoutPrefix); found && !isAufs(name) {
		return u.unpackWhiteout(path.Dir(name), deleted)
	}
	return u.inParent(name, func(parent int, name string) error {
		if header.Typeflag == tar.TypeLink {
			return u.link(parent, name, header)
		}
		a, err := attributesOf(header)
		if err != nil {
			return err
		}
		replacesLower := header.Typeflag == tar.TypeDir && isDeleted(parent, name)
		if err := makeRoom(parent, name, header); err != nil {
			return err
		}
		if err := create(parent, name, header, content); err != nil {
			return err
		}
		if header.Typeflag == tar.TypeDir {
			u.dirs = append(u.dirs, header)
		}
		if err := a.apply(parent, name); err != nil || !replacesLower {
			return err
		}
		return setOpaque(parent, name) // or it would show the files of the directory below
	})
}

// makeRoom removes an earlier file of the entry's name, unless both are directories.
func makeRoom(parent int, name string, header *tar.Header) error {
	old, err := os.Lstat(procPath(parent, name))
	if errors.Is(err, os.ErrNotExist) || err == nil && old.IsDir() && header.Typeflag == tar.TypeDir {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(procPath(parent, name))
}

// link gives a file one more name. If the archive has yet to bring the file, the link waits.
func (u *unpacker) link(parent int, name string, header *tar.Header) error {
	err := u.inParent(header.Linkname, func(dir int, target string) error {
		file, err := os.Lstat(procPath(dir, target))
		if err != nil {
			return err
		}
		if old, err := os.Lstat(procPath(parent, name)); err == nil && os.SameFile(file, old) {
			return nil // tar was given the file twice
		}
		if err := makeRoom(parent, name, header); err != nil {
			return err
		}
		return unix.Linkat(dir, target, parent, name, 0)
	})
	if errors.Is(err, os.ErrNotExist) {
		u.waiting = append(u.waiting, header)
		return nil
	}
	return err
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
	size, err := io.Copy(&holeWriter{file: file}, content)
	if err == nil {
		err = file.Truncate(size) // a hole at the end counts too
	}
	return errors.Join(err, file.Close())
}

// holeWriter leaves out what is all zeros. A sparse file is larger than what it takes on the
// disk, and would not be if it were written in full.
type holeWriter struct {
	file    *os.File
	pending int // bytes since beginSync
}

var zeros [32 << 10]byte // what io.Copy writes at a time

func (w *holeWriter) Write(p []byte) (int, error) {
	if len(p) <= len(zeros) && bytes.Equal(p, zeros[:len(p)]) {
		_, err := w.file.Seek(int64(len(p)), io.SeekCurrent)
		return len(p), err
	}
	n, err := w.file.Write(p)
	if w.pending += n; w.pending >= 256<<10 {
		beginSync(w.file)
		w.pending = 0
	}
	return n, err
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

// cannotKeep are the errors for an extended attribute that this file or its file system cannot
// keep. macOS has attributes that Linux does not have, and larger ones. See setxattr(2).
var cannotKeep = []error{unix.ENOTSUP, unix.EPERM, unix.E2BIG, unix.ERANGE}

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
		err := unix.Lsetxattr(procPath(parent, name), key, []byte(value), 0)
		if err != nil && !slices.Contains(cannotKeep, err) {
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
