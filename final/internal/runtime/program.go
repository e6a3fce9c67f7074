//go:build linux

package runtime

import (
	"fmt"
	"path"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is what a forked child does until it is the command: a list of system calls. The
// child of a fork in Go has one thread and no scheduler. It can allocate nothing, lock nothing
// and call next to nothing, so all that it needs is made here, before the fork.
type program struct {
	steps []step
	keep  []any // what arguments point to, as the garbage collector does not see that they do
}

// step is one system call. The child goes on if it succeeds, or fails with a forgiven error.
type step struct {
	doing    string // in the gerund, for the error
	number   uintptr
	args     [6]uintptr
	forgiven [3]unix.Errno
	meanings map[unix.Errno]string // what errors mean here
}

// previous, as an argument, is the result of the step before.
const previous = ^uintptr(0) - 1

// becomeInit, as a number, is no system call: see stayAsInit.
const becomeInit = ^uintptr(0)

// call adds a system call to the program. An argument is an integer, a string, or a pointer.
func (p *program) call(doing string, number uintptr, args ...any) *step {
	s := step{doing: doing, number: number}
	for i, arg := range args {
		s.args[i] = p.argument(arg)
	}
	p.steps = append(p.steps, s)
	return &p.steps[len(p.steps)-1]
}

// forgive has the child go on after these errors.
func (s *step) forgive(errors ...unix.Errno) {
	copy(s.forgiven[:], errors)
}

// explain says what an error means here, where the kernel's words are too few.
func (s *step) explain(errno unix.Errno, meaning string) *step {
	if s.meanings == nil {
		s.meanings = map[unix.Errno]string{}
	}
	s.meanings[errno] = meaning
	return s
}

func (p *program) argument(arg any) uintptr {
	switch arg := arg.(type) {
	case int:
		return uintptr(arg)
	case uint32:
		return uintptr(arg)
	case uintptr:
		return arg
	case string:
		return p.pointer(unsafe.Pointer(cString(arg)))
	case unsafe.Pointer:
		return p.pointer(arg)
	default:
		panic(fmt.Sprintf("a system call takes no %T", arg))
	}
}

func (p *program) pointer(to unsafe.Pointer) uintptr {
	p.keep = append(p.keep, to)
	return uintptr(to)
}

// cString returns the string with a NUL at its end, and without what follows a NUL in it, which
// is how the kernel would read it. Nothing that may hold one gets here: see Spec.check.
func cString(s string) *byte {
	return unsafe.SliceData(append([]byte(s), 0))
}

// cStrings returns the strings as execve(2) wants them, with a nil at the end.
func cStrings(list []string) unsafe.Pointer {
	pointers := make([]*byte, len(list)+1)
	for i, s := range list {
		pointers[i] = cString(s)
	}
	return unsafe.Pointer(unsafe.SliceData(pointers))
}

// at is a path's directory file descriptor when the path is absolute, or relative to the
// working directory.
const at = unix.AT_FDCWD

func (p *program) mount(source, target, fstype string, flags uintptr, options string) *step {
	return p.call("mounting "+target, unix.SYS_MOUNT, source, target, fstype, flags, options)
}

// mkdirAll makes the directories that are missing on the way to a path, and that itself. Its
// links are followed, but not those of /proc that lead to open files: the child has some of the
// host's open.
func (p *program) mkdirAll(doing, target string) {
	if target == "/" {
		return
	}
	p.mkdirAll(doing, path.Dir(target))
	p.open(doing, path.Dir(target))
	p.call(doing, unix.SYS_MKDIRAT, previous, path.Base(target), 0o755).forgive(unix.EEXIST, unix.EROFS)
}

// open leaves a descriptor of the path for the next step, as its previous result.
func (p *program) open(doing, target string) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	p.call(doing, unix.SYS_OPENAT2, at, target, unsafe.Pointer(how), unsafe.Sizeof(*how))
}

// failure is what a child tells its parent when it did not become the command.
type failure struct {
	Step  int32
	Errno int32
}

// play makes the calls, and does not return: either the last of them has made the process
// another program, or it tells the parent what failed, and ends when the parent knows all that
// it wants to know. It must not grow the stack, which is why everything that it calls is nosplit.
//
//go:nosplit
//go:norace
func play(steps []step, pipe uintptr) {
	var result uintptr
	var report failure
	for i := range steps {
		s := &steps[i]
		args := s.args
		for j := range args {
			if args[j] == previous {
				args[j] = result
			}
		}
		var errno unix.Errno
		if s.number == becomeInit {
			errno = stayAsInit()
		} else {
			result, _, errno = syscall.RawSyscall6(s.number, args[0], args[1], args[2], args[3], args[4], args[5])
		}
		if errno == 0 {
			continue
		}
		report.Step = int32(i)
		// Of all the places where the command is not, one where it may not be run says most.
		if s.number != unix.SYS_EXECVE || report.Errno != int32(unix.EACCES) {
			report.Errno = int32(errno)
		}
		if errno != s.forgiven[0] && errno != s.forgiven[1] && errno != s.forgiven[2] {
			break
		}
		if s.number != unix.SYS_EXECVE {
			report.Errno = 0
		}
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, pipe, uintptr(unsafe.Pointer(&report)), unsafe.Sizeof(report))
	_, _, _ = syscall.RawSyscall(unix.SYS_READ, pipe, uintptr(unsafe.Pointer(&report)), 1)
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// cloneArgs is struct clone_args of clone(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// spawn forks a child that plays the steps. For the child's sake all signals are blocked
// meanwhile, or Go's handlers would run in it, where nothing of what they rely on is left.
//
//go:nosplit
//go:norace
func spawn(args *cloneArgs, steps []step, pipe uintptr) (pid int, errno unix.Errno) {
	all, mask := ^uint64(0), uint64(0)
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&mask)), unsafe.Sizeof(mask), 0, 0)
	r, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if r == 0 && errno == 0 {
		play(steps, pipe)
	}
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&mask)), 0, unsafe.Sizeof(mask), 0, 0)
	return int(r), errno
}
