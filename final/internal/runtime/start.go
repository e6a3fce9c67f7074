//go:build linux

package runtime

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Start makes a container and returns when its command runs, or with the reason why it does not.
// The error is then an Error, nothing has run, and nothing is left behind.
//
// The container is killed when the thread that called Start ends, and so with the caller's
// process: see PR_SET_PDEATHSIG(2const). Call it from a thread that stays, such as the main one
// (runtime.LockOSThread in a func init keeps the main goroutine on it).
func Start(spec *Spec) (*Process, error) {
	process, err := start(spec)
	if err != nil {
		return nil, asError(err)
	}
	return process, nil
}

func start(spec *Spec) (_ *Process, err error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	l := &launch{command: &spec.Command, prepare: spec.Prepare}
	l.steps = make([]step, 0, 200) // which do for most
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
	l.mountFileSystems(pts)
	l.makeDevices()
	l.protectKernel()
	l.mountTmpfs(spec.Tmpfs)
	l.mountVolumes(spec.Volumes, trees)
	l.setHostname(spec.Hostname)
	l.awaitParent()
	if err := l.joinCgroup(); err != nil {
		return nil, err
	}
	l.mountCgroups()
	l.mkdirAll("making the working directory", cmp.Or(l.command.Dir, "/"))
	l.enterDir()
	if spec.ReadOnly {
		l.makeRootReadOnly()
	}
	l.confine()
	if spec.Init {
		l.call("making the init's child", becomeInit)
	}
	l.become()

	return l.run(namespaces(spec.Network))
}

// namespaces are those that a container is born into.
func namespaces(network Network) uint64 {
	flags := uint64(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	if network == (Network{}) {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// launch is a program on its way to a process: with it, what its steps need open.
type launch struct {
	program
	command  *Command
	prepare  func(pid int) error
	ours     *os.File // our end of the pipe to the child
	theirs   int      // the child's
	stdio    [3]int   // what become 0, 1 and 2, or -1
	terminal *os.File // of a command that has one, our side
	fds      []int    // to close when the child has its own
}

// openFiles makes the pipe, and looks after stdin, stdout and stderr.
func (l *launch) openFiles() error {
	pipe, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making the pipe to the container: %w", err)
	}
	l.ours, l.theirs = os.NewFile(uintptr(pipe[0]), "pipe"), l.owns(pipe[1])
	for i, file := range []*os.File{l.command.Stdin, l.command.Stdout, l.command.Stderr} {
		l.stdio[i] = -1
		if file == nil || l.command.Terminal {
			continue
		}
		// Above 2, so that none of them is in the way of another.
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("handing %s over: %w", file.Name(), err)
		}
		l.stdio[i] = l.owns(fd)
	}
	return nil
}

func (l *launch) owns(fd int) int {
	l.fds = append(l.fds, fd)
	return fd
}

// letGo closes what only the child needs.
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
		l.terminal.Close() // nobody came to use it
	}
}

