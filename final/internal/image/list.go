//go:build linux

package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/lixd/mydocker/final/internal/oci"
	"github.com/lixd/mydocker/final/internal/record"
)

// none is what docker prints where there is nothing.
const none = "<none>"

// Row is a line of images.
type Row struct {
	Repository, Tag string     // <none> without a name
	ID              oci.Digest // empty for an archive that nobody has used yet
	Created         time.Time
	Size            int64 // bytes in the files of all layers
	Labels          map[string]string
	Damage          error // what is wrong with the image's records, in the first of its rows
}

// Columns returns repository, tag, ID, age and size as docker prints them. whole asks for the ID in full.
func (r Row) Columns(now time.Time, whole bool) []string {
	return []string{r.Repository, r.Tag, r.shownID(whole), ago(now, r.Created), humanSize(r.Size)}
}

func (r Row) shownID(whole bool) string {
	if r.ID == "" {
		return none
	}
	if whole {
		return string(r.ID)
	}
	return short(r.ID)
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

func humanSize(bytes int64) string { return units.HumanSizeWithPrecision(float64(bytes), 3) }

// List returns a row for every name of every image and for every image without one, the latest
// first.
func (s *Store) List() ([]Row, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for id := range names {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	var rows []Row
	for _, id := range ids {
		image, err := s.open(short(id), id)
		if errors.As(err, &NotFoundError{}) {
			if len(names[id]) == 0 {
				continue // being made or removed in this moment
			}
			err = damaged(short(id), id, record.ErrMissing)
		}
		if err != nil {
			rows = append(rows, Row{ID: id, Damage: err}.named(names[id])...)
			continue
		}
		rows = append(rows, image.row().named(names[id])...)
	}
	for _, name := range names[""] {
		_, err := s.idOf(name)
		rows = append(rows, Row{Damage: err}.named([]string{name})...)
	}
	archives, err := s.unusedArchives()
	if err != nil {
		return nil, err
	}
	rows = append(rows, archives...)
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
	return rows, nil
}

// row is what there is to say about the image, but for its names.
func (i *Image) row() Row {
	size, err := i.Size()
	return Row{ID: i.ID, Created: i.created(), Size: size, Labels: i.Config.Config.Labels, Damage: err}
}

// named returns a row for each of the names, or one without.
func (r Row) named(names []string) []Row {
	r.Repository, r.Tag = none, none
	if len(names) == 0 {
		return []Row{r}
	}
	rows := slices.Repeat([]Row{r}, len(names))
	for i, name := range names {
		rows[i].Repository = name
		if colon := strings.LastIndexByte(name, ':'); colon >= 0 {
			rows[i].Repository, rows[i].Tag = name[:colon], name[colon+1:]
		}
		if i > 0 {
			rows[i].Damage = nil // is said once
		}
	}
	return rows
}

// Names returns the image's names with their tags, in order.
func (i *Image) Names() ([]string, error) {
	names, err := i.store.names()
	if err != nil || names[i.ID] == nil {
		return []string{}, err
	}
	slices.Sort(names[i.ID])
	return names[i.ID], nil
}

func (i *Image) created() time.Time {
	if i.Config.Created == nil {
		return time.Time{}
	}
	return *i.Config.Created
}

// Size returns how many bytes are in the files of all layers.
func (i *Image) Size() (int64, error) {
	var size int64
	for _, id := range i.Config.RootFS.DiffIDs {
		rec, err := i.store.layer(id).read()
		if err != nil {
			return 0, fmt.Errorf("image %s: %w", i.ShortID(), err)
		}
		size += rec.Size
	}
	return size, nil
}

// unusedArchives returns the archives put in by hand that nobody has used yet.
func (s *Store) unusedArchives() (rows []Row, err error) {
	entries, err := os.ReadDir(s.archives())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the images: %w", err)
	}
	for _, entry := range entries {
		repository, found := strings.CutSuffix(entry.Name(), ".tar")
		r, err := parseReference(repository)
		if !found || err != nil || !hasArchive(r) {
			continue
		}
		if _, err := os.Lstat(s.nameLink(r.name())); err == nil {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // removed in this moment
		}
		rows = append(rows, Row{Repository: r.repository, Tag: r.tag, Created: info.ModTime(), Size: info.Size()})
	}
	return rows, nil
}

// Step is a line of history: what made a part of an image.
type Step struct {
	ID        oci.Digest // of the image, in the first line only
	Created   time.Time
	CreatedBy string
	Size      int64 // bytes in the files of the layer
	Comment   string
}

// createdByWidth is how many characters of what made a layer are shown.
const createdByWidth = 45

// Columns returns ID, age, what made it, size and comment as docker prints them. whole asks for
// everything in full.
func (s Step) Columns(now time.Time, whole bool) []string {
	id := "<missing>"
	if s.ID != "" {
		id = Row{ID: s.ID}.shownID(whole)
	}
	by := strings.ReplaceAll(s.CreatedBy, "\t", " ")
	if runes := []rune(by); !whole && len(runes) > createdByWidth {
		by = string(runes[:createdByWidth-1]) + "…"
	}
	return []string{id, ago(now, s.Created), by, humanSize(s.Size), s.Comment}
}

// History returns what made an image, the last step first. An image from elsewhere may have
// layers of which nothing is said.
func (s *Store) History(ctx context.Context, ref string) ([]Step, error) {
	image, err := s.Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	layers := image.Config.RootFS.DiffIDs
	var steps []Step
	for _, h := range image.Config.History {
		step := Step{CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			step.Created = *h.Created
		}
		if !h.EmptyLayer && len(layers) > 0 {
			rec, err := s.layer(layers[0]).read()
			if err != nil {
				return nil, err
			}
			step.Size, layers = rec.Size, layers[1:]
		}
		steps = append(steps, step)
	}
	for _, id := range layers {
		rec, err := s.layer(id).read()
		if err != nil {
			return nil, err
		}
		steps = append(steps, Step{Size: rec.Size})
	}
	slices.Reverse(steps)
	if len(steps) > 0 {
		steps[0].ID = image.ID
	}
	return steps, nil
}
