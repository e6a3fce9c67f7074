//go:build linux

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// archive is one of an image's parts, which may come in any order and are read in another.
type archive struct {
	dir     string // for files without a name
	file    *os.File
	sparse  *os.File // the files that are sparse in the archive, one behind the other, or nil
	entries map[string]entry
}

type entry struct {
	file         *os.File
	offset, size int64
	link         string // the name of the entry that this one stands for
}

// openArchive finds out where what is in an archive. An uncompressed file is read where it is.
// Anything else is written to a file in dir first, which has no name there.
func openArchive(ctx context.Context, r io.Reader, dir string) (*archive, error) {
	file, err := asFile(r)
	if err == nil && file == nil {
		file, err = spool(ctx, r, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the archive: %w", err)
	}
	a := &archive{dir: dir, file: file, entries: map[string]entry{}}
	if err := a.index(ctx); err != nil {
		return nil, fmt.Errorf("reading the archive: %w", errors.Join(err, a.close()))
	}
	return a, nil
}

func (a *archive) close() error {
	if a.sparse != nil {
		return errors.Join(a.file.Close(), a.sparse.Close())
	}
	return a.file.Close()
}

// asFile returns a file of its own if r is a regular file, from its beginning, with an
// uncompressed archive. Otherwise it returns nil.
func asFile(r io.Reader) (*os.File, error) {
	file, known := r.(*os.File)
	if !known {
		return nil, nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	magic := make([]byte, magicSize)
	if at, err := file.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil, err
	}
	if _, err := file.ReadAt(magic, 0); err != nil || isCompressed(magic) {
		return nil, nil //nolint:nilerr // what is wrong with it, spool finds out
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}

// spool writes the uncompressed archive to a file without a name.
func spool(ctx context.Context, r io.Reader, dir string) (_ *os.File, err error) {
	stream, err := decompress(ctx, r)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	file, err := newUnnamed(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if _, err := io.Copy(file, stream); err != nil {
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

// newUnnamed opens a new file that no other process sees.
func newUnnamed(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, temporaryPrefix)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// entryName returns a name in an archive as one relative to its root.
func entryName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *archive) index(ctx context.Context) error {
	reader := tar.NewReader(a.file) // which reads no more than it was asked for, and seeks
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, e := entryName(header.Name), entry{file: a.file, size: header.Size}
		switch {
		case isSparse(header):
			if e.file, e.offset, err = a.spoolSparse(contextReader{ctx, reader}); err != nil {
				return err
			}
		case fileType(header) == tar.TypeReg:
			if e.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
				return err
			}
		case header.Typeflag == tar.TypeSymlink && path.IsAbs(header.Linkname), header.Typeflag == tar.TypeLink:
			e.link = entryName(header.Linkname)
		case header.Typeflag == tar.TypeSymlink:
			e.link = entryName(path.Join("/", path.Dir(name), header.Linkname))
		default:
			continue
		}
		a.entries[name] = e
	}
}

// isSparse reports whether the holes of an entry's file are left out of the archive.
func isSparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return header.Typeflag == tar.TypeGNUSparse
}

// spoolSparse writes a sparse file with its holes where it can be read like any other.
func (a *archive) spoolSparse(content io.Reader) (file *os.File, offset int64, err error) {
	if a.sparse == nil {
		if a.sparse, err = newUnnamed(a.dir); err != nil {
			return nil, 0, err
		}
	}
	if offset, err = a.sparse.Seek(0, io.SeekCurrent); err != nil {
		return nil, 0, err
	}
	size, err := io.Copy(&holeWriter{file: a.sparse}, content)
	if err == nil {
		err = a.sparse.Truncate(offset + size) // a hole at the end counts too
	}
	return a.sparse, offset, err
}

func (a *archive) has(name string) bool {
	_, found := a.find(name)
	return found
}

func (a *archive) find(name string) (e entry, found bool) {
	name = entryName(name)
	for range 8 { // links may lead in a circle
		if e, found = a.entries[name]; !found || e.link == "" {
			return e, found
		}
		name = e.link
	}
	return e, false
}

func (a *archive) open(name string) (*io.SectionReader, error) {
	e, found := a.find(name)
	if !found {
		return nil, fmt.Errorf("there is no %s in the archive", name)
	}
	return io.NewSectionReader(e.file, e.offset, e.size), nil
}

// maxJSON is how large a manifest or a configuration may be, in bytes. They are read into memory.
const maxJSON = 16 << 20

func (a *archive) read(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > maxJSON {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, r.Size(), maxJSON)
	}
	data, err := io.ReadAll(r)
	if err == nil && int64(len(data)) != r.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

func (a *archive) readJSON(name string, value any) error {
	data, err := a.read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Base(name), err)
	}
	return nil
}
