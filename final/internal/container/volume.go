//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Volume is a directory of ours that containers share, and that outlives them.
type Volume struct {
	Version    int
	Name       string
	Created    time.Time
	Mountpoint string `json:"-"` // on the host
}

func (s *Store) volumeDir(name string) string { return filepath.Join(s.Root, "volumes", name) }
func (s *Store) volumeFile(name string) string {
	return filepath.Join(s.volumeDir(name), "volume.json")
}

// MakeVolume makes the volume of this name, or finds it.
func (s *Store) MakeVolume(name string) (*Volume, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("invalid volume name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: a path of the host's must be absolute", name)
	}
	if v, err := s.FindVolume(name); err == nil {
		return v, nil
	}
	v := &Volume{Version: version, Name: name, Created: time.Now(), Mountpoint: filepath.Join(s.volumeDir(name), "data")}
	err := os.MkdirAll(v.Mountpoint, 0o755)
	if err != nil {
		return nil, fmt.Errorf("making volume %s: %w", name, err)
	}
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(s.volumeFile(name)+".new", append(data, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(s.volumeFile(name)+".new", s.volumeFile(name))
	}
	if err != nil {
		return nil, fmt.Errorf("making volume %s: %w", name, err)
	}
	return v, nil
}

// FindVolume returns the volume of this name.
func (s *Store) FindVolume(name string) (*Volume, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("no such volume: %s", name)
	}
	data, err := os.ReadFile(s.volumeFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no such volume: %s", name)
	}
	v := &Volume{Mountpoint: filepath.Join(s.volumeDir(name), "data")}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of volume %s: %w", name, err)
	}
	return v, nil
}

// Volumes returns all volumes, by name.
func (s *Store) Volumes() ([]*Volume, error) {
	files, err := filepath.Glob(s.volumeFile("*"))
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
	return volumes, errors.Join(errs...)
}

// VolumeUsers returns the IDs of the containers that have the volume, whether they run or not.
func (s *Store) VolumeUsers(name string) ([]string, error) {
	containers, err := s.List()
	var users []string
	for _, c := range containers {
		for _, mount := range c.Config.Mounts {
			if mount.Name == name {
				users = append(users, c.ID)
			}
		}
	}
	return users, err
}

// RemoveVolume removes a volume with all that is in it. That it is used is for the caller to ask.
func (s *Store) RemoveVolume(name string) error {
	v, err := s.FindVolume(name)
	if err != nil {
		return err
	}
	// Out of the way first: a container that is being made does not find it any more.
	if err := os.Remove(s.volumeFile(name)); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	if err := os.RemoveAll(v.Mountpoint); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	if err := unix.Rmdir(s.volumeDir(name)); err != nil {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	return nil
}

// MakeMounts makes what is missing of a new container's mounts: directories on the host, as docker
// does, and volumes.
func (c *Container) MakeMounts(s *Store) error {
	for i := range c.Config.Mounts {
		m := &c.Config.Mounts[i]
		if m.Anonymous {
			m.Name = NewID()
		}
		if m.Name != "" {
			v, err := s.MakeVolume(m.Name)
			if err != nil {
				return err
			}
			m.Source = v.Mountpoint
			continue
		}
		_, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(m.Source, 0o755)
		}
		if err != nil {
			return fmt.Errorf("opening volume %s: %w", m.Source, err)
		}
	}
	return nil
}