// begin ties the child to us. If we are killed, no container stays behind without a parent; if
// we were killed before it said so, the byte that it sends does not go out. Our keys are not for
// the container, either: see keyrings(7).
func (l *launch) begin() {
	// Until it is another program, its memory is a copy of ours: for nobody in the container to read.
	l.call("hiding our memory", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	l.dieWithParent()
	l.call("making a session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).forgive(unix.ENOSYS, unix.EPERM)
	l.call("closing the parent's end of the pipe", unix.SYS_CLOSE, int(l.ours.Fd()))
	l.call("reporting for duty", unix.SYS_WRITE, l.theirs, "\x00", 1)
}

func (l *launch) dieWithParent() {
	if l.command.Outlives {
		return
	}
	l.call("tying the container to its parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0, 0, 0)
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
	l.call(doing, unix.SYS_IOCTL, previous, unix.SIOCSIFFLAGS, unsafe.Pointer(request))
}

func (l *launch) setHostname(name string) {
	l.call("setting the hostname", unix.SYS_SETHOSTNAME, name, len(name))
}

// joinCgroup has the child join with the one thread that it has: that is what a 0 in tasks does.
// Under v2 it was born in its group. The way to the files begins at the host's root.
func (l *launch) joinCgroup() error {
	if len(l.command.Cgroup.Tasks) == 0 {
		return nil
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the root: %w", err)
	}
	l.owns(root)
	for _, tasks := range l.command.Cgroup.Tasks {
		const doing = "joining the cgroup"
		l.call(doing, unix.SYS_OPENAT, root, strings.TrimPrefix(tasks, "/"), unix.O_WRONLY|unix.O_CLOEXEC)
		l.call(doing, unix.SYS_WRITE, previous, "0", 1)
	}
	return nil
}

// awaitParent has the child wait until the parent has made what it needs from here on.
func (l *launch) awaitParent() {
	if l.isAwaited() {
		l.call("waiting for the parent", unix.SYS_READ, l.theirs, unsafe.Pointer(new(byte)), 1)
	}
}

func (l *launch) isAwaited() bool { return l.prepare != nil || l.command.Cgroup.Make != nil }

// enterDir goes to the working directory.
func (l *launch) enterDir() {
	l.call("entering the working directory", unix.SYS_CHDIR, cmp.Or(l.command.Dir, "/"))
}

// become is the end of every program: from what is set up to the command in it.
func (l *launch) become() {
	l.handOverFiles()
	l.limitFiles()
	l.resetSignals()
	l.call("unblocking signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, unsafe.Pointer(new(uint64)), 0, unsafe.Sizeof(uint64(0)))
	l.call("marking all descriptors close-on-exec", unix.SYS_CLOSE_RANGE, 3, ^uint32(0), unix.CLOSE_RANGE_CLOEXEC)
	args, env := cStrings(l.command.Args), cStrings(l.command.Env)
	for _, path := range l.command.candidates() {
		l.call("running", unix.SYS_EXECVE, path, args, env).forgive(unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
}

// handOverFiles gives the command a session of its own, so that no ^C in the caller's terminal
// reaches it but through us, and its stdin, stdout and stderr.
func (l *launch) handOverFiles() {
	l.call("making a session", unix.SYS_SETSID)
	for i, fd := range l.stdio {
		const doing = "handing the standard files over"
		if fd == -1 {
			l.call(doing, unix.SYS_OPENAT, at, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC)
			l.call(doing, unix.SYS_DUP3, previous, i, 0)
		} else {
			l.call(doing, unix.SYS_DUP3, fd, i, 0)
		}
	}
	if l.command.Terminal {
		l.call("making the terminal the session's", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// confine takes from the process what the command, and an init above it, may not have. It is the
// place for capabilities, no_new_privs and seccomp: what follows, become, needs no privilege.
func (l *launch) confine() {
	const doing = "changing the user"
	user := l.command.User
	groups := append([]uint32{}, user.Groups...)
	l.call(doing, unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(unsafe.SliceData(groups)))
	l.call(doing, unix.SYS_SETRESGID, user.GID, user.GID, user.GID)
	l.call(doing, unix.SYS_SETRESUID, user.UID, user.UID, user.UID)
	l.dieWithParent() // which a change of the user has undone
	// One that is dead already sends no signal, and its end of the pipe is no error for who reads
	// it. For who writes it is, if only nothing.
	l.call("looking for the parent", unix.SYS_SENDTO, l.theirs, "", 0, unix.MSG_NOSIGNAL, 0, 0)
}

// limitFiles gives the command the number of descriptors that systems start with. Go has raised
// ours to all that is allowed, and select(2) has no room for those in programs that use it.
func (l *launch) limitFiles() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return // then it stays as it is
	}
	soft := &unix.Rlimit{Cur: min(limit.Max, 1024), Max: limit.Max}
	l.call("limiting open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, unsafe.Pointer(soft), 0)
}

// resetSignals has the command not ignore what we ignore: nohup has us ignore SIGHUP, a script SIGINT in the
// background, and make, by posix_spawn(3), those from 32 on, which are the C library's own. All others have
// a handler of Go's, and so the fork has reset them.
func (l *launch) resetSignals() {
	byDefault := unsafe.Pointer(new([4]uint64)) // the kernel's struct sigaction
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 33, 34} {
		l.call("resetting signals", unix.SYS_RT_SIGACTION, int(signal), byDefault, 0, unsafe.Sizeof(uint64(0)))
	}
}

// run forks the child, and returns when it has become the command.
func (l *launch) run(namespaces uint64) (*Process, error) {
	process, err := l.fork(namespaces)
	if err != nil {
		return nil, err
	}
	return process, l.follow(process)
}

// fork makes the child, with flags of clone(2). All that only the child needs is closed then.
func (l *launch) fork(flags uint64) (*Process, error) {
	pidfd := new(int32)
	args := &cloneArgs{
		flags:      flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(l.pointer(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if dir := l.command.Cgroup.Dir; dir != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(dir.Fd())
	}
	pid, errno := spawn(args, l.steps, uintptr(l.theirs))
	if errno != 0 {
		return nil, fmt.Errorf("making the container's process: %w", errno)
	}
	process := &Process{PID: pid, Terminal: l.terminal, pidfd: int(*pidfd)}
	l.terminal = nil
	l.letGo() // of the child's end of the pipe, too, or we would wait for ourselves
	return process, nil
}
