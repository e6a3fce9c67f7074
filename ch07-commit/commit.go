//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"
)

func newCommitCommand() *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "make an image of a container: of the one it was started from, and its changes",
		ArgsUsage: "CONTAINER IMAGE",
		Before:    requireRoot,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Len() != 2 {
				return errors.New("commit needs a container and an image (see mydocker commit --help)")
			}
			return commit(cmd.Args().Get(0), cmd.Args().Get(1))
		},
	}
}

// commit copies the container's layer, and makes an image of the copy and the layers below.
// So it costs what the changes do, however large the image is.
func commit(container, image string) error {
	if err := checkImageName(image); err != nil {
		return err
	}
	id, err := findContainer(container)
	if err != nil {
		return err
	}
	o := overlay{Dir: filepath.Join(containersDir(), id)}
	below, err := readLayers(o.lowerFile())
	if err != nil {
		return fmt.Errorf("reading the layers of container %s: %w", shortID(id), err)
	}
	layer, err := newLayer(o.upper(), findFreezer(id))
	if err != nil {
		return fmt.Errorf("committing container %s: %w", shortID(id), err)
	}
	if err := saveImage(image, append([]string{layer}, below...)); err != nil {
		return fmt.Errorf("committing container %s: %w", shortID(id), err)
	}
	fmt.Println(filepath.Base(layer))
	return nil
}

// findContainer returns the ID that is this, or the only one that begins with it.
func findContainer(prefix string) (string, error) {
	if prefix == "" {
		return "", errors.New(`invalid name or ID supplied: ""`)
	}
	entries, err := os.ReadDir(containersDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("looking for containers: %w", err)
	}
	var found []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			found = append(found, entry.Name())
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no such container: %s", prefix)
	case 1:
		return found[0], nil
	default:
		return "", fmt.Errorf("multiple IDs found with provided prefix: %s", prefix)
	}
}

// layersDir holds the layers that commit makes. They never change: images and containers
// share them.
func layersDir() string {
	return filepath.Join(stateDir(), "layers")
}

// newLayer copies a directory to a layer of its own, while nobody changes it.
func newLayer(dir string, container *freezer) (layer string, err error) {
	if err := os.MkdirAll(layersDir(), 0o700); err != nil {
		return "", err
	}
	layer = shortID(newID())
	err = makeWhole(layersDir(), layer, func(ctx context.Context, copied string) (err error) {
		if err := container.stop(); err != nil {
			return err
		}
		defer undo(&err, container.goOn)
		return copyTree(ctx, dir, copied)
	})
	return filepath.Join(layersDir(), layer), err
}

// saveImage gives a name to layers. An image of that name is replaced in one step; its
// layers stay, for the containers and images that use them.
func saveImage(name string, layers []string) error {
	dir := filepath.Join(imagesDir(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return writeLayers(filepath.Join(dir, layersFile), layers)
}

// layersFile is the file of a committed image with the names of its layers.
const layersFile = "layers"

// writeLayers writes down layers, the topmost first, by their paths within stateDir.
func writeLayers(file string, layers []string) error {
	var names strings.Builder
	for _, layer := range layers {
		name, err := filepath.Rel(stateDir(), layer)
		if err != nil {
			return err
		}
		fmt.Fprintln(&names, name)
	}
	return replaceFile(file, []byte(names.String()))
}

func readLayers(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var layers []string
	for name := range strings.Lines(string(data)) {
		layers = append(layers, filepath.Join(stateDir(), strings.TrimSuffix(name, "\n")))
	}
	return layers, nil
}
