//go:build linux

package runtime

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Start makes a container and returns when its command runs, or with the reason why it does not.
// The error is then an Error, nothing has run, and nothing is left behind.
//
// The container is killed when the thread that called Start ends, and so with the caller's
// process: see PR_SET_PDEATHSIG(2const). Call it from a thread that stays, such as the main one
// (runtime.LockOSThread in a func init keeps the main goroutine on it).
func Start(spec *Spec) (*Process, error) {
	process, err := start(*spec)
	if err != nil {
		return nil, asError(err)
	}
	return process, nil
}

func start(spec Spec) (_ *Process, err error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	if err := spec.resolveTargets(); err != nil {
		return nil, err
	}
	l := &launch{command: &spec.Command, prepare: spec.Prepare}
	l.steps = make([]step, 0, 200) // enough for most
	defer l.close()
	if err := l.openFiles(); err != nil {
		return nil, err
	}
	trees, err := l.openVolumes(spec.Volumes)
	if err != nil {
		return nil, err
	}
	pts, err := l.makeTerminals()
	if err != nil {
		return nil, err
	}

	l.begin()
	l.joinNetwork(spec.Network)
	l.enterOverlay(spec.Root)
	l.detachOldRoot()
	l.openVolumesInRoot(spec.Volumes, trees)
	l.mountFileSystems(pts)
	l.makeDevices()
	if spec.Network == (Network{}) {
		l.setSysctls(spec.Sysctls)
	}
	l.protectKernel()
	l.setHostname(spec.Hostname)
	l.awaitParent()
	if err := l.joinCgroup(); err != nil {
		return nil, err
	}
	l.mountCgroups()
	l.mountTmpfs(spec.Tmpfs)
	l.mountVolumes(spec.Volumes, trees)
	l.closeFiles()
	l.mkdirAll("making the working directory", cmp.Or(l.command.Dir, "/"))
	l.enterDir()
	if spec.ReadOnly {
		l.makeRootReadOnly()
	}
	l.confine()
	l.tie()
	if spec.Init {
		l.stayAsInit()
	}
	l.become()

	process, err := l.fork(namespaces(spec.Network), l.command.Cgroup.Dir)
	if err != nil {
		return nil, err
	}
	return process, l.follow(process)
}

