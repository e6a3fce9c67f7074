//go:build linux

package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/oci"
	"github.com/lixd/mydocker/final/internal/record"
)

// Use is what a container uses of the store.
type Use struct {
	Container string // its ID
	Running   bool
	Image     oci.Digest // the image it was started from
	Layers    []string   // directories, as Layers returned them
}

// Remove takes a name from an image, and with its last name, or by its ID, removes the image and
// those of its layers that nothing else uses. uses is called to learn what containers use; it is
// true until Remove returns if whoever starts a container holds the store. The messages and
// rules are docker's: without force, no image of a container is removed, and with it, none of a
// running one. The layers of a container stay in any case.
//
// An archive put in by hand under the name goes too: it would come back as the image.
func (s *Store) Remove(ctx context.Context, ref string, force bool, uses func() ([]Use, error)) (untagged []string, deleted []oci.Digest, err error) {
	lock, err := s.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close()
	inUse, err := uses()
	if err != nil {
		return nil, nil, fmt.Errorf("finding out which images are in use: %w", err)
	}
	untagged, id, err := s.untag(ref, force, inUse)
	if err != nil || id == "" {
		return untagged, nil, err
	}
	deleted = append(deleted, id)
	if err := os.RemoveAll(s.configFile(id)); err != nil { // it may be damaged, or missing
		return untagged, nil, fmt.Errorf("removing image %s: %w", short(id), err)
	}
	fault.Point("image-forgotten")
	layers, err := s.sweep(inUse)
	return untagged, append(deleted, layers...), err
}

// sweep removes what killed processes left over: what is not whole, and layers that no image and no
// container has. It returns the layers' DiffIDs. The caller has the store alone.
func (s *Store) sweep(inUse []Use) ([]oci.Digest, error) {
	if err := s.removeTemporaries(); err != nil {
		return nil, err
	}
	var dirs []string
	for _, use := range inUse {
		dirs = append(dirs, use.Layers...)
	}
	return s.removeUnused(dirs)
}

// untag takes the names from an image that ref says, and returns the image's ID if the image is
// to go too.
func (s *Store) untag(ref string, force bool, inUse []Use) (untagged []string, id oci.Digest, err error) {
	names, err := s.names()
	if err != nil {
		return nil, "", err
	}
	name, id, err := s.findForRemoval(ref)
	if err != nil {
		return nil, "", err
	}
	if id == "" { // an archive that nobody has used yet, or a name that leads to no image
		return []string{name}, "", s.removeName(name)
	}
	all := names[id]
	byName := name != ""
	if byName {
		err = conflictOfName(name, id, len(all) == 1, force, inUse)
	} else {
		err = conflictOfID(id, all, force, inUse)
	}
	if err != nil {
		return nil, "", err
	}
	if byName {
		all = []string{name}
	}
	for _, name := range all {
		if err := s.removeName(name); err != nil {
			return untagged, "", err
		}
		untagged = append(untagged, name)
	}
	if byName && (len(names[id]) > 1 || usedBy(id, inUse) != nil) {
		return untagged, "", nil
	}
	return untagged, id, nil
}

// findForRemoval returns the image that ref says, and its name unless it was said by the ID. It
// unpacks no archive: of one that nobody has used there is a name and no ID.
func (s *Store) findForRemoval(ref string) (name string, id oci.Digest, err error) {
	r, err := parseReference(ref)
	if err == nil && r.digest == "" {
		id, err = s.idOf(r.name())
		if err == nil || record.IsDamaged(err) {
			return r.name(), id, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", "", err
		}
		if _, err := os.Lstat(s.archive(r)); err == nil && hasArchive(r) {
			return r.name(), "", nil
		}
	}
	id, err = s.findPrefix(ref)
	if errors.Is(err, fs.ErrNotExist) {
		missing := ref
		if r.tag != "" {
			missing = r.name()
		}
		err = NotFoundError{missing}
	}
	return "", id, err
}

func (s *Store) removeName(name string) error {
	err := os.RemoveAll(s.nameLink(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if r, err2 := parseReference(name); err == nil && err2 == nil && hasArchive(r) {
		if err = os.Remove(s.archive(r)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("untagging %s: %w", name, err)
	}
	return record.SyncDirs(filepath.Dir(s.nameLink(name)))
}

// usedBy returns a container that uses an image, a running one if there is one.
func usedBy(id oci.Digest, inUse []Use) *Use {
	var found *Use
	for i := range inUse {
		if inUse[i].Image == id && (found == nil || inUse[i].Running) {
			found = &inUse[i]
		}
	}
	return found
}

// conflictOfName is the reason not to take a name from an image, or nil.
func conflictOfName(name string, id oci.Digest, last, force bool, inUse []Use) error {
	use := usedBy(id, inUse)
	if use == nil || !last || force {
		return nil
	}
	return fmt.Errorf("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
		strings.TrimSuffix(name, ":"+defaultTag), use.short(), short(id))
}

// conflictOfID is the reason not to remove an image with all its names, or nil.
func conflictOfID(id oci.Digest, names []string, force bool, inUse []Use) error {
	use := usedBy(id, inUse)
	switch {
	case use != nil && use.Running:
		return fmt.Errorf("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", short(id), use.short())
	case force:
		return nil
	case severalRepositories(names):
		return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(id))
	case use != nil:
		return fmt.Errorf("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", short(id), use.short())
	default:
		return nil
	}
}

func severalRepositories(names []string) bool {
	var repositories []string
	for _, name := range names {
		repositories = append(repositories, name[:strings.LastIndexByte(name, ':')])
	}
	slices.Sort(repositories)
	return len(slices.Compact(repositories)) > 1
}

func (u Use) short() string { return u.Container[:min(12, len(u.Container))] }
