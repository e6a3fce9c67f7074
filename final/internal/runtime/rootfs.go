//go:build linux

package runtime

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// enterOverlay makes the layers all that there is: the new root. The child stays in the old
// one until detachOldRoot.
func (l *launch) enterOverlay(root Overlay) {
	l.makeMountsPrivate()
	options := l.overlayOptions(root)
	l.call("mounting the overlay", unix.SYS_MOUNT, "overlay", root.Target, "overlay", 0, options).
		explain(unix.EINVAL, "the file system of "+root.Upper+" cannot hold an upper layer (overlay itself, NFS and vfat cannot): "+
			"set MYDOCKER_ROOT to a directory on another").
		explain(unix.ENOENT, "files of the image or the container are gone")
	// With "." for both of its paths, pivot_root(2) leaves the old root mounted on top of the new
	// one, and needs no directory for it in the image.
	l.call("entering the rootfs", unix.SYS_CHDIR, root.Target)
	l.call("changing the root", unix.SYS_PIVOT_ROOT, ".", ".").
		explain(unix.EINVAL, "not possible from an initramfs: switch_root first")
}

// makeMountsPrivate cuts the tie between the container's mounts and the host's. A new mount
// namespace begins with copies of the host's mounts, and under systemd these are shared:
// what is mounted on a copy appears on the host as well. So this comes before any other
// mount, or the host loses its /proc. See mount_namespaces(7), "SHARED SUBTREES".
func (l *launch) makeMountsPrivate() {
	l.call("making all mounts private", unix.SYS_MOUNT, "", "/", "", unix.MS_REC|unix.MS_PRIVATE, "").
		explain(unix.EINVAL, `invalid argument ("/" is not a mount, as in a chroot)`)
}

// overlayOptions is the overlay in the words of mount(2). Without redirects a layer means the
// same over any other, as a committed one must.
func (l *launch) overlayOptions(root Overlay) string {
	rest := fmt.Sprintf(",upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off", escape(root.Upper), escape(root.Work))
	if root.Volatile {
		rest += ",volatile"
	}
	options := func(layers []string) string { return "lowerdir=" + strings.Join(layers, ":") + rest }
	var layers []string
	for _, layer := range root.Layers {
		layers = append(layers, escape(layer))
	}
	if all := options(layers); len(all) < os.Getpagesize() {
		return all
	}
	return options(l.shortNames(root.Layers))
}

// shortNames returns names of the layers by descriptors of the player's. Mount(2) takes no more than
// a page of options, which the paths of forty layers fill. The player opens the layers itself:
// through descriptors of ours the kernel would find them in our mount namespace, and refuse them.
func (l *launch) shortNames(layers []string) []string {
	var names []string
	above := len(l.files) + len(layers) + 8 // all descriptors that the player has open by then
	for i, layer := range layers {
		fd := above + i
		l.call("opening layer "+layer, unix.SYS_OPENAT, at, layer, unix.O_PATH|unix.O_CLOEXEC)
		l.call("opening layer "+layer, unix.SYS_DUP3, previous, fd, unix.O_CLOEXEC)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	return names
}

// escape keeps the characters that divide the options of a mount from doing so in a path.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(path)
}

