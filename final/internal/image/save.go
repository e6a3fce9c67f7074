//go:build linux

package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/lixd/mydocker/final/internal/oci"
)

// Save writes images to an archive that is both in docker's format and an OCI image layout, as
// docker's own is. The same images make the same archive. A name without a tag stands for all tags
// that it has. An image that is given by its ID is saved without a name.
//
// A layer is packed anew. If it was loaded from an archive that another program packed, the new
// one may have another digest. Then the saved image has another configuration, and so another
// ID, and all of it agrees.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	sv := saver{store: s, tar: tar.NewWriter(w), written: map[oci.Digest]bool{}}
	for _, ref := range refs {
		names, err := s.withAllTags(ref)
		for _, name := range names {
			err = errors.Join(err, sv.save(ctx, name))
		}
		if err != nil {
			return fmt.Errorf("saving image %s: %w", ref, err)
		}
	}
	if err := sv.writeIndex(); err != nil {
		return fmt.Errorf("saving the images: %w", err)
	}
	return nil
}

// withAllTags returns the names that a name without a tag stands for, and otherwise ref alone.
func (s *Store) withAllTags(ref string) ([]string, error) {
	r, err := parseReference(ref)
	if err != nil || r.digest != "" || strings.HasSuffix(ref, ":"+r.tag) {
		return []string{ref}, nil //nolint:nilerr // it may be an ID
	}
	all, err := s.names()
	if err != nil {
		return nil, err
	}
	var tagged []string
	for _, names := range all {
		for _, name := range names {
			if name[:strings.LastIndexByte(name, ':')] == r.repository {
				tagged = append(tagged, name)
			}
		}
	}
	_, err = os.Lstat(s.archive(r))
	packed := err == nil && hasArchive(r) && !slices.Contains(tagged, r.name())
	if len(tagged) == 0 || packed {
		tagged = append(tagged, ref)
	}
	slices.Sort(tagged)
	return tagged, nil
}

type saver struct {
	store   *Store
	tar     *tar.Writer
	written map[oci.Digest]bool // the blobs that are in the archive
	images  []saved
}

// saved is an image whose blobs are in the archive.
type saved struct {
	id       oci.Digest // in the store
	names    []reference
	manifest oci.Descriptor
	config   oci.Digest
	layers   []oci.Descriptor
}

func (sv *saver) save(ctx context.Context, ref string) error {
	image, err := sv.store.Find(ctx, ref)
	if err != nil {
		return err
	}
	if at := slices.IndexFunc(sv.images, func(other saved) bool { return other.id == image.ID }); at >= 0 {
		sv.remember(sv.images[at], ref)
		return nil
	}
	one := saved{id: image.ID}
	raw := image.Raw
	diffIDs := image.Config.RootFS.DiffIDs
	for _, id := range diffIDs {
		layer, err := sv.saveLayer(ctx, id)
		if err != nil {
			return err
		}
		one.layers = append(one.layers, layer)
	}
	if repacked := layerDigests(one.layers); !slices.Equal(repacked, diffIDs) {
		config := image.Config
		config.RootFS.DiffIDs = repacked
		if raw, err = encodeConfig(image.Raw, config); err != nil {
			return err
		}
	}
	config, err := sv.writeBlob(oci.MediaTypeImageConfig, raw)
	if err != nil {
		return err
	}
	one.config = config.Digest
	data, err := json.Marshal(oci.Manifest{
		SchemaVersion: oci.SchemaVersion,
		MediaType:     oci.MediaTypeImageManifest,
		Config:        config,
		Layers:        one.layers,
	})
	if err != nil {
		return err
	}
	if one.manifest, err = sv.writeBlob(oci.MediaTypeImageManifest, data); err != nil {
		return err
	}
	sv.remember(one, ref)
	return nil
}

