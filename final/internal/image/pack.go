//go:build linux

package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// pack writes a layer's directory as a tar archive: names in order, whole seconds, nothing
// about the machine. So the same files make the same archive, and the same digest. It returns
// how many bytes are in the files.
func pack(ctx context.Context, dir string, archive io.Writer) (size int64, err error) {
	return packAndCopy(ctx, dir, "", archive, "")
}

// packAndCopy does what pack does, but leaves out the path without, and copies the files into the
// directory to while it reads them, as they are: owners, modes, times and extended attributes, hard
// links and holes.
//
// Where there is no freezer, a container may be at work in there. So every step begins at an
// open directory and follows no link: none leads it to the host's files, whenever it appears.
func packAndCopy(ctx context.Context, dir, without string, archive io.Writer, to string) (size int64, err error) {
	src, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	p := packer{ctx: ctx, tar: tar.NewWriter(archive), without: without, names: map[uint64]string{}, top: -1}
	dst := noCopy
	if to != "" {
		if dst, err = os.Open(to); err != nil {
			return 0, err
		}
		defer dst.Close()
		p.top = int(dst.Fd())
	}
	if err := p.packTop(src, dst); err != nil {
		return 0, err
	}
	return p.size, p.tar.Close()
}

// Copy copies into the directory to what is in another, as it is, and makes it one like that.
func Copy(ctx context.Context, dir, to string) error {
	_, err := packAndCopy(ctx, dir, "", io.Discard, to)
	return err
}

// noCopy is the directory to copy to when nothing is copied.
var noCopy *os.File

type packer struct {
	ctx     context.Context
	tar     *tar.Writer
	without string            // the name in the archive of what is left out, or empty
	top     int               // the directory that is copied to, or -1
	names   map[uint64]string // by inode number, the name in the archive of a file that has several
	size    int64             // bytes in regular files so far
	chunk   [256 << 10]byte   // what is being copied
}

func (p *packer) packTop(src, dst *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &stat); err != nil {
		return err
	}
	a, err := readAttributes(int(src.Fd()), ".", &stat)
	if err != nil {
		return err
	}
	if err := p.tar.WriteHeader(a.header("./", &stat)); err != nil {
		return err
	}
	if err := p.packEntries(src, dst, a, "."); err != nil {
		return err
	}
	if dst == noCopy {
		return nil
	}
	return a.apply(p.top, ".")
}

// packEntries packs what is in a directory, whose name in the archive is at.
func (p *packer) packEntries(src, dst *os.File, a attributes, at string) error {
	if a.xattrs[opaqueXattr] == "y" {
		if err := p.packWhiteout(path.Join(at, whiteoutPrefix+opaqueName)); err != nil {
			return err
		}
	}
	names, err := src.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("reading %s: %w", at, err)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		at := path.Join(at, name)
		if at == p.without {
			continue
		}
		if err := p.packEntry(src, dst, name, at); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return nil
}

func (p *packer) packEntry(src, dst *os.File, name, at string) error {
	if strings.HasPrefix(name, whiteoutPrefix) {
		return fmt.Errorf("in an image, names that begin with %s are of files that it deletes", whiteoutPrefix)
	}
	var stat unix.Stat_t
	err := unix.Fstatat(int(src.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // deleted in this moment
	}
	if err != nil {
		return err
	}
	a, err := readAttributes(int(src.Fd()), name, &stat)
	if err != nil {
		return err
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return p.packDir(src, dst, name, at, a, &stat)
	case unix.S_IFSOCK:
		return nil // nobody can connect to the copy of a socket, and tar knows none
	case unix.S_IFCHR:
		if stat.Rdev == 0 {
			return p.packDeleted(dst, name, at)
		}
	}
	if first, known := p.names[stat.Ino]; known {
		return p.packLink(dst, name, a.header(at, &stat), first)
	}
	if stat.Nlink > 1 {
		p.names[stat.Ino] = at
	}
	return p.packFile(src, dst, name, at, a, &stat)
}

func (p *packer) packDir(src, dst *os.File, name, at string, a attributes, stat *unix.Stat_t) error {
	if err := p.tar.WriteHeader(a.header(at+"/", stat)); err != nil {
		return err
	}
	from, err := openAt(src, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer from.Close()
	if dst == noCopy {
		return p.packEntries(from, noCopy, a, at)
	}
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	to, err := openAt(dst, name, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := p.packEntries(from, to, a, at); err != nil {
		return err
	}
	return a.apply(int(dst.Fd()), name)
}

// packDeleted packs the mark of overlayfs that there is no such file any more. Whose it is and
// when it was made has no meaning.
func (p *packer) packDeleted(dst *os.File, name, at string) error {
	if err := p.packWhiteout(path.Join(path.Dir(at), whiteoutPrefix+name)); err != nil || dst == noCopy {
		return err
	}
	return unix.Mknodat(int(dst.Fd()), name, unix.S_IFCHR, 0)
}

func (p *packer) packWhiteout(at string) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: 0o600, Format: tar.FormatPAX})
}

// packLink packs a further name of a file. It repeats the attributes: docker applies them again.
func (p *packer) packLink(dst *os.File, name string, header *tar.Header, first string) error {
	header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
	header.Devmajor, header.Devminor = 0, 0
	if err := p.tar.WriteHeader(header); err != nil || dst == noCopy {
		return err
	}
	return unix.Linkat(p.top, first, int(dst.Fd()), name, 0)
}

