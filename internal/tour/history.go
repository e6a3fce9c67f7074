package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// history is what becomes of one item on the way through the stages. It is a line of the lock.
type history struct {
	file    string // in the last stage that has the item
	name    string
	changes string // the stages in which it changes, as in "ch01 ch03 -ch04"
}

func (h history) String() string {
	return h.name + " (" + h.file + ")"
}

// histories follows every item, by file and name. The error tells of texts that return.
func histories(stages []stage) ([]history, error) {
	var all []history
	var errs []error
	followed := map[string]bool{}
	for _, s := range stages {
		for _, it := range s.items {
			if followed[it.id] {
				continue
			}
			followed[it.id] = true
			h, err := follow(it.id, stages)
			all = append(all, h)
			errs = append(errs, err)
		}
	}
	slices.SortFunc(all, func(a, b history) int {
		return cmp.Or(strings.Compare(a.file, b.file), strings.Compare(a.name, b.name))
	})
	return all, errors.Join(errs...)
}

// follow follows one item. It must not return to an earlier text: either the stage between
// has missed something, or the later one has lost something.
func follow(id string, stages []stage) (history, error) {
	var h history
	var before item
	var changes []string
	var errs []error
	last := map[string]string{} // the last stage with a text
	for i, s := range stages {
		now := s.byID[id]
		if now.text != "" {
			h.file, h.name = now.file, now.name
		}
		switch {
		case now.text == before.text:
		case now.text == "":
			changes = append(changes, "-"+s.name())
		default:
			changes = append(changes, s.name())
			// A file that is back after it was gone may have its old header, and new declarations.
			newFile := before.text == "" && now.isHeader()
			if earlier := last[now.text]; earlier != "" && !newFile {
				errs = append(errs, fmt.Errorf("%v is in %s again what it was in %s, and in %s it is not", h, s.name(), earlier, stages[i-1].name()))
			}
		}
		last[now.text] = s.name()
		before = now
	}
	h.changes = strings.Join(changes, " ")
	return h, errors.Join(errs...)
}
