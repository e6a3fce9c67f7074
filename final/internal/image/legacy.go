//go:build linux

package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lixd/mydocker/final/internal/oci"
)

// legacyLayer is the file json of a layer as docker wrote it before 1.10. Each layer was an image.
// See https://github.com/moby/docker-image-spec/blob/main/v1.md.
type legacyLayer struct {
	Parent          string
	Created         *time.Time
	Author          string
	Comment         string
	ContainerConfig struct {
		Cmd oci.CommandLine
	} `json:"container_config"`
	Config json.RawMessage

	id string
}

// describeLegacy returns the images of an archive that docker made before 1.10. It has a directory
// for each layer, and the file repositories with the names. There are no digests to verify.
func describeLegacy(ctx context.Context, a *archive) ([]described, error) {
	var repositories map[string]map[string]string
	if err := a.readJSON("repositories", &repositories); err != nil {
		return nil, err
	}
	names := map[string][]string{} // by the ID of the topmost layer
	for repository, tags := range repositories {
		for tag, id := range tags {
			names[id] = append(names[id], repository+":"+tag)
		}
	}
	var images []described
	for _, id := range slices.Sorted(maps.Keys(names)) {
		image, err := describeLegacyImage(ctx, a, id)
		if err != nil {
			return nil, fmt.Errorf("reading image %s: %w", id, err)
		}
		image.names = slices.Sorted(slices.Values(names[id]))
		images = append(images, image)
	}
	return images, nil
}

func describeLegacyImage(ctx context.Context, a *archive, id string) (image described, err error) {
	layers, err := legacyLayers(a, id)
	if err != nil {
		return described{}, err
	}
	rootfs, history := oci.RootFS{Type: "layers"}, []oci.History{}
	for _, layer := range layers {
		file := path.Join(layer.id, "layer.tar")
		diffID, err := uncompressedDigest(ctx, a, file)
		if err != nil {
			return described{}, err
		}
		image.layers = append(image.layers, blob{file: file})
		rootfs.DiffIDs = append(rootfs.DiffIDs, diffID)
		history = append(history, oci.History{
			Created: layer.Created, Author: layer.Author, Comment: layer.Comment,
			CreatedBy: strings.Join(layer.ContainerConfig.Cmd, " "),
		})
	}
	config := map[string]any{}
	if err := a.readJSON(path.Join(id, "json"), &config); err != nil {
		return described{}, err
	}
	for _, name := range []string{"id", "parent", "Size", "parent_id", "layer_id", "throwaway"} {
		delete(config, name)
	}
	config["rootfs"], config["history"] = rootfs, history
	image.raw, err = json.Marshal(config)
	return image, err
}

// maxLegacyLayers is how many layers docker allowed then.
const maxLegacyLayers = 127

// legacyLayers returns a layer and its parents, the lowest first.
func legacyLayers(a *archive, id string) (layers []legacyLayer, err error) {
	for id != "" {
		if len(layers) == maxLegacyLayers {
			return nil, errors.New("it has too many layers")
		}
		layer := legacyLayer{id: id}
		if err := a.readJSON(path.Join(id, "json"), &layer); err != nil {
			return nil, err
		}
		layers = append(layers, layer)
		id = layer.Parent
	}
	slices.Reverse(layers)
	return layers, nil
}

// uncompressedDigest returns the digest of a layer's archive when it is not compressed.
func uncompressedDigest(ctx context.Context, a *archive, file string) (oci.Digest, error) {
	section, err := a.open(file)
	if err != nil {
		return "", err
	}
	stream, err := decompress(ctx, section)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	h := newHasher()
	_, err = io.Copy(h, stream)
	digest, _ := h.sum()
	return digest, err
}
