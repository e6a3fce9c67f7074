//go:build linux

package main

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/image"
)

// imagesOptions is what the command line of images asks for.
type imagesOptions struct {
	quiet   bool
	noTrunc bool
	digests bool
	format  string
}

func newImagesCommand() *cli.Command {
	var opts imagesOptions
	return &cli.Command{
		Name:      "images",
		Usage:     "list the images",
		ArgsUsage: "[NAME[:TAG]]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "which is what is listed in any case"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print IDs only", Destination: &opts.quiet},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not shorten IDs", Destination: &opts.noTrunc},
			&cli.BoolFlag{Name: "digests", Usage: "print what a registry calls them", Destination: &opts.digests},
			&cli.StringFlag{Name: "format", Usage: "table, json, or a template of Go's", Destination: &opts.format},
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "list those with dangling, reference, before, since or label, as in dangling=true"},
		},
		Before: requireRoot,
		Action: needArgs(0, 1, func(ctx context.Context, cmd *cli.Command) error {
			filters := cmd.StringSlice("filter")
			if cmd.Args().Present() {
				filters = append(filters, "reference="+cmd.Args().First())
			}
			return opts.list(ctx, filters)
		}),
	}
}

func (o *imagesOptions) list(ctx context.Context, filters []string) error {
	find := func(name string) (*image.Image, error) { return images().Find(ctx, name) }
	filter, err := newFilter(filters, func(key, value string) error { return checkImageFilter(find, key, value) })
	if err != nil {
		return err
	}
	all, err := images().List()
	if err != nil {
		return err
	}
	var rows []imageRow
	for _, r := range all {
		warn(r.Damage)
		if filter.matches(func(key, value string) bool { return matchesImage(find, r, key, value) }) {
			rows = append(rows, newImageRow(r, o.noTrunc))
		}
	}
	if o.quiet {
		return printIDs(o.format, rows, func(row imageRow) string { return row.ID })
	}
	digest := ""
	if o.digests {
		digest = "{{.Digest}}\t"
	}
	return printRows(o.format, "table {{.Repository}}\t{{.Tag}}\t"+digest+"{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", imageHeading, rows)
}

// imageRow is what images prints of an image, and what a format may name.
type imageRow struct {
	CreatedAt    string
	CreatedSince string
	Digest       string
	ID           string
	Repository   string
	Size         string
	Tag          string
}

var imageHeading = map[string]string{
	"CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST", "ID": "IMAGE ID",
	"Repository": "REPOSITORY", "Size": "SIZE", "Tag": "TAG",
}

func newImageRow(r image.Row, whole bool) imageRow {
	columns := r.Columns(time.Now(), whole)
	return imageRow{
		Repository: columns[0], Tag: columns[1], ID: columns[2], CreatedSince: columns[3], Size: columns[4],
		CreatedAt: r.Created.Format(createdAt),
		Digest:    "<none>", // it would come from a registry
	}
}

func checkImageFilter(find func(string) (*image.Image, error), key, value string) error {
	switch key {
	case "label":
		return nil
	case "dangling":
		if value != "true" && value != "false" {
			return fmt.Errorf("invalid filter 'dangling=%s'", value)
		}
		return nil
	case "reference":
		_, err := path.Match(value, "")
		return err
	case "before", "since":
		_, err := find(value)
		return err
	}
	return fmt.Errorf("invalid filter '%s'", key)
}

func matchesImage(find func(string) (*image.Image, error), r image.Row, key, value string) bool {
	switch key {
	case "label":
		return hasLabel(r.Labels, value)
	case "dangling":
		return (r.Repository == "<none>") == (value == "true")
	case "reference":
		byName, _ := path.Match(value, r.Repository) // it was checked
		byTag, _ := path.Match(value, r.Repository+":"+r.Tag)
		return byName || byTag
	}
	other, err := find(value)
	if err != nil || other.Config.Created == nil {
		return false
	}
	if key == "before" {
		return r.Created.Before(*other.Config.Created)
	}
	return r.Created.After(*other.Config.Created)
}

func newHistoryCommand() *cli.Command {
	var quiet, noTrunc bool
	var format string
	return &cli.Command{
		Name:      "history",
		Usage:     "print what made an image",
		ArgsUsage: "IMAGE",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print IDs only", Destination: &quiet},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not shorten anything", Destination: &noTrunc},
			&cli.StringFlag{Name: "format", Usage: "table, json, or a template of Go's", Destination: &format},
		},
		Before: requireRoot,
		Action: needArgs(1, 1, func(ctx context.Context, cmd *cli.Command) error {
			steps, err := images().History(ctx, cmd.Args().First())
			if err != nil {
				return err
			}
			var rows []historyRow
			for _, step := range steps {
				columns := step.Columns(time.Now(), noTrunc)
				rows = append(rows, historyRow{ID: columns[0], CreatedSince: columns[1], CreatedBy: columns[2], Size: columns[3], Comment: columns[4]})
			}
			if quiet {
				return printIDs(format, rows, func(row historyRow) string { return row.ID })
			}
			return printRows(format, "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}", historyHeading, rows)
		}),
	}
}

// historyRow is what history prints of a step, and what a format may name.
type historyRow struct{ ID, CreatedSince, CreatedBy, Size, Comment string }

var historyHeading = map[string]string{"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}

// newImageCommand has some of the commands for images under the names that docker gives them too.
func newImageCommand() *cli.Command {
	list, remove := newImagesCommand(), newRmiCommand()
	list.Name, list.Aliases = "ls", []string{"list"}
	remove.Name, remove.Aliases = "rm", []string{"remove"}
	return &cli.Command{
		Name:            "image",
		Usage:           "do something with images",
		HideHelpCommand: true,
		Before:          requireRoot,
		Action:          helpOnly,
		Commands:        []*cli.Command{list, remove, newTagCommand(), newHistoryCommand(), newImportCommand(), newLoadCommand(), newSaveCommand()},
	}
}