// detachOldRoot makes the host's files unreachable. The tree is detached lazily, because the
// child's own working directory is in it. This comes before any path in the image is followed:
// while the old root is mounted on top of the new one, ".." at the root leads to it.
func (l *launch) detachOldRoot() {
	l.call("detaching the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	l.call("entering the new root", unix.SYS_CHDIR, "/")
}

const noDevices = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountFileSystems mounts what programs expect to find, as docker does. The file system of the
// terminals was made by us, so that we have the other side of one.
func (l *launch) mountFileSystems(pts int) {
	for _, m := range []struct {
		target, fstype string
		flags          uintptr
		options        string
	}{
		{"/proc", "proc", noDevices, ""},
		{"/sys", "sysfs", noDevices | unix.MS_RDONLY, ""},
		{"/dev", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=64m"},
		{"/dev/shm", "tmpfs", noDevices, "mode=1777,size=64m"},
		{"/dev/mqueue", "mqueue", noDevices, ""},
	} {
		l.mkdir(m.target)
		l.mount(m.fstype, m.target, m.fstype, m.flags, m.options)
	}
	l.mkdir("/dev/pts")
	l.call("mounting /dev/pts", unix.SYS_MOVE_MOUNT, pts, "", at, "/dev/pts", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// setSysctls changes settings of the container's own, while its /proc/sys may still be written to.
func (l *launch) setSysctls(settings []Sysctl) {
	for _, s := range settings {
		doing := "setting " + s.Name
		l.call(doing, unix.SYS_OPENAT, at, "/proc/sys/"+s.Name, unix.O_WRONLY|unix.O_CLOEXEC)
		l.call(doing, unix.SYS_WRITE, previous, s.Value, len(s.Value))
	}
}

// mkdir makes a directory that may be there already. A link to one will not do: what is to be
// mounted there would be somewhere else.
func (l *launch) mkdir(path string) {
	doing := "making " + path
	l.call(doing, unix.SYS_MKDIRAT, at, path, 0o755).forgive(unix.EEXIST)
	l.call(doing, unix.SYS_OPENAT, at, path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
}

// makeDevices fills /dev. The numbers are those of Linux's Documentation/admin-guide/devices.txt.
func (l *launch) makeDevices() {
	l.call("setting the umask", unix.SYS_UMASK, 0)
	for _, device := range []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		path := path.Join("/dev", device.name)
		l.call("making "+path, unix.SYS_MKNODAT, at, path, unix.S_IFCHR|0o666, int(unix.Mkdev(device.major, device.minor)))
	}
	for _, link := range []struct{ name, target string }{
		{"/dev/ptmx", "pts/ptmx"},
		{"/dev/fd", "/proc/self/fd"},
		{"/dev/stdin", "/proc/self/fd/0"},
		{"/dev/stdout", "/proc/self/fd/1"},
		{"/dev/stderr", "/proc/self/fd/2"},
	} {
		l.call("making "+link.name, unix.SYS_SYMLINKAT, link.target, at, link.name)
	}
	l.makeConsole()
	l.call("setting the umask", unix.SYS_UMASK, 0o022)
}

// makeConsole makes what a terminal's messages go to: the command's own, or nothing.
func (l *launch) makeConsole() {
	source := "/dev/null"
	if l.command.Terminal {
		source = "/dev/pts/0"
	}
	l.call("making /dev/console", unix.SYS_MKNODAT, at, "/dev/console", unix.S_IFREG|0o600, 0)
	l.mount(source, "/dev/console", "", unix.MS_BIND, "")
}

// protectKernel takes from the container what in /proc and /sys is the whole machine's. The
// lists are those of runc and docker. What this machine's kernel does not have we need not hide.
func (l *launch) protectKernel() {
	for _, path := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		if stat, err := os.Stat(path); err == nil {
			l.mask(path, stat.IsDir())
		}
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		if _, err := os.Stat(path); err == nil {
			l.makeReadOnly(path)
		}
	}
}

// mask hides a file behind /dev/null, and a directory behind an empty one.
func (l *launch) mask(path string, isDir bool) {
	doing := "masking " + path
	if isDir {
		l.call(doing, unix.SYS_MOUNT, "tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0").forgive(unix.ENOENT)
	} else {
		l.call(doing, unix.SYS_MOUNT, "/dev/null", path, "", unix.MS_BIND, "").forgive(unix.ENOENT)
	}
}

// makeReadOnly binds the path to itself, because only a mount can be made read-only.
func (l *launch) makeReadOnly(path string) {
	doing := "making " + path + " read-only"
	l.call(doing, unix.SYS_MOUNT, path, path, "", unix.MS_BIND|unix.MS_REC, "")
	l.call(doing, unix.SYS_MOUNT, "", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|noDevices, "")
}

// mountCgroups shows the container its own groups, which it must have joined before: the group
// that it is in at this moment becomes the root of what it can see. See cgroup_namespaces(7).
func (l *launch) mountCgroups() {
	l.call("making the cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	const dir = "/sys/fs/cgroup"
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return // a kernel without cgroups
	}
	if stat.Type == unix.CGROUP2_SUPER_MAGIC {
		l.mount("cgroup", dir, "cgroup2", noDevices|unix.MS_RDONLY, "")
		return
	}
	l.mount("tmpfs", dir, "tmpfs", noDevices, "mode=755")
	for _, controllers := range hierarchies() {
		target := path.Join(dir, strings.TrimPrefix(controllers, "name="))
		l.call("making "+target, unix.SYS_MKDIRAT, at, target, 0o755) // where there is nothing of the image's
		// One without controllers, which has only a name, may be gone by then.
		l.mount("cgroup", target, "cgroup", noDevices|unix.MS_RDONLY, controllers).forgive(unix.EINVAL)
	}
	l.call("making "+dir+" read-only", unix.SYS_MOUNT, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|noDevices, "")
}

// hierarchies returns the controllers of each of v1's hierarchies, as in "cpu,cpuacct".
func hierarchies() []string {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil // no /proc either: then there is nothing to show
	}
	var all []string
	for line := range strings.Lines(string(groups)) {
		if fields := strings.SplitN(line, ":", 3); len(fields) == 3 && fields[1] != "" {
			all = append(all, fields[1])
		}
	}
	return all
}

// makeRootReadOnly comes when all is made that was missing in the root.
func (l *launch) makeRootReadOnly() {
	l.call("making the root read-only", unix.SYS_MOUNT, "", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}
