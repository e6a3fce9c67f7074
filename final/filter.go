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
	"github.com/lixd/mydocker/final/internal/network"
)

// filter is what was given to --filter: by key what may match. One of the values of a key has
// to, of labels all.
type filter map[string][]string

// newFilter reads KEY=VALUE. check says what is wrong with one, also that there is no such key.
func newFilter(given []string, check func(key, value string) error) (filter, error) {
	f := filter{}
	for _, text := range given {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			err := fmt.Errorf("invalid argument %q for --filter: bad format of filter (expected name=value)", text)
			return nil, exitError{status: statusRunFailed, err: err}
		}
		if err := check(key, value); err != nil {
			return nil, err
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

func (f filter) matches(matchesOne func(key, value string) bool) bool {
	for key, values := range f {
		matched := 0
		for _, value := range values {
			if matchesOne(key, value) {
				matched++
			}
		}
		if matched == 0 || key == "label" && matched < len(values) {
			return false
		}
	}
	return true
}

func hasLabel(labels map[string]string, wanted string) bool {
	name, want, hasValue := strings.Cut(wanted, "=")
	got, found := labels[name]
	return found && (!hasValue || got == want)
}

var states = []string{container.Created, container.Running, container.Paused, container.Exited, container.Dead, container.Removing, "restarting"}

func checkContainerFilter(key, value string) error {
	switch key {
	case "id", "label", "ancestor", "volume", "network", "publish", "expose":
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
		_, err := containers().Find(value)
		return err
	}
	return fmt.Errorf("invalid filter '%s'", key)
}

func matchesContainer(c *container.Container, key, value string) bool {
	switch key {
	case "id":
		return strings.HasPrefix(c.ID, value)
	case "name":
		matched, _ := regexp.MatchString(value, c.Name) // it was checked
		inPath, _ := regexp.MatchString(value, "/"+c.Name)
		return matched || inPath
	case "label":
		return hasLabel(c.Config.Labels, value)
	case "status":
		return c.State() == value
	case "exited":
		return c.State() == container.Exited && strconv.Itoa(c.Status) == value
	case "ancestor":
		return strings.TrimSuffix(c.Image, ":latest") == strings.TrimSuffix(value, ":latest") ||
			strings.HasPrefix(strings.TrimPrefix(c.ImageID, "sha256:"), strings.TrimPrefix(value, "sha256:"))
	case "volume":
		return slices.ContainsFunc(c.Config.Mounts, func(m container.Mount) bool {
			return m.Name == value || m.Target == path.Clean(value) || m.Source == path.Clean(value)
		})
	case "network":
		return c.Config.Network == value
	case "publish", "expose":
		if !strings.Contains(value, "/") {
			value += "/tcp"
		}
		isPublished := slices.ContainsFunc(c.Config.Ports, func(p network.Port) bool { return p.Private() == value })
		return isPublished || key == "expose" && slices.Contains(c.Config.Exposed, value)
	case "before":
		other, err := containers().Find(value)
		return err == nil && c.Created.Before(other.Created)
	default: // since
		other, err := containers().Find(value)
		return err == nil && c.Created.After(other.Created)
	}
}
