//go:build linux

package runtime

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openVolumes takes hold of the sources while the host's paths can still be followed. Each
// becomes a mount that is attached nowhere, until the player attaches it: openVolumes returns the
// descriptors that the player has of them. See open_tree(2).
func (l *launch) openVolumes(volumes []Volume) ([]int, error) {
	var trees []int
	for _, v := range volumes {
		if v.InRoot {
			trees = append(trees, l.reserve())
			continue
		}
		tree, err := unix.OpenTree(at, v.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("opening volume %s: %w", v.Source, err)
		}
		trees = append(trees, l.hand(tree))
		if err := v.checkPropagation(); err != nil {
			return nil, err
		}
		attributes := unix.MountAttr{Propagation: v.propagation()}
		if v.ReadOnly {
			attributes.Attr_set = unix.MOUNT_ATTR_RDONLY
		}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
			return nil, fmt.Errorf("setting up volume %s: %w", v.Source, err)
		}
	}
	return trees, nil
}

// openVolumesInRoot does for the sources in the container's root what openVolumes does for others,
// when there is nothing mounted over them yet.
func (l *launch) openVolumesInRoot(volumes []Volume, trees []int) {
	for i, v := range volumes {
		if !v.InRoot {
			continue
		}
		doing := "opening volume " + v.Source
		l.call(doing, unix.SYS_OPEN_TREE, at, v.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		l.call(doing, unix.SYS_DUP3, previous, trees[i], unix.O_CLOEXEC)
		if v.ReadOnly {
			attributes := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
			l.call(doing, unix.SYS_MOUNT_SETATTR, trees[i], "", unix.AT_EMPTY_PATH, bytesOf(attributes), unsafe.Sizeof(*attributes))
		}
	}
}

// propagation returns the flag of mount_setattr(2).
func (v *Volume) propagation() uint64 {
	switch strings.TrimPrefix(v.Propagation, "r") {
	case "slave":
		return unix.MS_SLAVE
	case "shared":
		return unix.MS_SHARED
	default:
		return unix.MS_PRIVATE
	}
}

// checkPropagation refuses a volume that mounts are to reach from the host, or the host from the
// volume, where the mount of its source passes none on. See mount_namespaces(7), "SHARED SUBTREES".
func (v *Volume) checkPropagation() error {
	if v.propagation() == unix.MS_PRIVATE {
		return nil
	}
	var stat unix.Statx_t
	err := unix.Statx(at, v.Source, 0, unix.STATX_MNT_ID, &stat)
	if err != nil {
		return fmt.Errorf("opening volume %s: %w", v.Source, err)
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("looking for the mount of volume %s: %w", v.Source, err)
	}
	for line := range strings.Lines(string(table)) {
		// 36 35 98:0 /root /point rw,noatime master:1 shared:2 - ext3 /dev/root rw: see proc_pid_mountinfo(5)
		mount, _, _ := strings.Cut(line, " - ")
		fields := strings.Fields(mount)
		if fields[0] != strconv.FormatUint(stat.Mnt_id, 10) {
			continue
		}
		passesOn, wanted := strings.Contains(mount, " shared:"), "shared"
		if v.propagation() == unix.MS_SLAVE {
			passesOn, wanted = passesOn || strings.Contains(mount, " master:"), "shared or slave"
		}
		if !passesOn {
			return fmt.Errorf("path %s is mounted on %s but it is not a %s mount", v.Source, fields[4], wanted)
		}
		return nil
	}
	return nil
}

// mountVolumes attaches the volumes, when the container's root is the only one: whatever links
// the image holds, the way to a target leads through nothing but the container's own files.
func (l *launch) mountVolumes(volumes []Volume, trees []int) {
	for i, v := range volumes {
		doing, target := fmt.Sprintf("mounting volume %s on %s", v.Source, v.Target), path.Clean(v.Target)
		if isDir(l.files[trees[i]]) {
			l.mkdirAll(doing, target)
		} else {
			l.mkdirAll(doing, path.Dir(target))
			l.open(doing, path.Dir(target))
			l.call(doing, unix.SYS_MKNODAT, previous, path.Base(target), unix.S_IFREG|0o644, 0).forgive(unix.EEXIST, unix.EROFS)
		}
		l.open(doing, target)
		l.call(doing, unix.SYS_MOVE_MOUNT, trees[i], "", previous, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH).
			explain(unix.EINVAL, "one is a directory and the other is not")
	}
}

func isDir(fd int) bool {
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR
}

// mountTmpfs mounts file systems in memory, as mountVolumes does: mount(2) itself would follow
// every link to its target.
func (l *launch) mountTmpfs(mounts []Tmpfs) {
	for _, m := range mounts {
		doing, target := "mounting a tmpfs on "+m.Target, path.Clean(m.Target)
		l.mkdirAll(doing, target)
		l.open(doing, target)
		l.call(doing, unix.SYS_FCHDIR, previous)
		l.call(doing, unix.SYS_MOUNT, "tmpfs", ".", "tmpfs", m.Flags, m.Options)
	}
}
