//go:build linux

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fvbommel/sortorder"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// Volume is a directory of ours that containers share, and that outlives them.
type Volume struct {
	Version    int
	Name       string
	Created    time.Time
	Mountpoint string `json:"-"` // on the host
}

// VolumeNotFoundError says that there is no volume of that name.
type VolumeNotFoundError struct{ Name string }

func (e VolumeNotFoundError) Error() string { return "no such volume: " + e.Name }

// VolumeInUseError says which containers have a volume, so that it is not removed.
type VolumeInUseError struct {
	Name  string
	Users []string // their IDs
}

func (e VolumeInUseError) Error() string {
	return fmt.Sprintf("remove %s: volume is in use - [%s]", e.Name, strings.Join(e.Users, ", "))
}

func (s *Store) volumes() string              { return filepath.Join(s.Root, "volumes") }
func (s *Store) volumeDir(name string) string { return filepath.Join(s.volumes(), name) }
func (s *Store) volumeFile(name string) string {
	return filepath.Join(s.volumeDir(name), "volume.json")
}

// Where volumes are made and removed, one at a time: under its name each is whole. No volume can
// have such a name.
const (
	volumeMaking   = ".making"
	volumeRemoving = ".removing"
)

// HoldVolumes keeps all others from making and removing volumes until release is called, and
// clears away what those left over who were killed while they did. Whoever makes a container
// holds the volumes until it is written down which ones that has.
func (s *Store) HoldVolumes() (release func(), err error) {
	if err := os.MkdirAll(s.volumes(), 0o700); err != nil {
		return nil, fmt.Errorf("making the volumes' directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(s.volumes(), ".lock"))
	if err != nil {
		return nil, err
	}
	for _, left := range []string{volumeMaking, volumeRemoving} {
		if err := os.RemoveAll(s.volumeDir(left)); err != nil {
			return nil, errors.Join(fmt.Errorf("removing what is left over: %w", err), lock.Close())
		}
	}
	return func() { lock.Close() }, nil
}

// MakeVolume makes the volume of this name, or finds it. One that is made is filled by fill, if
// that is not nil, before anybody sees it. The caller holds the volumes.
func (s *Store) MakeVolume(name string, fill func(dir string) error) (*Volume, error) {
	if !validName().MatchString(name) {
		return nil, fmt.Errorf("invalid volume name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: a path of the host's must be absolute", name)
	}
	v, err := s.FindVolume(name)
	if errors.As(err, &VolumeNotFoundError{}) {
		v = &Volume{Version: version, Name: name, Created: time.Now().UTC(), Mountpoint: s.mountpoint(name)}
		err = s.makeVolume(v, fill)
	}
	if err != nil {
		return nil, fmt.Errorf("making volume %s: %w", name, err)
	}
	return v, nil
}

func (s *Store) makeVolume(v *Volume, fill func(dir string) error) error {
	if err := os.MkdirAll(s.mountpoint(volumeMaking), 0o755); err != nil {
		return err
	}
	if fill != nil {
		if err := fill(s.mountpoint(volumeMaking)); err != nil {
			return err
		}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.volumeFile(volumeMaking), append(data, '\n'), 0o600); err != nil {
		return err
	}
	fault.Point("volume-made")
	return os.Rename(s.volumeDir(volumeMaking), s.volumeDir(v.Name))
}

func (s *Store) mountpoint(name string) string { return filepath.Join(s.volumeDir(name), "data") }

// FindVolume returns the volume of this name.
func (s *Store) FindVolume(name string) (*Volume, error) {
	if !validName().MatchString(name) {
		return nil, VolumeNotFoundError{name}
	}
	data, err := os.ReadFile(s.volumeFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, VolumeNotFoundError{name}
	}
	v := &Volume{Mountpoint: s.mountpoint(name)}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err == nil && v.Version > version {
		err = fmt.Errorf("it is of version %d, and this program knows %d", v.Version, version)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of volume %s: %w", name, err)
	}
	return v, nil
}

// Volumes returns all volumes, by name.
func (s *Store) Volumes() ([]*Volume, error) {
	files, err := filepath.Glob(s.volumeFile("[^.]*"))
	if err != nil {
		return nil, fmt.Errorf("looking for volumes: %w", err)
	}
	var volumes []*Volume
	var errs []error
	for _, file := range files {
		v, err := s.FindVolume(filepath.Base(filepath.Dir(file)))
		if err == nil {
			volumes = append(volumes, v)
		}
		errs = append(errs, err)
	}
	slices.SortFunc(volumes, func(a, b *Volume) int { return sortorder.NaturalCompare(a.Name, b.Name) })
	return volumes, errors.Join(errs...)
}

// volumeUsers returns the IDs of the containers that have the volume, whether they run or not.
// One that somebody has begun to remove counts no more.
func (s *Store) volumeUsers(name string) ([]string, error) {
	containers, err := s.List()
	var users []string
	for _, c := range containers {
		if !c.Removing && slices.ContainsFunc(c.Config.Mounts, func(m Mount) bool { return m.Name == name }) {
			users = append(users, c.ID)
		}
	}
	return users, err
}

// RemoveVolume removes a volume with all that is in it, unless a container has it.
func (s *Store) RemoveVolume(name string) error {
	release, err := s.HoldVolumes()
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.FindVolume(name); err != nil {
		return err
	}
	users, err := s.volumeUsers(name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return VolumeInUseError{name, users}
	}
	if err := os.Rename(s.volumeDir(name), s.volumeDir(volumeRemoving)); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	fault.Point("volume-removed")
	if err := os.RemoveAll(s.volumeDir(volumeRemoving)); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	return nil
}

// removeVolumes removes those that were made for the container alone: not one that another has
// come to use, by its ID.
func (c *Container) removeVolumes() error {
	for _, mount := range c.Config.Mounts {
		if !mount.Anonymous || mount.Name == "" {
			continue
		}
		err := c.store.RemoveVolume(mount.Name)
		if err != nil && !errors.As(err, &VolumeNotFoundError{}) && !errors.As(err, &VolumeInUseError{}) {
			return err
		}
	}
	return nil
}

// makeMounts makes what is missing of a new container's mounts: volumes, and directories on the
// host, as docker does. The volumes are held until release is called.
func (c *Container) makeMounts() (release func(), err error) {
	release = func() {}
	if slices.ContainsFunc(c.Config.Mounts, func(m Mount) bool { return m.Source == "" }) {
		if release, err = c.store.HoldVolumes(); err != nil {
			return nil, err
		}
	}
	for i := range c.Config.Mounts {
		if err := c.makeMount(&c.Config.Mounts[i]); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// copyOut copies what the image has at a path: a new volume begins with what it hides, and
// belongs to the same user, as docker has it.
func (c *Container) copyOut(path, to string) error {
	return runtime.View(c.layers(), c.place.making(c.ID), path, func(dir string) error {
		return image.Copy(context.Background(), dir, to)
	})
}

func (c *Container) makeMount(m *Mount) error {
	if m.Anonymous {
		m.Name = NewID()
	}
	if m.Name != "" {
		fill := func(dir string) error { return c.copyOut(m.Target, dir) }
		if m.NoCopy {
			fill = nil
		}
		v, err := c.store.MakeVolume(m.Name, fill)
		if err == nil {
			m.Source = v.Mountpoint
		}
		return err
	}
	_, err := os.Stat(m.Source)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(m.Source, 0o755)
	}
	if err != nil {
		return fmt.Errorf("opening volume %s: %w", m.Source, err)
	}
	return nil
}