// remember keeps an image for the index, once, with all the names under which it was asked for.
func (sv *saver) remember(one saved, ref string) {
	at := slices.IndexFunc(sv.images, func(other saved) bool { return other.manifest.Digest == one.manifest.Digest })
	if at < 0 {
		at = len(sv.images)
		sv.images = append(sv.images, one)
	}
	r, err := parseReference(ref)
	if err != nil || r.digest != "" {
		return // an ID
	}
	if _, err := sv.store.idOf(r.name()); err == nil && !slices.Contains(sv.images[at].names, r) {
		sv.images[at].names = append(sv.images[at].names, r)
	}
}

func layerDigests(layers []oci.Descriptor) (digests []oci.Digest) {
	for _, layer := range layers {
		digests = append(digests, layer.Digest)
	}
	return digests
}

// saveLayer packs a layer. The archive around it has to be told its size and its digest
// first: where they are not known, the layer is packed twice.
func (sv *saver) saveLayer(ctx context.Context, id oci.Digest) (oci.Descriptor, error) {
	l := sv.store.layer(id)
	rec, err := l.read()
	if err != nil || rec.Packed == 0 { // the record says nothing that the files do not
		if rec, err = packLayer(ctx, l.files()); err != nil {
			return oci.Descriptor{}, fmt.Errorf("packing layer %s: %w", short(id), err)
		}
	}
	d := oci.Descriptor{MediaType: oci.MediaTypeImageLayer, Digest: rec.DiffID, Size: rec.Packed}
	if sv.written[d.Digest] {
		return d, nil
	}
	sv.written[d.Digest] = true
	if err := sv.tar.WriteHeader(blobHeader(d)); err != nil {
		return d, err
	}
	h := newHasher()
	_, err = pack(ctx, l.files(), io.MultiWriter(sv.tar, h))
	found, _ := h.sum()
	if err == nil && found != d.Digest {
		err = errors.New("its files have changed")
	}
	if err != nil {
		return d, fmt.Errorf("packing layer %s: %w", short(id), err)
	}
	return d, nil
}

func (sv *saver) writeBlob(mediaType string, data []byte) (oci.Descriptor, error) {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(data), Size: int64(len(data))}
	if sv.written[d.Digest] {
		return d, nil
	}
	sv.written[d.Digest] = true
	return d, sv.write(blobHeader(d), data)
}

func blobHeader(d oci.Descriptor) *tar.Header {
	return header(blobFile(d.Digest), d.Size)
}

// header is of a file that belongs to nobody and was made at no time, which tar takes for 1970.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}
}

func (sv *saver) write(h *tar.Header, data []byte) error {
	if err := sv.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := sv.tar.Write(data)
	return err
}

func (sv *saver) writeJSON(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return sv.write(header(name, int64(len(data))), data)
}

// writeIndex ends the archive with what says which images are in it, in both formats.
func (sv *saver) writeIndex() error {
	index := oci.Index{SchemaVersion: oci.SchemaVersion, MediaType: oci.MediaTypeImageIndex}
	var manifests []dockerManifest
	for _, one := range sv.images {
		m := dockerManifest{Config: blobFile(one.config)}
		for _, name := range one.names {
			m.RepoTags = append(m.RepoTags, name.name())
			d := one.manifest
			d.Annotations = map[string]string{
				"io.containerd.image.name": name.full(),
				oci.AnnotationRefName:      name.tag,
			}
			index.Manifests = append(index.Manifests, d)
		}
		if len(one.names) == 0 {
			index.Manifests = append(index.Manifests, one.manifest)
		}
		for _, layer := range one.layers {
			m.Layers = append(m.Layers, blobFile(layer.Digest))
		}
		manifests = append(manifests, m)
	}
	return errors.Join(
		sv.writeJSON("index.json", index),
		sv.writeJSON("manifest.json", manifests),
		sv.writeJSON(oci.ImageLayoutFile, oci.ImageLayout{Version: oci.ImageLayoutVersion}),
		sv.tar.Close(),
	)
}

func blobFile(d oci.Digest) string { return "blobs/sha256/" + d.Encoded() }