// namespaces are those that a container is born into.
func namespaces(network Network) uintptr {
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if network == (Network{}) {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// launch is a program with the files that its steps use.
type launch struct {
	program
	command  *Command
	prepare  func(pid int) error
	files    []int    // the player's descriptors, by their numbers there
	ours     *os.File // our end of the pipe to the player
	terminal *os.File // our side of the command's terminal, if it has one
	fds      []int    // to close when the player has its copies
}

// openFiles makes the pipe and takes over stdin, stdout and stderr.
func (l *launch) openFiles() error {
	pipe, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making the pipe to the container: %w", err)
	}
	l.ours = os.NewFile(uintptr(pipe[0]), "pipe")
	l.fds = append(l.fds, pipe[1])
	l.files = make([]int, firstFD, 32)
	for i := range l.files {
		l.files[i] = pipe[1] // a placeholder: no step may get these numbers
	}
	if l.command.Terminal {
		return nil
	}
	for i, file := range l.stdio() {
		if file == nil {
			continue
		}
		if l.files[i] = int(file.Fd()); isDir(l.files[i]) { // ".." in it would lead out of the container
			return fmt.Errorf("handing %s over: %w", file.Name(), unix.EISDIR)
		}
	}
	return nil
}

func (l *launch) stdio() [3]*os.File {
	return [3]*os.File{l.command.Stdin, l.command.Stdout, l.command.Stderr}
}

// hand gives the player a descriptor and returns its number there. Ours is closed once the player
// has started.
func (l *launch) hand(fd int) int {
	l.fds = append(l.fds, fd)
	l.files = append(l.files, fd)
	return len(l.files) - 1
}

// reserve returns a descriptor number of the player's that a step fills with dup3(2).
func (l *launch) reserve() int {
	l.files = append(l.files, l.files[pipeFD])
	return len(l.files) - 1
}

// letGo closes the files that only the player needs.
func (l *launch) letGo() {
	for _, fd := range l.fds {
		unix.Close(fd)
	}
	l.fds = nil
}

func (l *launch) close() {
	l.letGo()
	if l.ours != nil {
		l.ours.Close()
	}
	if l.terminal != nil {
		l.terminal.Close() // the command did not start
	}
}

// begin removes what nothing in the container may use. A command like /proc/self/exe would play
// the program again. Our session keyring holds our keys: see keyrings(7).
func (l *launch) begin() {
	l.call("making the player not executable", unix.SYS_FCHMOD, codeFD, 0)
	l.call("naming the player", unix.SYS_PRCTL, unix.PR_SET_NAME, playerName, 0, 0, 0)
	l.call("making a session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).forgive(unix.ENOSYS, unix.EPERM)
	l.raiseFileLimit()
	l.dieWithParent()
}

// raiseFileLimit raises the soft limit of open files again, which package syscall lowers in every
// child: the steps may need more. See limitFiles.
func (l *launch) raiseFileLimit() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		l.call("raising the limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, bytesOf(&limit), 0)
	}
}

// closeFiles closes all but the standard files and the pipe. Before it, no path of the image or
// the user may be followed without RESOLVE_NO_MAGICLINKS: /proc/self/fd/N would lead out of the
// container.
func (l *launch) closeFiles() {
	l.call("closing the host's files", unix.SYS_CLOSE_RANGE, pipeFD+1, ^uint32(0), 0)
}

// dieWithParent lets the kernel kill the process when its parent ends. A change of the user, or a
// fork, undoes it.
func (l *launch) dieWithParent() {
	if !l.command.Outlives {
		l.call("tying the container to its parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
	}
}

// tie ties the command to the parent. If the parent has already ended, there is no signal, but a
// message to it fails.
func (l *launch) tie() {
	l.dieWithParent()
	l.call("looking for the parent", unix.SYS_SENDTO, pipeFD, "", 0, unix.MSG_NOSIGNAL, 0, 0)
}

func (l *launch) joinNetwork(network Network) {
	switch {
	case network.Path != "":
		l.call("opening the network namespace", unix.SYS_OPENAT, at, network.Path, unix.O_RDONLY|unix.O_CLOEXEC)
		l.call("joining the network namespace", unix.SYS_SETNS, previous, unix.CLONE_NEWNET)
	case !network.Host:
		l.bringUpLoopback()
	}
}

// bringUpLoopback switches lo on, which is down in a new network namespace. See netdevice(7).
func (l *launch) bringUpLoopback() {
	request, err := unix.NewIfreq("lo")
	if err != nil {
		panic(err) // a name that is too long
	}
	request.SetUint16(unix.IFF_UP)
	const doing = "bringing lo up"
	l.call(doing, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	l.call(doing, unix.SYS_IOCTL, previous, unix.SIOCSIFFLAGS, bytesOf(request))
}

func (l *launch) setHostname(name string) {
	l.call("setting the hostname", unix.SYS_SETHOSTNAME, name, len(name))
}

// joinCgroup writes 0 to the groups' files tasks, which moves the calling thread, the player's only
// one. Under v2 the player was born in its group. The files are reached from the host's root, which
// is closed at once.
func (l *launch) joinCgroup() error {
	if len(l.command.Cgroup.Tasks) == 0 {
		return nil
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the root: %w", err)
	}
	root := l.hand(fd)
	for _, tasks := range l.command.Cgroup.Tasks {
		const doing = "joining the cgroup"
		l.call(doing, unix.SYS_OPENAT, root, strings.TrimPrefix(tasks, "/"), unix.O_WRONLY|unix.O_CLOEXEC)
		l.call(doing, unix.SYS_WRITE, previous, "0", 1)
	}
	l.call("closing the host's root", unix.SYS_CLOSE, root)
	return nil
}

// awaitParent waits until the parent has made the cgroup and the network.
func (l *launch) awaitParent() {
	if l.isAwaited() {
		l.call("waiting for the parent", unix.SYS_READ, pipeFD, []byte{0}, 1)
	}
}

func (l *launch) isAwaited() bool { return l.prepare != nil || l.command.Cgroup.Make != nil }

// enterDir changes to the working directory. Only a link in /proc to an open file can lead out of
// the container, so such links are not followed. See checkDir.
func (l *launch) enterDir() {
	const doing = "entering the working directory"
	l.open(doing, cmp.Or(l.command.Dir, "/")).
		explain(unix.ELOOP, "it leads through too many links, or one to an open file in /proc")
	l.call(doing, unix.SYS_FCHDIR, previous)
	l.checkDir(doing)
}

// checkDir fails unless the working directory is inside the root: for others getcwd(2) returns a
// path that begins with "(unreachable)".
func (l *launch) checkDir(doing string) {
	cwd := l.store(make([]byte, unix.PathMax))
	l.call(doing, unix.SYS_GETCWD, cwd, unix.PathMax)
	l.call(doing, opNumber(opIsInside), cwd).explain(unix.ENOENT, "it is outside of the container")
}

// become is the end of every program: from what is set up to the command in it.
func (l *launch) become() {
	l.makeSession()
	l.openNull()
	l.limitFiles()
	l.resetSignals()
	l.setSignalMask("unblocking signals", 0)
	l.call("marking all descriptors close-on-exec", unix.SYS_CLOSE_RANGE, pipeFD, ^uint32(0), unix.CLOSE_RANGE_CLOEXEC)
	args, env := l.storeAll(l.command.Args), l.storeAll(l.command.Env)
	for _, path := range l.command.candidates() {
		l.call("running", unix.SYS_EXECVE, path, args, env).forgive(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
}

// makeSession gives the command a session of its own, so that no ^C in the caller's terminal
// reaches it but through us.
func (l *launch) makeSession() {
	l.call("making a session", unix.SYS_SETSID)
	if l.command.Terminal {
		l.call("making the terminal the session's", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// openNull opens the container's /dev/null for each standard file that the command does not have.
func (l *launch) openNull() {
	if l.command.Terminal {
		return
	}
	for i, file := range l.stdio() {
		if file == nil {
			const doing = "opening /dev/null"
			l.call(doing, unix.SYS_OPENAT, at, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC)
			l.call(doing, unix.SYS_DUP3, previous, i, 0)
		}
	}
}

// confine takes from the process what the command, and an init above it, may not have. It is the
// place for capabilities, no_new_privs and seccomp: what follows needs no privilege.
func (l *launch) confine() {
	const doing = "changing the user"
	user := l.command.User
	var groups []byte
	for _, group := range user.Groups {
		groups = binary.NativeEndian.AppendUint32(groups, group)
	}
	l.call(doing, unix.SYS_SETGROUPS, len(user.Groups), groups)
	l.call(doing, unix.SYS_SETRESGID, user.GID, user.GID, user.GID)
	l.call(doing, unix.SYS_SETRESUID, user.UID, user.UID, user.UID)
}

// limitFiles gives the command the number of descriptors that systems start with. Go has raised
// ours to all that is allowed, and select(2) has no room for those in programs that use it.
func (l *launch) limitFiles() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return // then it stays as it is
	}
	soft := &unix.Rlimit{Cur: min(limit.Max, 1024), Max: limit.Max}
	l.call("limiting open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, bytesOf(soft), 0)
}

// resetSignals restores the default action of signals that we may have been started to ignore: nohup
// ignores SIGHUP, a script SIGINT in the background, and make, by posix_spawn(3), those from 32 on,
// which are the C library's own. For all others we have a handler, and exec resets them.
func (l *launch) resetSignals() {
	byDefault := l.store(make([]byte, 4*8)) // the kernel's struct sigaction
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 33, 34} {
		l.call("resetting signals", unix.SYS_RT_SIGACTION, int(signal), byDefault, 0, signalSetSize)
	}
}

const signalSetSize = 8 // of the kernel's sigset_t

func (l *launch) setSignalMask(doing string, blocked uint64) {
	l.call(doing, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, bytesOf(&blocked), 0, signalSetSize)
}

// fork starts the player, with flags of clone(2), in a cgroup of v2 unless that is nil. All that only
// the player needs is closed then.
func (l *launch) fork(flags uintptr, group *os.File) (*Process, error) {
	cgroup := -1
	if group != nil {
		cgroup = int(group.Fd())
	}
	pid, pidfd, err := l.startPlayer(l.files, flags, cgroup)
	runtime.KeepAlive(l.command) // and of its files
	l.letGo()                    // of the player's end of the pipe, too, or we would wait for ourselves
	if err != nil {
		return nil, fmt.Errorf("making the container's process: %w", err)
	}
	return &Process{PID: pid, pidfd: pidfd}, nil
}
