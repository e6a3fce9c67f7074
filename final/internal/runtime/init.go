//go:build linux

package runtime

import "golang.org/x/sys/unix"

// stayAsInit has a child of process 1 go on to become the command. Process 1 itself stays the
// player, as the container's init: it passes signals on to that child, and reaps whatever loses
// its parent, until the child ends. It then exits with the child's status. It closes its files and
// unmaps the steps and all that they point to before it lets the child go on: the container finds
// nothing of the host's in /proc/1.
func (l *launch) stayAsInit() {
	const doing = "making the init's child"
	// All signals are blocked, so that the init gets each by rt_sigtimedwait(2) and loses none.
	l.setSignalMask("blocking signals", ^uint64(0))
	l.call(doing, unix.SYS_CLONE, int(unix.SIGCHLD), 0, 0, 0, 0)
	l.call(doing, opNumber(opStay))
	ready := uint64(1) << (unix.SIGUSR1 - 1)
	l.call("waiting for the init", unix.SYS_RT_SIGTIMEDWAIT, bytesOf(&ready), 0, 0, signalSetSize)
}
