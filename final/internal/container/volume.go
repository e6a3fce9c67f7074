//go:build linux

package container

import (
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
	"github.com/lixd/mydocker/final/internal/record"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// Volume is a directory of ours that containers share, and that outlives them.
type Volume struct {
	Version    int
	Name       string
	Created    time.Time
	Container  string `json:",omitempty"` // that it was made for, or empty: see Mount.Anonymous
	Mountpoint string `json:"-"`          // on the host

	damage error // why the record cannot be used, or nil
}

// Damage returns why the record of the volume cannot be used, or nil.
func (v *Volume) Damage() error { return v.damage }

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
	lock, err := s.lockFile(filepath.Join(s.volumes(), ".lock"))
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

// MakeVolume makes the volume of this name, or finds it. One that is made is for the container of an
// ID alone, or for all if that is empty. An empty volume is filled by fill, if that is not nil. One
// whose record is damaged gets a new one: the data is all there. The caller holds the volumes.
func (s *Store) MakeVolume(name, containerID string, fill fillFunc) (*Volume, error) {
	if err := checkName("volume", name, ": a path of the host's must be absolute"); err != nil {
		return nil, err
	}
	v, err := s.FindVolume(name)
	switch {
	case err == nil && fill != nil:
		err = s.fillVolume(v, fill)
	case errors.As(err, &VolumeNotFoundError{}):
		v = &Volume{Version: version, Name: name, Created: time.Now().UTC(), Container: containerID, Mountpoint: s.mountpoint(name)}
		err = s.makeVolume(v, fill)
	case record.IsDamaged(err) && !record.IsNewer(err):
		v.Version = version
		err = errors.Join(os.MkdirAll(v.Mountpoint, 0o755), record.Write(s.volumeFile(name), v))
	}
	if err != nil {
		return nil, fmt.Errorf("making volume %s: %w", name, err)
	}
	return v, nil
}

// fillFunc fills an empty directory with what a volume begins with, and reports whether there was
// anything to fill it with: an empty directory has an owner and a mode, too.
type fillFunc func(dir string) (filled bool, err error)

// fillVolume fills a volume that is there, if it is empty. It fills another directory first, so that
// a killed fill leaves the volume empty. Containers may have the volume: its directory stays.
func (s *Store) fillVolume(v *Volume, fill fillFunc) error {
	entries, err := os.ReadDir(v.Mountpoint)
	if err != nil || len(entries) > 0 {
		return err
	}
	making := s.mountpoint(volumeMaking)
	if err := os.MkdirAll(making, 0o755); err != nil {
		return err
	}
	filled, err := fill(making)
	if err == nil && filled {
		err = image.Replace(v.Mountpoint, making)
	}
	if err == nil && filled {
		err = record.SyncTree(v.Mountpoint)
	}
	return errors.Join(err, os.RemoveAll(s.volumeDir(volumeMaking)))
}

func (s *Store) makeVolume(v *Volume, fill fillFunc) error {
	if err := os.MkdirAll(s.mountpoint(volumeMaking), 0o755); err != nil {
		return err
	}
	if fill != nil {
		filled, err := fill(s.mountpoint(volumeMaking))
		if err == nil && filled {
			err = record.SyncTree(s.mountpoint(volumeMaking))
		}
		if err != nil {
			return err
		}
	}
	if err := record.Write(s.volumeFile(volumeMaking), v); err != nil {
		return err
	}
	fault.Point("volume-made")
	if err := os.Rename(s.volumeDir(volumeMaking), s.volumeDir(v.Name)); err != nil {
		return err
	}
	return record.SyncDirs(s.volumes())
}

func (s *Store) mountpoint(name string) string { return filepath.Join(s.volumeDir(name), "data") }

// FindVolume returns the volume of this name. With an error that its record is damaged it also
// returns the volume, as far as its directory tells.
func (s *Store) FindVolume(name string) (*Volume, error) {
	info, err := os.Stat(s.volumeDir(name))
	if err != nil || !info.IsDir() || !validName().MatchString(name) {
		return nil, VolumeNotFoundError{name}
	}
	v := &Volume{}
	data, err := os.ReadFile(s.volumeFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = record.ErrMissing
	}
	if err == nil {
		err = record.Parse(data, v, &v.Version, version)
	}
	if err == nil && v.Name != name {
		err = fmt.Errorf("it is about another, %q", v.Name)
	}
	if err != nil {
		next := fmt.Sprintf("%q writes a new one and keeps the data", "mydocker volume create "+name)
		if record.IsNewer(err) {
			next = fmt.Sprintf("%q removes it", "mydocker volume rm -f "+name)
		}
		v = &Volume{Name: name, Created: info.ModTime(), damage: &record.DamagedError{What: "volume " + name, Reason: err, Next: next}}
	}
	v.Mountpoint = s.mountpoint(name)
	return v, v.damage
}

// Volumes returns all volumes, by name, those with a damaged record among them.
func (s *Store) Volumes() ([]*Volume, error) {
	entries, err := os.ReadDir(s.volumes())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for volumes: %w", err)
	}
	var volumes []*Volume
	for _, entry := range entries {
		if v, _ := s.FindVolume(entry.Name()); v != nil {
			volumes = append(volumes, v)
		}
	}
	slices.SortFunc(volumes, func(a, b *Volume) int { return sortorder.NaturalCompare(a.Name, b.Name) })
	return volumes, nil
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

// RemoveVolume removes a volume with all that is in it, unless a container has it. One that a newer
// mydocker has made is removed by force only.
func (s *Store) RemoveVolume(name string, force bool) error {
	release, err := s.HoldVolumes()
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.FindVolume(name); err != nil && (!record.IsDamaged(err) || record.IsNewer(err) && !force) {
		return err
	}
	users, err := s.volumeUsers(name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return VolumeInUseError{name, users}
	}
	if err := checkMounts("/volumes/" + name + "/"); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
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

// findOwnVolumes finds the volumes that were made for the container alone, when there is no record
// of it that says so.
func (c *Container) findOwnVolumes() {
	volumes, _ := c.store.Volumes() // those that can be read
	for _, v := range volumes {
		if v.Container == c.ID {
			c.Config.Mounts = append(c.Config.Mounts, Mount{Name: v.Name, Anonymous: true})
		}
	}
}

// removeVolumes removes those that were made for the container alone: not one that another has
// come to use, by its ID.
func (c *Container) removeVolumes() error {
	for _, mount := range c.Config.Mounts {
		if !mount.Anonymous || mount.Name == "" {
			continue
		}
		err := c.store.RemoveVolume(mount.Name, false)
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

// copyOut copies what the image has at a path: an empty volume begins with what it hides, and
// belongs to the same user, as docker has it.
func (c *Container) copyOut(path, to string) (copied bool, err error) {
	layers := c.layers()
	if len(layers) == 0 {
		return false, nil
	}
	err = runtime.View(layers, c.place.making(c.ID), path, func(dir string) error {
		copied = true
		return image.Copy(c.store.Context, dir, to)
	})
	return copied, err
}

func (c *Container) makeMount(m *Mount) error {
	owner := ""
	if m.Anonymous {
		m.Name, owner = NewID(), c.ID
	}
	if m.Name != "" {
		fill := fillFunc(func(dir string) (bool, error) { return c.copyOut(m.Target, dir) })
		if m.NoCopy {
			fill = nil
		}
		v, err := c.store.MakeVolume(m.Name, owner, fill)
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
