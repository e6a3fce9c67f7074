//go:build linux

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/oci"
	"github.com/lixd/mydocker/final/internal/record"
)

// Store is the images of one root directory. Any number of processes may use it at once.
type Store struct {
	root string
}

// Open returns the store in the directory root, which need not be there yet.
func Open(root string) *Store {
	return &Store{root: root}
}

// Image is one image of a store: its configuration, and by that its layers.
type Image struct {
	ID     oci.Digest // of Raw
	Config oci.Image  // what Raw says
	Raw    []byte     // the configuration as JSON; it may have more than Config knows

	store *Store
}

// NotFoundError is returned where there is no such image.
type NotFoundError struct{ Ref string }

func (e NotFoundError) Error() string { return "no such image: " + e.Ref }

func (s *Store) archives() string   { return filepath.Join(s.root, "images") }
func (s *Store) namesDir() string   { return filepath.Join(s.root, "images", "names") }
func (s *Store) configsDir() string { return filepath.Join(s.root, "images", "sha256") }
func (s *Store) layersDir() string  { return filepath.Join(s.root, "layers", "sha256") }
func (s *Store) lockFile() string   { return filepath.Join(s.root, "images", ".lock") }
func (s *Store) nameLink(name string) string {
	return filepath.Join(s.namesDir(), strings.ReplaceAll(name, "/", "%"))
}

func (s *Store) configFile(id oci.Digest) string {
	return filepath.Join(s.configsDir(), id.Encoded(), "config.json")
}

// Hold keeps images and layers from being removed until release is called. Whoever starts a
// container holds the store from before Find until it is written down what the container uses.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() { lock.Close() }, nil
}

// holdToAdd is Hold for who adds something. If nobody else is there, it first removes what those
// left over who were killed while they did.
func (s *Store) holdToAdd(ctx context.Context) (release func(), err error) {
	lock, err := s.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		err = s.removeTemporaries()
	}
	// Not granted, the stronger lock may have cost us the one we had: see flock(2).
	if err = errors.Join(err, waitForLock(ctx, lock, unix.LOCK_SH)); err != nil {
		return nil, fmt.Errorf("locking the image store: %w", errors.Join(err, lock.Close()))
	}
	return func() { lock.Close() }, nil
}

func (s *Store) makeDirs() error {
	for _, dir := range []string{s.namesDir(), s.configsDir(), s.layersDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making the image store: %w", err)
		}
	}
	return nil
}

// lock waits for a lock on the store: shared for those who add and use, exclusive for those who
// remove. It ends with the file, and so with the process, however that ends. See flock(2).
func (s *Store) lock(ctx context.Context, how int) (*os.File, error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(s.lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the image store: %w", err)
	}
	if err := waitForLock(ctx, file, how); err != nil {
		return nil, fmt.Errorf("locking the image store: %w", errors.Join(err, file.Close()))
	}
	return file, nil
}