// packFile packs a file that is no directory.
func (p *packer) packFile(src, dst *os.File, name, at string, a attributes, stat *unix.Stat_t) (err error) {
	header := a.header(at, stat)
	if header.Typeflag == tar.TypeSymlink {
		if header.Linkname, err = readLink(src, name); err != nil {
			return err
		}
	}
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeReg {
		err = p.packContent(src, dst, name, stat.Size)
	} else if dst != noCopy {
		err = create(int(dst.Fd()), name, header, nil)
	}
	if err != nil || dst == noCopy {
		return err
	}
	return a.apply(int(dst.Fd()), name)
}

func (p *packer) packContent(src, dst *os.File, name string, size int64) (err error) {
	p.size += size
	in, err := openAt(src, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	if dst == noCopy {
		return p.packData(in, nil, size)
	}
	out, err := openAt(dst, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// Where the file system can share the data between two files, nothing is copied.
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return p.packData(in, nil, size)
	}
	if err := p.packData(in, out, size); err != nil {
		return err
	}
	return out.Truncate(size) // a hole at the end counts too
}

// packData reads a file's data, and zeros for its holes: see lseek(2), SEEK_DATA. A file that
// becomes shorter meanwhile ends in a hole.
func (p *packer) packData(in, out *os.File, size int64) error {
	for offset := int64(0); offset < size; {
		start, err := in.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			start, err = size, nil // there is only a hole left
		}
		if err != nil {
			return err
		}
		start = min(start, size)
		if err := p.packHole(start - offset); err != nil || start == size {
			return err
		}
		end, err := in.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if offset, err = p.packRange(in, out, start, min(end, size)); err != nil {
			return err
		}
	}
	return nil
}

// packRange packs what is from start to end, and returns where it really ended.
func (p *packer) packRange(in, out *os.File, start, end int64) (int64, error) {
	for start < end {
		if err := context.Cause(p.ctx); err != nil {
			return start, err
		}
		n, err := in.ReadAt(p.chunk[:min(int64(len(p.chunk)), end-start)], start)
		if n == 0 && errors.Is(err, io.EOF) {
			return start, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return start, err
		}
		if _, err := p.tar.Write(p.chunk[:n]); err != nil {
			return start, err
		}
		if out != nil {
			if _, err := out.WriteAt(p.chunk[:n], start); err != nil {
				return start, err
			}
			beginSync(out)
		}
		start += int64(n)
	}
	return start, nil
}

// beginSync starts to write what a file has so far to the disk, so that there is less left to wait for
// when the layer is synced. See sync_file_range(2).
func beginSync(file *os.File) {
	_ = unix.SyncFileRange(int(file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // the sync itself says what fails
}

func (p *packer) packHole(size int64) error {
	for size > 0 {
		if err := context.Cause(p.ctx); err != nil {
			return err
		}
		n, err := p.tar.Write(zeros[:min(int64(len(zeros)), size)])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

// header describes a file in an archive.
func (a attributes) header(name string, stat *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name:    name,
		Mode:    int64(a.mode & 0o7777),
		Uid:     a.uid,
		Gid:     a.gid,
		ModTime: time.Unix(a.time.Sec, 0),
		Format:  tar.FormatPAX,
	}
	switch a.mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, stat.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	}
	for key, value := range a.xattrs {
		if isOverlays(key) {
			continue // a file .wh..wh..opq says it
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrPrefix+key] = value
	}
	return h
}

// openAt opens a file in an open directory, and not what a link of that name leads to. It
// does not wait for the other end of a pipe either.
func openAt(parent *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func readLink(parent *os.File, name string) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(parent.Fd()), name, target)
	if err != nil {
		return "", err
	}
	return string(target[:n]), nil
}

func readAttributes(parent int, name string, stat *unix.Stat_t) (attributes, error) {
	xattrs, err := readXattrs(procPath(parent, name))
	if err != nil {
		return attributes{}, err
	}
	return attributes{uid: int(stat.Uid), gid: int(stat.Gid), mode: stat.Mode, xattrs: xattrs, time: stat.Mtim}, nil
}

// readXattrs returns a file's extended attributes. Of those that overlayfs uses itself, only
// "opaque" has a meaning in a copy: that a directory replaces the one in the layers below.
func readXattrs(file string) (map[string]string, error) {
	var space [1 << 10]byte // enough for all but a few
	names, err := readXattr(space[:], func(buffer []byte) (int, error) { return unix.Llistxattr(file, buffer) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading extended attributes: %w", err)
	}
	var xattrs map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if name == "" || isOverlays(name) && name != opaqueXattr {
			continue
		}
		value, err := readXattr(space[:], func(buffer []byte) (int, error) { return unix.Lgetxattr(file, name, buffer) })
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %s: %w", name, err)
		}
		if xattrs == nil {
			xattrs = map[string]string{}
		}
		xattrs[name] = value
	}
	return xattrs, nil
}

// readXattr calls a function that fills a buffer, first with the one given, then with one as
// large as the function says it has to be.
func readXattr(buffer []byte, read func(buffer []byte) (int, error)) (string, error) {
	size, err := read(buffer)
	if errors.Is(err, unix.ERANGE) {
		if size, err = read(nil); err != nil {
			return "", err
		}
		buffer = make([]byte, size)
		size, err = read(buffer)
	}
	return string(buffer[:max(size, 0)]), err
}
