//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"
)

func newImagesCommand() *cli.Command {
	return &cli.Command{
		Name:   "images",
		Usage:  "list the images",
		Before: requireRoot,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return errors.New("images takes no arguments")
			}
			return listImages()
		},
	}
}

func listImages() error {
	table := tabwriter.NewWriter(os.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tLAYERS\tCREATED\tSIZE")
	for _, name := range imageNames() {
		created, layers, err := findImage(name)
		if err != nil {
			return fmt.Errorf("reading image %s: %w", name, err)
		}
		size, err := sizeOf(layers)
		if err != nil {
			return fmt.Errorf("reading image %s: %w", name, err)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%.1fMB\n", name, len(layers), created.Format(time.DateTime), float64(size)/1e6)
	}
	return table.Flush()
}

// findImage returns when an image was made, and its layers. An archive that nobody has
// unpacked yet counts as one.
func findImage(name string) (created time.Time, layers []string, err error) {
	dir := filepath.Join(imagesDir(), name)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		layers = []string{dir + ".tar"}
		info, err = os.Stat(layers[0])
	}
	if err != nil {
		return created, nil, err
	}
	if layers == nil {
		layers, err = openImage(name)
	}
	return info.ModTime(), layers, err
}

// sizeOf returns how many bytes are in the files of all layers.
func sizeOf(layers []string) (size int64, err error) {
	for _, layer := range layers {
		err = errors.Join(err, filepath.WalkDir(layer, func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				size += info.Size()
			}
			return err
		}))
	}
	return size, err
}
