//go:build linux

package image

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/oci"
)

// CommitOptions say what Commit makes an image of.
type CommitOptions struct {
	Parent    *Image          // what the container was started from; FromConfig has it if it was removed
	Upper     string          // the directory overlayfs wrote the changes to; nobody may write to it meanwhile
	Without   string          // a path in there that is not part of the image, or empty
	Config    oci.ImageConfig // the container's, before Changes
	Changes   []string        // instructions of a Dockerfile, as commit -c takes them
	Ref       string          // the new image's name, or empty
	Author    string
	Message   string
	CreatedBy string // what the container ran
}

// Commit makes an image of the parent's layers and one more, a copy of what a container changed.
// So it costs what the changes do, however large the image is.
func (s *Store) Commit(ctx context.Context, o CommitOptions) (*Image, error) {
	if err := checkRef(o.Ref); err != nil {
		return nil, err
	}
	if err := applyChanges(&o.Config, o.Changes); err != nil {
		return nil, err
	}
	release, err := s.holdToAdd(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	layer, err := s.copyLayer(ctx, o.Upper, o.Without)
	if err != nil {
		return nil, fmt.Errorf("copying the container's layer: %w", err)
	}
	now := time.Now().UTC()
	image := o.Parent.Config
	image.Created, image.Author, image.Config = &now, o.Author, o.Config
	image.RootFS.DiffIDs = append(slices.Clone(image.RootFS.DiffIDs), layer.DiffID)
	image.History = append(slices.Clone(image.History),
		oci.History{Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Message})
	return s.add(o.Parent.Raw, image, o.Ref)
}

// Import makes an image of one layer of an archive of files, which may be compressed. The layer's
// digest is of the archive that Save writes, so an image keeps its ID when it is saved and loaded.
func (s *Store) Import(ctx context.Context, archive io.Reader, ref string, changes []string, message string) (*Image, error) {
	if message == "" {
		message = "Imported from -"
	}
	return s.importAt(ctx, time.Now(), archive, true, ref, changes, message)
}

func (s *Store) importAt(ctx context.Context, created time.Time, archive io.Reader, mayBeEmpty bool, ref string, changes []string, message string) (*Image, error) {
	created = created.UTC()
	image := oci.Image{
		Created:  &created,
		Platform: oci.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		RootFS:   oci.RootFS{Type: "layers"},
		History:  []oci.History{{Created: &created, Comment: message}},
	}
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	if err := applyChanges(&image.Config, changes); err != nil {
		return nil, err
	}
	release, err := s.holdToAdd(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	layer, err := s.newLayer(ctx, func(files string) (layerRecord, error) {
		stream, err := decompress(ctx, archive)
		if err != nil {
			return layerRecord{}, err
		}
		defer stream.Close()
		if _, err := unpack(ctx, stream, files); err != nil && !(mayBeEmpty && errors.Is(err, errEmpty)) {
			return layerRecord{}, err
		}
		return packLayer(ctx, files)
	})
	if err != nil {
		return nil, err
	}
	image.RootFS.DiffIDs = []oci.Digest{layer.DiffID}
	return s.add(nil, image, ref)
}

// IsPacked tells whether an image of this name is there only as an archive that was put in by hand.
func (s *Store) IsPacked(ref string) bool {
	r, err := parseReference(ref)
	if err != nil || r.digest != "" {
		return false // it may be an ID: Find knows
	}
	_, err = s.idOf(r.name())
	return errors.Is(err, fs.ErrNotExist) && hasArchive(r)
}

// Unpack imports that archive, as Find does when it is asked first. But who holds the store, as for
// Find, keeps it from removing what is left over.
func (s *Store) Unpack(ctx context.Context, ref string) error {
	r, err := parseReference(ref)
	if err != nil {
		return err
	}
	_, err = s.importArchive(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Find says so
	}
	return err
}

// importArchive imports the archive that was put into the store by hand, if there is one of this
// name. Several that want it at once wait for the first.
func (s *Store) importArchive(ctx context.Context, r reference) (oci.Digest, error) {
	if !hasArchive(r) {
		return "", fs.ErrNotExist
	}
	file, err := os.Open(s.archive(r))
	if errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err != nil {
		return "", fmt.Errorf("opening image %s: %w", r.repository, err)
	}
	defer file.Close()
	if err := waitForLock(ctx, file, unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("unpacking image %s: %w", r.repository, err)
	}
	if id, err := s.idOf(r.name()); !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("opening image %s: %w", r.repository, err)
	}
	image, err := s.importAt(ctx, info.ModTime(), bufio.NewReaderSize(file, 1<<20), false, r.name(), nil, "Imported from "+filepath.Base(file.Name()))
	if err != nil {
		return "", fmt.Errorf("unpacking image %s: %w", r.repository, err)
	}
	return image.ID, nil
}

// archive is the file in which people put an image into the store by hand.
func (s *Store) archive(r reference) string {
	return filepath.Join(s.archives(), r.repository+".tar")
}

// hasArchive says whether a name can be that of a file NAME.tar.
func hasArchive(r reference) bool {
	return r.tag == defaultTag && filepath.Base(r.repository) == r.repository
}

// checkRef checks the name of an image that is to be made, before the work is done.
func checkRef(ref string) error {
	if ref == "" {
		return nil
	}
	_, err := parseTag(ref)
	return err
}

// add adds an image, whose layers are there, and names it.
func (s *Store) add(parent []byte, image oci.Image, ref string) (*Image, error) {
	raw, err := encodeConfig(parent, image)
	if err != nil {
		return nil, err
	}
	added, err := s.writeConfig(raw)
	if err == nil && ref != "" {
		err = s.tag(added.ID, ref)
	}
	return added, err
}

// encodeConfig writes a configuration. What its parent's has that the OCI specification does not
// know, such as docker's HEALTHCHECK and ONBUILD, is kept.
func encodeConfig(parent []byte, image oci.Image) ([]byte, error) {
	var below struct{ Config json.RawMessage }
	if parent != nil {
		if err := json.Unmarshal(parent, &below); err != nil {
			return nil, fmt.Errorf("reading the parent's configuration: %w", err)
		}
	}
	config, err := overJSON(below.Config, image.Config,
		"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")
	if err != nil {
		return nil, err
	}
	whole, err := overJSON(parent, image, "author", "container", "container_config", "id", "parent")
	if err != nil {
		return nil, err
	}
	whole["config"] = config
	return json.Marshal(whole)
}

// overJSON returns the members of an object in JSON, without those given, with those that
// value has over them.
func overJSON(below []byte, value any, without ...string) (map[string]any, error) {
	members := map[string]any{}
	if len(below) > 0 {
		if err := json.Unmarshal(below, &members); err != nil {
			return nil, fmt.Errorf("reading the parent's configuration: %w", err)
		}
	}
	for _, name := range without {
		delete(members, name)
	}
	above, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(above, &members)
	}
	if err != nil {
		return nil, fmt.Errorf("writing the image's configuration: %w", err)
	}
	return members, nil
}
