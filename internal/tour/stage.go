package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// stage is one directory of the tour, taken apart.
type stage struct {
	dir   string // as in ch03-cgroups
	items []item // by file, and in a file in the order of its source
	byID  map[string]item
}

// item is a part of a stage: a declaration, or a file that is not Go.
type item struct {
	file string // in the stage, with slashes
	name string // as in "func (overlay) mount", or otherFile
	text string // what to compare; never empty
	id   string // what it is known by in all stages
}

// otherFile is the name of an item that is a file which is not Go.
const otherFile = "file"

// newItem is known by its package and name: a declaration stays itself when it moves to
// another file. See identify for those that this does not tell apart.
func newItem(file, name, text string) item {
	it := item{file: file, name: name, text: text, id: path.Dir(file) + " " + name}
	if name == otherFile || it.isHeader() {
		it.id = file + " " + name
	}
	return it
}

// isHeader tells whether the item is what a Go file holds besides declarations and imports:
// the package clause, the build constraint, and comments that belong to no declaration.
func (it item) isHeader() bool {
	return strings.HasPrefix(it.name, "package ")
}

// name is how the stage is called in short, as in ch03.
func (s stage) name() string {
	name, _, _ := strings.Cut(s.dir, "-")
	return name
}

// stageDir does not match final: that is no copy of the chapter before it.
var stageDir = regexp.MustCompile(`^ch[0-9][0-9]-.+$`)

// readStages reads all stages under root, in the order of the tour.
func readStages(root string) ([]stage, error) {
	entries, err := os.ReadDir(root) // sorted, and so is the tour
	if err != nil {
		return nil, fmt.Errorf("looking for stages: %w", err)
	}
	var stages []stage
	for _, entry := range entries {
		if !entry.IsDir() || !stageDir.MatchString(entry.Name()) {
			continue
		}
		s, err := readStage(root, entry.Name())
		if err != nil {
			return nil, err
		}
		stages = append(stages, s)
	}
	if len(stages) == 0 {
		return nil, errors.New("no stages here (run tour in the repository's root)")
	}
	identify(stages)
	return stages, nil
}

func readStage(root, dir string) (stage, error) {
	s := stage{dir: dir}
	files := os.DirFS(filepath.Join(root, dir))
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && leftOut(name):
			return fs.SkipDir
		case entry.IsDir() || leftOut(name):
			return nil
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		items, err := split(name, s.normalise(string(data)))
		s.items = append(s.items, items...)
		return err
	})
	if err != nil {
		return s, fmt.Errorf("reading %s: %w", dir, err)
	}
	return s, nil
}

// leftOut tells what belongs to one chapter alone, and what editors and systems leave behind.
func leftOut(name string) bool {
	base := path.Base(name)
	readme, _ := path.Match("README*.md", base) // the pattern is good
	return readme || base == "testdata" || base != "." && strings.HasPrefix(base, ".")
}

// normalise takes the stage's own name out of a text, which is no change to talk about.
func (s stage) normalise(text string) string {
	return strings.ReplaceAll(text, s.dir, "STAGE")
}

// split takes a file apart.
func split(file, text string) ([]item, error) {
	if path.Ext(file) == ".go" {
		return splitGo(file, text)
	}
	return []item{newItem(file, otherFile, fmt.Sprintf("%x", sha256.Sum256([]byte(text))))}, nil
}

// identify tells items apart that a stage has twice, because of build constraints: there the
// file is part of what they are known by, in all stages.
func identify(stages []stage) {
	twins := map[string]bool{}
	for _, s := range stages {
		seen := map[string]bool{}
		for _, it := range s.items {
			twins[it.id] = twins[it.id] || seen[it.id]
			seen[it.id] = true
		}
	}
	for i, s := range stages {
		stages[i].byID = map[string]item{}
		for j, it := range s.items {
			if twins[it.id] {
				s.items[j].id = it.file + " " + it.name
			}
			stages[i].byID[s.items[j].id] = s.items[j]
		}
	}
}
