//go:build linux

package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/oci"
)

// isWhole reports whether the store has a layer as it is in an archive. It compares the contents of
// the files: a disk may have lost them and nothing else.
func (s *Store) isWhole(ctx context.Context, a *archive, b blob, id oci.Digest) bool {
	l := s.layer(id)
	if !l.exists() {
		return false
	}
	files, err := os.Open(l.files())
	if err != nil {
		return false
	}
	defer files.Close()
	section, err := a.open(b.file)
	if err != nil {
		return false // to load the layer fails with the same error
	}
	stream, err := decompress(ctx, section)
	if err != nil {
		return false
	}
	defer stream.Close()
	u := unpacker{root: int(files.Fd())}
	for reader := tar.NewReader(stream); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil || !u.has(header, reader) {
			return false
		}
	}
}

// has reports whether a file of the archive was unpacked as it is in the archive.
func (u *unpacker) has(header *tar.Header, content io.Reader) bool {
	name, err := inside(header.Name)
	if err != nil {
		return false
	}
	typ := fileType(header)
	if typ == tar.TypeXGlobalHeader || typ == typeGNULabel || strings.HasPrefix(path.Base(name), whiteoutPrefix) || isAufs(name) {
		return true // it became no file
	}
	return u.inParent(name, func(parent int, name string) error {
		var stat unix.Stat_t
		if err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil || typ != tar.TypeReg {
			return err
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return errDiffers
		}
		fd, err := unix.Openat(parent, name, unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), name)
		defer file.Close()
		return compareContents(file, content)
	}) == nil
}

var errDiffers = errors.New("it differs")

func compareContents(a, b io.Reader) error {
	one, other := bufio.NewReaderSize(a, len(zeros)), bufio.NewReaderSize(b, len(zeros))
	for {
		x, errA := one.Peek(len(zeros))
		y, errB := other.Peek(len(zeros))
		if !bytes.Equal(x, y) || !errors.Is(errA, errB) {
			return errDiffers
		}
		if errA != nil {
			if errors.Is(errA, io.EOF) {
				return nil
			}
			return errA
		}
		_, _ = one.Discard(len(x)) // they are there
		_, _ = other.Discard(len(y))
	}
}

// mend replaces what is damaged in a layer by made, the same layer made anew, and removes made. It
// replaces every file at once: containers may be running on the layer.
func (l layer) mend(ctx context.Context, made layer) error {
	err := errDiffers
	if l.exists() {
		err = l.compare(ctx, made)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		err = errors.Join(Replace(l.dir, made.dir), syncTree(l.dir))
	}
	return errors.Join(err, os.RemoveAll(made.dir))
}

// compare returns an error if the files of two layers differ.
func (l layer) compare(ctx context.Context, other layer) error {
	one, err := packLayer(ctx, l.files())
	if err != nil {
		return err
	}
	two, err := packLayer(ctx, other.files())
	if err == nil && one.DiffID != two.DiffID {
		err = errDiffers
	}
	return err
}

// Replace makes the directory to like from, whose files it moves there, one at a time. The directory
// itself stays, for those who have it open or mounted.
func Replace(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &stat); err != nil {
		return err
	}
	a, err := readAttributes(int(src.Fd()), ".", &stat)
	if err != nil {
		return err
	}
	if err := removeOthers(from, to); err != nil {
		return err
	}
	entries, err := src.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		old, err := os.Lstat(target)
		switch {
		case err == nil && old.IsDir() && entry.IsDir():
			err = Replace(target, source)
		case err == nil && old.IsDir() != entry.IsDir():
			err = errors.Join(os.RemoveAll(target), os.Rename(source, target))
		default:
			err = os.Rename(source, target)
		}
		if err != nil {
			return err
		}
	}
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	return a.apply(int(dst.Fd()), ".")
}

// removeOthers removes from a directory what another does not have.
func removeOthers(from, to string) error {
	entries, err := os.ReadDir(to)
	for _, entry := range entries {
		if _, statErr := os.Lstat(filepath.Join(from, entry.Name())); errors.Is(statErr, os.ErrNotExist) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(to, entry.Name())))
		}
	}
	return err
}
