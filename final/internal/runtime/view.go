//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// View has do see what is at a path in a container of these layers, the topmost first. mountPoint
// is a directory, on which nobody else sees anything. If there is no such directory, do
// is not called. It must not leave its goroutine.
func View(layers []string, mountPoint, path string, do func(dir string) error) error {
	done := make(chan error)
	go func() {
		// The thread is not unlocked, so it ends with this goroutine, and with it its mounts.
		runtime.LockOSThread()
		done <- view(layers, mountPoint, path, do)
	}()
	return <-done
}

func view(layers []string, mountPoint, path string, do func(dir string) error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making all mounts private: %w", err)
	}
	if err := mountLayers(layers, mountPoint); err != nil {
		return fmt.Errorf("mounting the image: %w", err)
	}
	root, err := os.Open(mountPoint)
	if err != nil {
		return err
	}
	defer root.Close()
	fd, err := openInRoot(root, path, unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for %s in the image: %w", path, err)
	}
	defer unix.Close(fd)
	return do(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// openInRoot opens a file below a directory, with the names and links on the way followed as if that
// were the root. See openat2(2).
func openInRoot(root *os.File, path string, flags, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err = unix.Openat2(int(root.Fd()), path, &how)
		if !errors.Is(err, unix.EAGAIN) { // some process renamed a file while the kernel followed ".."
			return fd, err
		}
	}
}

// OpenRegular opens a regular file for reading below the root of a container, and no file of
// another kind, which might never end. It does not look into what is mounted in the container.
func OpenRegular(root *os.File, path string) (*os.File, error) {
	fd, err := openInRoot(root, path, unix.O_PATH, unix.RESOLVE_NO_XDEV)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fs.ErrNotExist
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// mountLayers mounts what nobody can write to. An overlay of one layer the kernel does not make,
// and the names of many are too long for it: so they go by their descriptors.
func mountLayers(layers []string, mountPoint string) error {
	if len(layers) == 1 {
		return unix.Mount(layers[0], mountPoint, "", unix.MS_BIND, "")
	}
	var names []string
	for _, layer := range layers {
		dir, err := os.Open(layer)
		if err != nil {
			return err
		}
		defer dir.Close()
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	}
	return unix.Mount("overlay", mountPoint, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(names, ":"))
}
