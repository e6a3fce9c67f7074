//go:build linux

package runtime

import "golang.org/x/sys/unix"

// stayAsInit forks process 1: the child goes on to become the command, and process 1 stays the
// player, as the container's init. It forwards signals to the child, reaps orphans, and exits with
// the child's status. Before the child goes on, it closes its files and unmaps the steps with all
// that they point to, so that /proc/1 shows nothing of the host's.
func (l *launch) stayAsInit() {
	const doing = "making the init's child"
	// The init waits for signals by rt_sigtimedwait(2), which loses none while they are blocked.
	l.setSignalMask("blocking signals", ^uint64(0))
	l.call(doing, unix.SYS_CLONE, int(unix.SIGCHLD), 0, 0, 0, 0)
	l.call(doing, opNumber(opStay))
	ready := uint64(1) << (unix.SIGUSR1 - 1)
	l.call("waiting for the init", unix.SYS_RT_SIGTIMEDWAIT, bytesOf(&ready), 0, 0, signalSetSize)
}
