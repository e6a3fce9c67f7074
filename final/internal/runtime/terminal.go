//go:build linux

package runtime

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// makeTerminals makes the file system of the container's terminals, attached nowhere yet, and
// returns the player's descriptor of it. A terminal for the command is opened in there while we are about
// it: both sides of it belong to the container, and we keep one.
func (l *launch) makeTerminals() (int, error) {
	pts, err := newDevpts()
	if err != nil {
		return -1, fmt.Errorf("making the container's terminals: %w", err)
	}
	theirs := l.hand(pts)
	if !l.command.Terminal {
		return theirs, nil
	}
	return theirs, l.openTerminal(pts, "ptmx")
}

// newDevpts is mount(2) in its parts, without the mounting. See fsopen(2).
func newDevpts() (int, error) {
	config, err := unix.Fsopen("devpts", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(config)
	for _, option := range []struct{ key, value string }{
		{"source", "devpts"},
		{"ptmxmode", "0666"},
		{"mode", "0620"},
		{"gid", strconv.Itoa(ttyGroup)},
	} {
		if err := unix.FsconfigSetString(config, option.key, option.value); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(config); err != nil {
		return -1, err
	}
	return unix.Fsmount(config, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
}

// ttyGroup owns all terminals, in docker's containers and in most images: write(1) relies on it.
const ttyGroup = 5

// openTerminal makes a new terminal, for the command as its user. The path of the ptmx is
// relative to a directory, which no link in it leads out of.
func (l *launch) openTerminal(dir int, ptmx string) error {
	how := unix.OpenHow{Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	master, err := unix.Openat2(dir, ptmx, &how)
	if err != nil {
		return fmt.Errorf("opening the container's terminal: %w", err)
	}
	l.terminal = os.NewFile(uintptr(master), "terminal")
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlocking the container's terminal: %w", err)
	}
	// Not by its name, which the container could have given to something else. See TIOCGPTPEER(2const).
	slave, err := ioctl(master, unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if err != nil {
		return fmt.Errorf("opening the container's side of its terminal: %w", err)
	}
	l.fds = append(l.fds, slave)
	if size := l.command.Size; size != nil {
		if err := unix.IoctlSetWinsize(slave, unix.TIOCSWINSZ, size); err != nil {
			return fmt.Errorf("setting the terminal's size: %w", err)
		}
	}
	l.files[0], l.files[1], l.files[2] = slave, slave, slave
	if err := unix.Fchown(slave, int(l.command.User.UID), ttyGroup); err != nil {
		return fmt.Errorf("giving the terminal to its user: %w", err)
	}
	return nil
}

// ioctl is for requests that take a number and return one.
func ioctl(fd int, request, arg uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}
