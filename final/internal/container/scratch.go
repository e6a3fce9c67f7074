//go:build linux

package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// scratch is the path of something that a container with --rm has on the disk. It has no directory
// of its own there, as to make and to remove one takes a hundredth of its life. But there are
// sixteen for all of them.
func (s *Store) scratch(id, name string) string {
	return filepath.Join(s.Root, "scratch", id[:1], id+"-"+name)
}

// makeLayer makes the directories of the container's layer, within its own if that is kept.
func (c *Container) makeLayer(dir string) error {
	if c.Config.AutoRemove {
		if err := c.store.makeScratch(); err != nil {
			return err
		}
	}
	for _, name := range []string{"upper", "work"} {
		path := filepath.Join(dir, name)
		if c.Config.AutoRemove {
			path = c.large(name)
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// makeScratch makes the directory of the sixteen, and has ext4 put them far from each other: without
// a journal it looks at every inode that was freed in the last minutes before it makes another one
// near by. Other file systems take no such hint. See chattr(1), "T".
func (s *Store) makeScratch() error {
	path := filepath.Join(s.Root, "scratch")
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return s.sweepScratch(path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	const topDir = 0x20000 // FS_TOPDIR_FL of linux/fs.h
	if flags, err := unix.IoctlGetInt(int(dir.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(dir.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
	return nil
}

// sweepScratch removes what is left of containers that ended with the machine, and the volumes that
// were made for them alone. It does so once.
func (s *Store) sweepScratch(path string) error {
	run := place(s.Run)
	swept := filepath.Join(s.Run, "swept")
	if exists(swept) {
		return nil
	}
	dirs, err := os.ReadDir(path)
	for _, dir := range dirs {
		sweepErr := removeIf(filepath.Join(path, dir.Name()), func(name string) bool {
			id, _, _ := strings.Cut(name, "-")
			if exists(run.making(id)) || exists(run.container(id)) { // in this order, as it goes from there to there
				return false
			}
			lost := &Container{ID: id, store: s, place: run}
			lost.findOwnVolumes()
			volumesErr := lost.removeVolumes()
			err = errors.Join(err, volumesErr)
			return volumesErr == nil
		})
		err = errors.Join(err, sweepErr)
	}
	if err == nil {
		err = os.WriteFile(swept, nil, 0o600)
	}
	return err
}
