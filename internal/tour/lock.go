package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	lockFile   = "stages.lock"
	lockHeader = "# The stages in which each declaration, and each file that is not Go, changes. Written by: make lock\n"
)

// lock writes the lock, or checks that it is as it would be written. There is nothing in it
// of the texts themselves: an edit that is carried through all stages leaves it as it is.
func lock(root string, stages []stage, check bool) error {
	all, returns := histories(stages)
	file := filepath.Join(root, lockFile)
	if check {
		return errors.Join(returns, checkLock(file, all))
	}
	if returns != nil {
		return returns
	}
	if err := os.WriteFile(file, []byte(formatLock(all)), 0o644); err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	return nil
}

func formatLock(all []history) string {
	var text strings.Builder
	text.WriteString(lockHeader)
	for _, h := range all {
		fmt.Fprintf(&text, "%s\t%s\t%s\n", h.file, h.name, h.changes)
	}
	return text.String()
}

// checkLock returns an error for every difference between what became of the items and what
// the lock says.
func checkLock(file string, all []history) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the lock: %w", err)
	}
	lock := parseLock(string(data))
	var errs []error
	differs := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(lockFile+" is out of date: "+format+
			"; if that is meant, run: make lock; if not, a change was not carried forward: make forward", args...))
	}
	for _, h := range all {
		changes, known := lock[h.String()]
		delete(lock, h.String())
		switch {
		case !known:
			differs("%v changes in %s, the lock does not have it", h, h.changes)
		case changes != h.changes:
			differs("%v changes in %s, the lock says %s", h, h.changes, changes)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lock)) {
		differs("%s is in the lock, but in no stage", name)
	}
	if len(errs) == 0 && string(data) != formatLock(all) {
		return errors.New(lockFile + " is not as tour writes it; run: make lock")
	}
	return errors.Join(errs...)
}

// parseLock returns the stages in which each item changes, by its history's String.
func parseLock(text string) map[string]string {
	lock := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) == 3 { // all others are found when the whole text is compared
			lock[history{file: fields[0], name: fields[1]}.String()] = fields[2]
		}
	}
	return lock
}
