//go:build linux

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/lixd/mydocker/final/internal/oci"
)

// Loaded is one image that Load added.
type Loaded struct {
	ID    oci.Digest
	Names []string // that it got
}

// String is what docker load prints.
func (l Loaded) String() string {
	if len(l.Names) == 0 {
		return "Loaded image ID: " + string(l.ID)
	}
	return "Loaded image: " + strings.Join(l.Names, "\nLoaded image: ")
}

// described is an image as an archive describes it. Nothing in it is checked yet.
type described struct {
	names  []string
	config blob
	raw    []byte // the configuration itself, if the archive has none of today's
	layers []blob
}

// blob is a part of an image: a file of the archive, and the digest it is said to have.
type blob struct {
	file   string
	digest oci.Digest // empty if docker's format does not say
}

// Load adds the images of an archive as docker save, skopeo and podman make them: in docker's
// format or in the OCI image layout, compressed or not. Of an image for several platforms it
// takes this machine's. Everything is checked against its digest. progress may be nil.
func (s *Store) Load(ctx context.Context, r io.Reader, progress Progress) ([]Loaded, error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	a, err := openArchive(ctx, r, s.layersDir())
	if err != nil {
		return nil, err
	}
	defer a.close()
	images, err := describe(ctx, a)
	if err != nil {
		return nil, err
	}
	release, err := s.holdToAdd(ctx) // only now: an archive may be long in coming, and who removes waits for us
	if err != nil {
		return nil, err
	}
	defer release()
	var loaded []Loaded
	for _, image := range images {
		one, err := s.loadImage(ctx, a, image, progress)
		if err != nil {
			return loaded, err
		}
		loaded = append(loaded, one)
	}
	return loaded, nil
}

// describe returns the images of an archive. One in both formats, as docker makes it, has its
// names where they are plain.
func describe(ctx context.Context, a *archive) ([]described, error) {
	switch {
	case a.has("manifest.json"):
		return describeDocker(a)
	case a.has("index.json"):
		return describeLayout(a)
	case a.has("repositories"):
		return describeLegacy(ctx, a)
	default:
		return nil, errors.New("unrecognized image format: the archive has no manifest.json, index.json or repositories")
	}
}

// dockerManifest is a member of manifest.json. See
// https://github.com/moby/docker-image-spec/blob/main/v1.2.md.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func describeDocker(a *archive) (images []described, err error) {
	var manifests []dockerManifest
	if err := a.readJSON("manifest.json", &manifests); err != nil {
		return nil, err
	}
	for _, m := range manifests {
		image := described{names: m.RepoTags, config: blob{file: m.Config}}
		// The configuration's name is its digest: HEX.json of old, blobs/sha256/HEX today.
		if id := oci.DigestPrefix + strings.TrimSuffix(path.Base(m.Config), ".json"); isDigest(id) {
			image.config.digest = oci.Digest(id)
		}
		for _, layer := range m.Layers {
			image.layers = append(image.layers, blob{file: layer})
		}
		images = append(images, image)
	}
	return images, nil
}

// manifest is a manifest or an index of the OCI image layout: what is in it tells which.
type manifest struct {
	Manifests []oci.Descriptor
	Config    oci.Descriptor
	Layers    []oci.Descriptor
}

// describeLayout returns the images of an OCI image layout: all that have a name or a tag, or that
// say nothing of a platform. If there are none, the layout has one image for several platforms.
func describeLayout(a *archive) ([]described, error) {
	var index manifest
	if err := a.readJSON("index.json", &index); err != nil {
		return nil, err
	}
	descriptors := slices.Clone(index.Manifests)
	descriptors = slices.DeleteFunc(descriptors, func(d oci.Descriptor) bool {
		return d.Platform != nil && d.Annotations[oci.AnnotationRefName] == "" && nameOf(d) == ""
	})
	if len(descriptors) == 0 {
		d, err := choosePlatform(index.Manifests)
		if err != nil {
			return nil, err
		}
		descriptors = []oci.Descriptor{d}
	}
	at := map[oci.Digest]int{} // the place in images, by the manifest
	var images []described
	for _, d := range descriptors {
		i, known := at[d.Digest]
		if !known {
			image, err := describeManifest(a, d, maxDepth)
			if err != nil {
				return nil, err
			}
			i = len(images)
			at[d.Digest] = i
			images = append(images, image)
		}
		if name := nameOf(d); name != "" {
			images[i].names = append(images[i].names, name)
		}
	}
	return images, nil
}

// nameOf returns the name that a descriptor's annotations give an image. That of the OCI
// specification may be a tag alone, which names nothing.
func nameOf(d oci.Descriptor) string {
	if name := d.Annotations["io.containerd.image.name"]; name != "" {
		return name
	}
	if name := d.Annotations[oci.AnnotationRefName]; strings.ContainsAny(name, ":/") {
		return name
	}
	return ""
}

// maxDepth is how deep an index may be in indexes.
const maxDepth = 4

