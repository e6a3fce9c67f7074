package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The lines of a README that a table stands between.
const (
	tableStart = "<!-- changes -->"
	tableEnd   = "<!-- /changes -->"
)

// language is what a table says in one of the READMEs.
type language struct {
	readme   string
	headings []string
	newFile  string
}

var languages = []language{
	{"README.md", []string{"File", "New", "Changed", "Gone"}, "new file: "},
	{"README.zh-CN.md", []string{"文件", "新增", "修改", "删除"}, "新文件："},
}

// row is what changes in one file.
type row struct {
	isNew              bool // the file, and with it all that is in it
	new, changed, gone []string
}

// table writes into the READMEs what changes, or checks that they say it. It looks at all
// of them, whatever is wrong with one.
func table(root string, stages []stage, check bool) error {
	var before stage
	var errs []error
	for _, s := range stages {
		rows := compare(before, s)
		for _, lang := range languages {
			errs = append(errs, lang.update(root, path.Join(s.dir, lang.readme), rows, check))
		}
		before = s
	}
	return errors.Join(errs...)
}

// compare returns what differs between two stages, by file. What has only moved to another
// file has not changed.
func compare(before, now stage) map[string]*row {
	rows := map[string]*row{}
	at := func(it item) *row {
		if rows[it.file] == nil {
			rows[it.file] = &row{isNew: true}
		}
		return rows[it.file]
	}
	for _, it := range now.items {
		r := at(it)
		old, known := before.byID[it.id]
		switch {
		case !known:
			r.new = it.appendTo(r.new)
		case old.text != it.text:
			r.changed = it.appendTo(r.changed)
		}
		r.isNew = r.isNew && !known
	}
	for _, it := range before.items {
		if _, stays := now.byID[it.id]; !stays {
			r := at(it)
			r.gone = it.appendTo(r.gone)
			r.isNew = false
		}
	}
	return rows
}

// appendTo appends the item as a table shows it, unless it is none of a table's business.
func (it item) appendTo(cell []string) []string {
	base := path.Base(it.file)
	switch {
	case it.isHeader() || strings.HasSuffix(base, "_test.go") || base == "go.mod" || base == "go.sum":
		return cell
	case it.name == otherFile:
		return append(cell, "`"+base+"`")
	}
	return append(cell, "`"+it.name+"`")
}

// update puts the table into a README, or checks that it is there.
func (l language) update(root, readme string, rows map[string]*row, check bool) error {
	file := filepath.Join(root, readme)
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading a README: %w", err)
	}
	head, rest, started := strings.Cut(string(data), tableStart)
	_, tail, ended := strings.Cut(rest, tableEnd)
	if !started || !ended {
		return fmt.Errorf("%s has no lines %s and %s for the table", readme, tableStart, tableEnd)
	}
	text := head + tableStart + "\n\n" + l.format(rows) + "\n" + tableEnd + tail
	switch {
	case text == string(data):
		return nil
	case check:
		return fmt.Errorf("%s is out of date: what changes is not what its table says; run: make lock", readme)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing a README: %w", err)
	}
	return nil
}

// format returns the table in Markdown.
func (l language) format(rows map[string]*row) string {
	var text strings.Builder
	line := func(cells ...string) {
		text.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	line(l.headings...)
	line("---", "---", "---", "---")
	for _, file := range slices.Sorted(maps.Keys(rows)) {
		r := rows[file]
		if len(r.new)+len(r.changed)+len(r.gone) == 0 {
			continue
		}
		added := strings.Join(r.new, ", ")
		if r.isNew {
			added = l.newFile + added
		}
		line("`"+file+"`", added, strings.Join(r.changed, ", "), strings.Join(r.gone, ", "))
	}
	return text.String()
}
