//go:build linux

package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/oci"
	"github.com/lixd/mydocker/final/internal/record"
)

// recordVersion is the version of layer.json that this program writes.
const recordVersion = 1

// layerRecord is what layer.json says.
type layerRecord struct {
	Version int        `json:"version"`
	DiffID  oci.Digest `json:"diffID"`           // of the layer as an uncompressed archive
	Size    int64      `json:"size"`             // bytes in its files
	Packed  int64      `json:"packed,omitempty"` // bytes of the archive, if pack makes the one with this DiffID
}

// layer is a directory with a layer's files, and what is known about it.
type layer struct{ dir string }

func (s *Store) layer(id oci.Digest) layer {
	return layer{filepath.Join(s.layersDir(), id.Encoded())}
}

func (l layer) files() string  { return filepath.Join(l.dir, "fs") }
func (l layer) record() string { return filepath.Join(l.dir, "layer.json") }

// exists tells whether the layer is there, with a record that says so.
func (l layer) exists() bool {
	_, err := l.read()
	info, statErr := os.Stat(l.files())
	return (err == nil || record.IsNewer(err)) && statErr == nil && info.IsDir()
}

func (l layer) read() (r layerRecord, err error) {
	data, err := os.ReadFile(l.record())
	if errors.Is(err, fs.ErrNotExist) {
		err = record.ErrMissing
	}
	if err == nil {
		err = record.Parse(data, &r, &r.Version, recordVersion)
	}
	if err == nil && r.DiffID.Encoded() != filepath.Base(l.dir) {
		err = fmt.Errorf("it is about another, %q", r.DiffID)
	}
	if err != nil {
		return layerRecord{}, &record.DamagedError{
			What: "layer " + filepath.Base(l.dir)[:12], Reason: err, Next: "to load or import its image again writes a new one",
		}
	}
	return r, nil
}

// temporaryPrefix begins the names of what is not whole yet. None is left over as long as its
// maker lives; later, the next who has the store alone removes it.
const temporaryPrefix = ".making-"

func newName() string              { return temporaryPrefix + rand.Text() }
func isTemporary(name string) bool { return strings.HasPrefix(name, temporaryPrefix) }

// newLayer makes a layer: fill fills its directory in a temporary place, and when it is whole and on
// the disk, it gets its name. If there is such a layer already, that one stays, and what is damaged
// in it is replaced. The caller holds the store.
func (s *Store) newLayer(ctx context.Context, fill func(files string) (layerRecord, error)) (_ layerRecord, err error) {
	made := layer{filepath.Join(s.layersDir(), newName())}
	if err := os.Mkdir(made.dir, 0o700); err != nil {
		return layerRecord{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made.dir))
		}
	}()
	if err := os.Mkdir(made.files(), 0o755); err != nil {
		return layerRecord{}, err
	}
	if err := os.Chmod(made.files(), 0o755); err != nil { // whatever the umask is
		return layerRecord{}, err
	}
	rec, err := fill(made.files())
	if err != nil {
		return layerRecord{}, err
	}
	rec.Version = recordVersion
	if err := record.Write(made.record(), rec); err != nil {
		return layerRecord{}, err
	}
	if err := syncTree(made.dir); err != nil { // or a power failure leaves it with files of zeros
		return layerRecord{}, err
	}
	fault.Point("layer-unpacked")
	final := s.layer(rec.DiffID)
	err = os.Rename(made.dir, final.dir)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		err = final.mend(ctx, made)
	}
	if err != nil {
		return rec, err
	}
	fault.Point("layer-whole")
	return rec, record.SyncDirs(s.layersDir())
}

// syncTree is a step that a test watches.
var syncTree = record.SyncTree

// copyLayer makes a layer of a directory, but for the path without, in one pass.
func (s *Store) copyLayer(ctx context.Context, dir, without string) (layerRecord, error) {
	return s.newLayer(ctx, func(files string) (layerRecord, error) {
		return hashLayer(func(archive io.Writer) (int64, error) {
			return packAndCopy(ctx, dir, without, archive, files)
		})
	})
}

// packLayer returns the record of a directory as a layer.
func packLayer(ctx context.Context, dir string) (layerRecord, error) {
	return hashLayer(func(archive io.Writer) (int64, error) { return pack(ctx, dir, archive) })
}

// hashLayer returns the record of a layer that pack writes as an archive.
func hashLayer(pack func(archive io.Writer) (size int64, err error)) (layerRecord, error) {
	h := newHasher()
	size, err := pack(h)
	id, packed := h.sum()
	return layerRecord{DiffID: id, Size: size, Packed: packed}, err
}

// removeTemporaries removes what those left over who did not live to finish. The caller has
// the store alone.
func (s *Store) removeTemporaries() error {
	dirs := []string{s.namesDir(), s.layersDir()}
	ids, err := s.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		dirs = append(dirs, filepath.Dir(s.configFile(id)))
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("looking for what is left over: %w", err)
		}
		for _, entry := range entries {
			if !isTemporary(entry.Name()) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return fmt.Errorf("removing what is left over: %w", err)
			}
		}
	}
	return nil
}

// removeUnused removes the layers that no image has and none of the given directories is, and
// returns their DiffIDs. The caller has the store alone.
func (s *Store) removeUnused(inUse []string) (removed []oci.Digest, err error) {
	used := map[string]bool{}
	for _, dir := range inUse {
		used[dir] = true
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		image, err := s.open(string(id), id)
		if errors.As(err, &NotFoundError{}) {
			err = os.Remove(filepath.Dir(s.configFile(id))) // its maker was killed
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
		}
		if record.IsDamaged(err) {
			return nil, nil // which layers it has is not known, so all are kept until it is removed
		}
		if err != nil {
			return nil, err
		}
		for _, dir := range image.Layers() {
			used[dir] = true
		}
	}
	entries, err := os.ReadDir(s.layersDir())
	if err != nil {
		return nil, fmt.Errorf("reading the layers: %w", err)
	}
	for _, entry := range entries {
		id := oci.Digest(oci.DigestPrefix + entry.Name())
		if !isDigest(string(id)) || used[s.layer(id).files()] {
			continue
		}
		if err := s.removeLayer(id); err != nil {
			return removed, err
		}
		removed = append(removed, id)
	}
	return removed, nil
}

// removeLayer renames a layer before it deletes it, so that none is there in part.
func (s *Store) removeLayer(id oci.Digest) error {
	doomed := filepath.Join(s.layersDir(), newName())
	if err := os.Rename(s.layer(id).dir, doomed); err != nil {
		return fmt.Errorf("removing layer %s: %w", id, err)
	}
	fault.Point("layer-doomed")
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("removing layer %s: %w", id, err)
	}
	return nil
}
