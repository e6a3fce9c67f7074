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
)

// archive is one of an image's parts, which may come in any order and are read in another.
type archive struct {
	file    *os.File
	entries map[string]entry
}

type entry struct {
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
	a := &archive{file: file, entries: map[string]entry{}}
	if err := a.index(); err != nil {
		return nil, fmt.Errorf("reading the archive: %w", errors.Join(err, a.close()))
	}
	return a, nil
}

func (a *archive) close() error { return a.file.Close() }

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
	if _, err := file.ReadAt(magic, 0); err != nil || decompressorOf(magic) != "" {
		return nil, nil //nolint:nilerr // what is wrong with it, spool finds out
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}

// spool writes the uncompressed archive to a file that nobody else sees.
func spool(ctx context.Context, r io.Reader, dir string) (_ *os.File, err error) {
	stream, err := decompress(ctx, r)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	file, err := os.CreateTemp(dir, temporaryPrefix)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := os.Remove(file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if _, err := io.Copy(file, stream); err != nil {
		return nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, err
}

func (a *archive) index() error {
	reader := tar.NewReader(a.file) // which reads no more than it was asked for, and seeks
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{size: header.Size}
		switch header.Typeflag {
		case tar.TypeReg:
			if e.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
				return err
			}
		case tar.TypeSymlink:
			e.link = path.Join(path.Dir(path.Clean(header.Name)), header.Linkname)
		case tar.TypeLink:
			e.link = path.Clean(header.Linkname)
		default:
			continue
		}
		a.entries[path.Clean(header.Name)] = e
	}
}

func (a *archive) has(name string) bool {
	_, found := a.find(name)
	return found
}

func (a *archive) find(name string) (e entry, found bool) {
	name = path.Clean(name)
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
	return io.NewSectionReader(a.file, e.offset, e.size), nil
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
