//go:build linux

package image

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

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

func isWhiteout(info os.FileInfo) bool {
	stat, known := info.Sys().(*syscall.Stat_t)
	return known && info.Mode()&os.ModeCharDevice != 0 && stat.Rdev == 0
}

// unpackWhiteout writes down in the directory dir that a file of the layers below is deleted.
// The order does not matter: what the layer itself has of that name, it has.
func unpackWhiteout(root *os.Root, dir, deleted string) error {
	if deleted == opaqueName {
		return inParent(root, dir, setOpaque)
	}
	if strings.HasPrefix(deleted, whiteoutPrefix) {
		return nil // .wh..wh.plnk and its like were for aufs
	}
	if deleted == "" || deleted == "." || deleted == ".." {
		return errors.New("a whiteout has to name a file")
	}
	return inParent(root, path.Join(dir, deleted), func(parent int, name string) error {
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