// waitForLock asks for a lock again and again: the wait in flock(2) would not end with the context.
func waitForLock(ctx context.Context, file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Find returns the image of a name, of an ID, or of the only ID that begins like this; latest
// is the tag of a name without. An archive put in by hand is imported when it is first asked for.
// It returns a NotFoundError if there is none.
func (s *Store) Find(ctx context.Context, ref string) (*Image, error) {
	if ref == "" {
		return nil, errors.New(`invalid name or ID supplied: ""`)
	}
	if prefix := strings.TrimPrefix(ref, oci.DigestPrefix); isHex(prefix) && len(prefix) == 64 {
		return s.open(ref, oci.Digest(oci.DigestPrefix+prefix))
	}
	r, err := parseReference(ref)
	if err != nil {
		if id, err2 := s.findPrefix(ref); err2 == nil {
			return s.open(ref, id)
		}
		return nil, err
	}
	if r.digest != "" {
		return s.open(ref, oci.Digest(r.digest))
	}
	id, err := s.idOf(r.name())
	if errors.Is(err, fs.ErrNotExist) {
		id, err = s.importArchive(ctx, r)
	}
	if errors.Is(err, fs.ErrNotExist) {
		id, err = s.findPrefix(ref)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NotFoundError{r.name()}
	}
	if err != nil {
		return nil, err
	}
	return s.open(r.name(), id)
}

// idOf returns the ID that a name stands for.
func (s *Store) idOf(name string) (oci.Digest, error) {
	id, err := os.Readlink(s.nameLink(name))
	if err == nil && !isDigest(id) {
		err = fmt.Errorf("%q is no image's ID", id)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the name %s: %w", name, err)
	}
	if err != nil {
		return "", &record.DamagedError{What: "the name " + name, Reason: err, Next: fmt.Sprintf("%q removes it", "mydocker rmi "+name)}
	}
	return oci.Digest(id), nil
}

func (s *Store) findPrefix(prefix string) (oci.Digest, error) {
	short := strings.TrimPrefix(prefix, oci.DigestPrefix)
	if !isHex(short) {
		return "", fs.ErrNotExist
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	ids = slices.DeleteFunc(ids, func(id oci.Digest) bool { return !strings.HasPrefix(id.Encoded(), short) })
	switch len(ids) {
	case 0:
		return "", fs.ErrNotExist
	case 1:
		return ids[0], nil
	default:
		return "", fmt.Errorf("multiple IDs found with provided prefix: %s", prefix)
	}
}

// ids returns the IDs of all images.
func (s *Store) ids() (ids []oci.Digest, err error) {
	entries, err := os.ReadDir(s.configsDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	for _, entry := range entries {
		if id := oci.DigestPrefix + entry.Name(); isDigest(id) {
			ids = append(ids, oci.Digest(id))
		}
	}
	return ids, nil
}

// open reads an image whose ID is known. Reading it costs what its configuration does, however
// large the image is and however many there are.
func (s *Store) open(ref string, id oci.Digest) (*Image, error) {
	raw, err := os.ReadFile(s.configFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NotFoundError{ref}
	}
	if err == nil && oci.FromBytes(raw) != id {
		err = fmt.Errorf("%s does not have this digest any more", s.configFile(id))
	}
	if err != nil {
		return nil, damaged(ref, id, err)
	}
	return s.FromConfig(raw)
}

// damaged says that the configuration of an image cannot be used.
func damaged(ref string, id oci.Digest, reason error) error {
	return &record.DamagedError{
		What: "image " + ref, Reason: reason,
		Next: fmt.Sprintf("to load or import it again writes a new one, and %q removes it", "mydocker rmi -f "+short(id)),
	}
}

// FromConfig returns the image with this configuration, whose layers are in the store. For the
// image of a container it goes on working when the image itself was removed.
func (s *Store) FromConfig(raw []byte) (*Image, error) {
	i := &Image{ID: oci.FromBytes(raw), Raw: raw, store: s}
	if err := json.Unmarshal(raw, &i.Config); err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	for _, layer := range i.Config.RootFS.DiffIDs {
		if !isDigest(string(layer)) { // it becomes a path
			return nil, fmt.Errorf("reading the image's configuration: %q is no digest of a layer", layer)
		}
	}
	return i, nil
}

// Layers returns the directories with the image's files, the topmost layer first, as overlayfs
// expects them. An image may hold the same layer several times, and overlayfs takes a directory
// only once. The topmost occurrence is enough: it hides whatever the lower ones would add.
func (i *Image) Layers() []string {
	var dirs []string
	for _, id := range slices.Backward(i.Config.RootFS.DiffIDs) {
		if dir := i.store.layer(id).files(); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// ShortID returns the 12 digits of the ID that people get to see.
func (i *Image) ShortID() string { return short(i.ID) }

func short(id oci.Digest) string { return id.Encoded()[:12] }

// Tag gives an image one more name. If another image has it, that one loses it.
func (s *Store) Tag(ctx context.Context, ref, name string) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	image, err := s.Find(ctx, ref)
	if err != nil {
		return err
	}
	return s.tag(image.ID, name)
}

// tag is Tag for who holds the store.
func (s *Store) tag(id oci.Digest, name string) error {
	r, err := parseTag(name)
	if err != nil {
		return err
	}
	temporary := filepath.Join(s.namesDir(), newName())
	if err := os.Symlink(string(id), temporary); err != nil {
		return fmt.Errorf("naming the image %s: %w", name, err)
	}
	if err := os.Rename(temporary, s.nameLink(r.name())); err != nil {
		return fmt.Errorf("naming the image %s: %w", name, errors.Join(err, os.Remove(temporary)))
	}
	return record.SyncDirs(s.namesDir())
}

// parseTag takes a name apart that is to be given to an image.
func parseTag(name string) (reference, error) {
	r, err := parseReference(name)
	if err == nil && r.digest != "" {
		err = fmt.Errorf("invalid reference format: %q has a digest, which cannot be given", name)
	}
	if err == nil && isHex(r.repository) && len(r.repository) == 64 {
		err = fmt.Errorf("invalid reference format: %q is an ID", name)
	}
	return r, err
}

// names returns the names of all images, in order, and under "" those that lead to none.
func (s *Store) names() (map[oci.Digest][]string, error) {
	entries, err := os.ReadDir(s.namesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the names of the images: %w", err)
	}
	names := map[oci.Digest][]string{}
	for _, entry := range entries {
		name := strings.ReplaceAll(entry.Name(), "%", "/")
		if isTemporary(name) {
			continue
		}
		id, err := s.idOf(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed in this moment
		}
		names[id] = append(names[id], name) // without an ID, if the link is damaged
	}
	return names, nil
}

// writeConfig adds an image whose layers are there, and returns it.
func (s *Store) writeConfig(raw []byte) (*Image, error) {
	image, err := s.FromConfig(raw)
	if err != nil {
		return nil, err
	}
	file := s.configFile(image.ID)
	if _, err := s.open("", image.ID); err == nil {
		return image, nil
	} else if record.IsDamaged(err) {
		if err := os.RemoveAll(file); err != nil {
			return nil, fmt.Errorf("replacing the image's configuration: %w", err)
		}
	}
	err = os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = writeFile(file, raw)
	}
	if err == nil {
		err = record.SyncDirs(s.configsDir())
	}
	if err != nil {
		return nil, fmt.Errorf("writing the image's configuration: %w", err)
	}
	fault.Point("image-nameless")
	return image, nil
}

// writeFile writes a file that is there in whole or not at all, whatever happens.
func writeFile(name string, data []byte) (err error) {
	temporary := filepath.Join(filepath.Dir(name), newName())
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return record.SyncDirs(filepath.Dir(name))
}
