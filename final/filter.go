//go:build linux

package main

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lixd/mydocker/final/internal/container"
)

// filter is what was given to ps --filter: by key what may match. One of the values of a key has
// to, of labels all.
type filter struct {
	wanted   map[string][]string
	all      []*container.Container // the newest first
	anyState bool                   // it asks for a state, so containers need not run
}

var states = []string{container.Created, container.Running, container.Paused, container.Exited, container.Dead, container.Removing, "restarting"}

func newFilter(given []string, all []*container.Container) (*filter, error) {
	f := &filter{wanted: map[string][]string{}, all: all}
	for _, text := range given {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for --filter: bad format of filter (expected name=value)", text)
		}
		if err := f.check(key, value); err != nil {
			return nil, err
		}
		f.wanted[key] = append(f.wanted[key], value)
		f.anyState = f.anyState || key == "status" || key == "exited"
	}
	return f, nil
}

func (f *filter) check(key, value string) error {
	switch key {
	case "id", "label", "ancestor", "volume", "network":
		return nil
	case "name":
		_, err := regexp.Compile(value)
		return err
	case "status":
		if !slices.Contains(states, value) {
			return fmt.Errorf("invalid filter 'status=%s'", value)
		}
		return nil
	case "exited":
		if _, err := strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid filter 'exited=%s'", value)
		}
		return nil
	case "before", "since":
		if _, err := containers().Find(value); err != nil {
			return err
		}
		return nil
	}
	return fmt.Errorf("invalid filter '%s'", key)
}

func (f *filter) matches(c *container.Container) bool {
	for key, values := range f.wanted {
		matchesOne := func(value string) bool { return f.matchesOne(c, key, value) }
		if key == "label" {
			if slices.ContainsFunc(values, func(value string) bool { return !matchesOne(value) }) {
				return false
			}
		} else if !slices.ContainsFunc(values, matchesOne) {
			return false
		}
	}
	return true
}

func (f *filter) matchesOne(c *container.Container, key, value string) bool {
	switch key {
	case "id":
		return strings.HasPrefix(c.ID, value)
	case "name":
		matched, _ := regexp.MatchString(value, c.Name) // it was checked
		inPath, _ := regexp.MatchString(value, "/"+c.Name)
		return matched || inPath
	case "label":
		name, want, hasValue := strings.Cut(value, "=")
		got, found := c.Config.Labels[name]
		return found && (!hasValue || got == want)
	case "status":
		return c.State() == value
	case "exited":
		return c.State() == container.Exited && strconv.Itoa(c.Status) == value
	case "ancestor":
		return c.Image == value || strings.TrimSuffix(c.Image, ":latest") == value || strings.HasPrefix(strings.TrimPrefix(c.ImageID, "sha256:"), value)
	case "volume":
		return slices.ContainsFunc(c.Config.Mounts, func(m container.Mount) bool {
			return m.Name == value || m.Target == path.Clean(value) || m.Source == path.Clean(value)
		})
	case "network":
		return c.Config.Network == value
	case "before":
		other, err := containers().Find(value)
		return err == nil && c.Created.Before(other.Created)
	default: // since
		other, err := containers().Find(value)
		return err == nil && c.Created.After(other.Created)
	}
}
