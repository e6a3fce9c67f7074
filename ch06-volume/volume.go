//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// volume is a file or a directory of the host that the container sees as well.
type volume struct {
	Source   string // on the host
	Target   string // in the container
	ReadOnly bool

	tree int // the source as a mount that is nowhere yet: see openVolumes
}

// parseVolumes reads all that was given to -v. It returns them in the order to mount them in:
// /a before /a/b, which would be hidden otherwise.
func parseVolumes(specs []string) ([]volume, error) {
	var volumes []volume
	for _, spec := range specs {
		v, err := parseVolume(spec)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(volumes, func(other volume) bool { return other.Target == v.Target }) {
			return nil, fmt.Errorf("duplicate mount point: %s", v.Target)
		}
		volumes = append(volumes, v)
	}
	slices.SortFunc(volumes, func(a, b volume) int { return strings.Compare(a.Target, b.Target) })
	return volumes, nil
}

// parseVolume reads SRC:DST, SRC:DST:ro or SRC:DST:rw.
func parseVolume(spec string) (volume, error) {
	sections := strings.Split(spec, ":")
	if strings.HasPrefix(sections[0], ".") {
		source, err := filepath.Abs(sections[0])
		if err != nil {
			return volume{}, fmt.Errorf("invalid spec: %s: %w", spec, err)
		}
		sections[0] = source
	}
	switch {
	case slices.Contains(sections, ""):
		return volume{}, fmt.Errorf("invalid spec: %s: empty section between colons", spec)
	case len(sections) == 1 || len(sections) > 3:
		return volume{}, fmt.Errorf("invalid spec: %s: SRC:DST or SRC:DST:ro is wanted", spec)
	case len(sections) == 3 && sections[2] != "ro" && sections[2] != "rw":
		return volume{}, fmt.Errorf("invalid mode: %s", sections[2])
	case !path.IsAbs(sections[0]):
		return volume{}, fmt.Errorf("invalid spec: %s: the host's path must be absolute, or start with ./", spec)
	case !path.IsAbs(sections[1]):
		return volume{}, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", sections[1])
	case path.Clean(sections[1]) == "/":
		return volume{}, fmt.Errorf("invalid spec: %s: destination can't be '/'", spec)
	}
	return volume{
		Source:   path.Clean(sections[0]),
		Target:   path.Clean(sections[1]),
		ReadOnly: len(sections) == 3 && sections[2] == "ro",
	}, nil
}

// makeSources makes the directories that are missing on the host, as docker does. What is
// made stays: it is the host's.
func makeSources(volumes []volume) error {
	for _, v := range volumes {
		_, err := os.Stat(v.Source)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.MkdirAll(v.Source, 0o755)
		}
		if err != nil {
			return fmt.Errorf("opening volume %s: %w", v.Source, err)
		}
	}
	return nil
}

// openVolumes takes hold of the sources while the host's paths can still be followed. Each
// becomes a mount that is attached nowhere, in the container's mount namespace, where our
// host never sees it. See open_tree(2).
func openVolumes(volumes []volume) (err error) {
	for i := range volumes {
		v := &volumes[i]
		v.tree, err = unix.OpenTree(unix.AT_FDCWD, v.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("opening volume %s: %w", v.Source, err)
		}
		if !v.ReadOnly {
			continue
		}
		readOnly := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(v.tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &readOnly); err != nil {
			return fmt.Errorf("making volume %s read-only: %w", v.Source, err)
		}
	}
	return nil
}

// mountVolumes attaches the volumes, when the image's root is the only one: whatever links
// the image holds, the way to a target leads through nothing but the container's own files.
func mountVolumes(volumes []volume) error {
	for _, v := range volumes {
		if err := v.mount(); err != nil {
			return fmt.Errorf("mounting volume %s on %s: %w", v.Source, v.Target, err)
		}
	}
	return nil
}

func (v volume) mount() error {
	create := makeFile
	if isDir(v.tree) {
		create = makeDir
	}
	target, err := openTarget(v.Target, create)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if isDir(v.tree) != isDir(target) {
		return errors.New("one is a directory and the other is not")
	}
	return unix.MoveMount(v.tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func isDir(fd int) bool {
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR
}

// openTarget opens what a volume is to be mounted on. What is missing on the way is made, in
// the container's layer. Links are followed, also to what is missing, but not those of /proc
// that lead to open files: init has some of the host's open.
func openTarget(target string, create func(parent int, name string) error) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, target, &how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	dir, name := path.Split(strings.TrimRight(target, "/"))
	if link, err := os.Readlink(dir + name); err == nil {
		if !path.IsAbs(link) {
			link = dir + link // not cleaned: if dir is a link, ".." is above the directory that it leads to
		}
		return openTarget(link, create)
	}
	parent, err := openTarget(dir, makeDir)
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	if err := create(parent, name); err != nil && !errors.Is(err, fs.ErrExist) { // as ".." does
		return -1, err
	}
	return unix.Openat2(unix.AT_FDCWD, target, &how)
}

func makeDir(parent int, name string) error {
	return unix.Mkdirat(parent, name, 0o755)
}

func makeFile(parent int, name string) error {
	return unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
}
