//go:build linux

package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// That a layer deletes a file of those below is written in two ways. In an archive it is an
// empty file .wh.NAME, and a directory that shows nothing of those below has a .wh..wh..opq in
// it: see layer.md of the OCI image specification. On the disk it is a character device 0:0,
// and an extended attribute: see overlayfs.rst in the kernel's documentation.
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..opq" // after the prefix
	opaqueXattr    = "trusted.overlay.opaque"
)

// isOverlays says whether an extended attribute is one that overlayfs keeps for itself. From an
// archive none is taken: a redirect would show files that the layer has no right to.
func isOverlays(xattr string) bool {
	return strings.HasPrefix(xattr, "trusted.overlay.") || strings.HasPrefix(xattr, "user.overlay.")
}

// isDeleted reports whether a name is a whiteout on the disk.
func isDeleted(parent int, name string) bool {
	var stat unix.Stat_t
	err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == 0
}

// Layers that docker made on aufs have aufs's own files at the top, all named .wh..wh.*. Hard links
// of the layer may lead to those in .wh..wh.plnk, so they are unpacked first and removed at the end.
const aufsPrefix = whiteoutPrefix + whiteoutPrefix

func isAufs(name string) bool {
	return strings.HasPrefix(name, aufsPrefix) && name != whiteoutPrefix+opaqueName
}

func (u *unpacker) removeAufs() error {
	top := procPath(u.root, ".")
	entries, err := os.ReadDir(top)
	for _, entry := range entries {
		if isAufs(entry.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(top, entry.Name())))
		}
	}
	return err
}

// unpackWhiteout writes down in the directory dir that a file of the layers below is deleted.
// The order does not matter: what the layer itself has of that name, it has.
func (u *unpacker) unpackWhiteout(dir, deleted string) error {
	if deleted == opaqueName {
		return u.inParent(dir, setOpaque)
	}
	if strings.HasPrefix(deleted, whiteoutPrefix) {
		return nil // aufs kept its files at the top only
	}
	if deleted == "" || deleted == "." || deleted == ".." {
		return errors.New("a whiteout has to name a file")
	}
	return u.inParent(path.Join(dir, deleted), func(parent int, name string) error {
		err := unix.Mknodat(parent, name, unix.S_IFCHR, 0)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Fstatat(parent, name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			return setOpaque(parent, name)
		}
		return nil
	})
}

func setOpaque(parent int, name string) error {
	if err := unix.Lsetxattr(procPath(parent, name), opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("making the directory opaque: %w", err)
	}
	return nil
}