func describeManifest(a *archive, d oci.Descriptor, depth int) (described, error) {
	b, err := blobOf(d)
	if err != nil {
		return described{}, err
	}
	data, err := readVerified(a, b)
	if err != nil {
		return described{}, err
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return described{}, fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	if len(m.Manifests) > 0 {
		if depth == 0 {
			return described{}, errors.New("the archive has an index in an index in an index and so on")
		}
		d, err := choosePlatform(m.Manifests)
		if err != nil {
			return described{}, err
		}
		return describeManifest(a, d, depth-1)
	}
	var image described
	if image.config, err = blobOf(m.Config); err != nil {
		return described{}, err
	}
	for _, layer := range m.Layers {
		b, err := blobOf(layer)
		if err != nil {
			return described{}, err
		}
		image.layers = append(image.layers, b)
	}
	return image, nil
}

// choosePlatform returns the descriptor of the image for this machine, or the only one.
func choosePlatform(descriptors []oci.Descriptor) (oci.Descriptor, error) {
	if len(descriptors) == 1 {
		return descriptors[0], nil
	}
	var has []string
	for _, d := range descriptors {
		if d.Platform == nil {
			continue
		}
		if d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH {
			return d, nil
		}
		if d.Platform.OS != "unknown" { // so are the remarks that buildkit adds
			has = append(has, d.Platform.OS+"/"+d.Platform.Architecture)
		}
	}
	return oci.Descriptor{}, fmt.Errorf("the archive has no image for linux/%s (it has: %s)", runtime.GOARCH, strings.Join(has, " "))
}

func blobOf(d oci.Descriptor) (blob, error) {
	if !isDigest(string(d.Digest)) {
		return blob{}, fmt.Errorf("%q is no digest that mydocker knows", d.Digest)
	}
	return blob{file: blobFile(d.Digest), digest: d.Digest}, nil
}

func readVerified(a *archive, b blob) ([]byte, error) {
	data, err := a.read(b.file)
	if err != nil {
		return nil, err
	}
	if found := oci.FromBytes(data); b.digest != "" && found != b.digest {
		return nil, mismatch(b.file, found, b.digest)
	}
	return data, nil
}

func mismatch(what string, found, wanted oci.Digest) error {
	return fmt.Errorf("verifying %s: its digest is %s, not %s", what, found, wanted)
}

// loadImage adds an image: first its layers, then its configuration, then its names.
func (s *Store) loadImage(ctx context.Context, a *archive, image described, progress Progress) (Loaded, error) {
	raw := image.raw
	if raw == nil {
		var err error
		if raw, err = readVerified(a, image.config); err != nil {
			return Loaded{}, err
		}
	}
	i, err := s.FromConfig(raw)
	if err != nil {
		return Loaded{}, err
	}
	if err := checkPlatform(i.Config, len(image.layers)); err != nil {
		return Loaded{}, err
	}
	for n, id := range i.Config.RootFS.DiffIDs {
		if s.isWhole(ctx, a, image.layers[n], id) {
			continue
		}
		if err := s.loadLayer(ctx, a, image.layers[n], id, progress); err != nil {
			return Loaded{}, fmt.Errorf("unpacking layer %s: %w", short(id), err)
		}
	}
	if _, err := s.writeConfig(raw); err != nil {
		return Loaded{}, err
	}
	loaded := Loaded{ID: i.ID}
	for _, name := range image.names {
		if err := s.tag(i.ID, name); err != nil {
			return Loaded{}, err
		}
		r, err := parseTag(name)
		if err != nil {
			return Loaded{}, err
		}
		loaded.Names = append(loaded.Names, r.name())
	}
	return loaded, nil
}

func checkPlatform(image oci.Image, layers int) error {
	if len(image.RootFS.DiffIDs) != layers {
		return fmt.Errorf("the image has %d layers by its configuration, and %d by its manifest", len(image.RootFS.DiffIDs), layers)
	}
	if image.OS != "" && image.OS != "linux" {
		return fmt.Errorf("the image is for %s", image.OS)
	}
	return nil
}

func (s *Store) loadLayer(ctx context.Context, a *archive, b blob, id oci.Digest, progress Progress) error {
	section, err := a.open(b.file)
	if err != nil {
		return err
	}
	reader := progressReader{Reader: section, layer: id, total: section.Size(), progress: progress}
	_, err = s.newLayer(ctx, func(files string) (layerRecord, error) {
		size, err := unpackVerified(ctx, &reader, files, b, id)
		return layerRecord{DiffID: id, Size: size}, err
	})
	return err
}

// unpackVerified unpacks a layer, and checks on the way that it has the digests that it should
// have: as it is in the archive, and uncompressed.
func unpackVerified(ctx context.Context, r io.Reader, files string, b blob, id oci.Digest) (size int64, err error) {
	if b.digest == "" || b.digest == id {
		return unpackHashed(ctx, r, files, id)
	}
	h := newHasher()
	size, err = unpackHashed(ctx, io.TeeReader(r, h), files, id)
	if err != nil {
		return 0, err // a program that decompresses the layer may still be fed, and h with it
	}
	if found, _ := h.sum(); found != b.digest {
		return 0, mismatch(b.file, found, b.digest)
	}
	return size, nil
}

func unpackHashed(ctx context.Context, r io.Reader, files string, id oci.Digest) (size int64, err error) {
	stream, err := decompress(ctx, r)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	h := newHasher()
	tee := io.TeeReader(stream, h)
	size, err = unpack(ctx, tee, files)
	if err == nil || errors.Is(err, errEmpty) { // a layer may change nothing
		_, err = io.Copy(io.Discard, tee) // what comes after the end belongs to the digest
	}
	found, _ := h.sum()
	if err == nil && found != id {
		err = mismatch("it uncompressed", found, id)
	}
	return size, err
}
