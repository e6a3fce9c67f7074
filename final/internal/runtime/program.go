//go:build linux

package runtime

import (
	"encoding/binary"
	"fmt"
	"path"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is the list of system calls that a process makes until it becomes the command. This
// process writes the list, and another one, the player, plays it. They share no memory.
type program struct {
	steps []step
	data  []byte // what arguments point to, mapped at dataAddress
}

// step is one system call. The player goes on if it succeeds, or fails with a forgiven error.
type step struct {
	doing    string // in the gerund, for the error
	number   uintptr
	args     [6]uintptr
	forgiven [3]unix.Errno
	meanings map[unix.Errno]string // what errors mean here
}

// previous, as an argument, is the result of the step before.
const previous = ^uintptr(0) - 1

// These numbers stand for what the player does without a system call, or with several.
const (
	_          = -iota
	opEnd      // report the last failure, which was forgiven
	opIsInside // fail with ENOENT unless the path at the argument is absolute
	opKeep     // after clone with CLONE_VM and CLONE_VFORK, in the parent: wait for what opLeave has left behind
	opLeave    // after clone, in the parent: report the child's ID and exit
	opStay     // after clone, in the parent: become an init
)

// playerStep is a step in the player's memory.
type playerStep struct {
	number   int64
	args     [6]uint64
	forgiven [3]uint32
	index    uint32
}

// encode returns the data with the steps at its end, and the address of the first step.
func (p *program) encode() (data []byte, first uint64) {
	last := step{number: opNumber(opEnd)}
	data = append([]byte{}, p.data...)
	for i, s := range append(p.steps[:len(p.steps):len(p.steps)], last) {
		encoded := playerStep{number: int64(s.number), index: uint32(min(i, len(p.steps)-1))}
		for j, arg := range s.args {
			encoded.args[j] = uint64(arg)
		}
		for j, errno := range s.forgiven {
			encoded.forgiven[j] = uint32(errno)
		}
		data = append(data, bytesOf(&encoded)...)
	}
	return data, dataAddress + uint64(len(p.data))
}

// opNumber returns the number of an operation for call.
func opNumber(op int) uintptr { return uintptr(op) }

// call adds a system call to the program. Integers are passed as they are. For all else the call
// gets an address: of a string with a NUL at its end, of bytes, which it may also write to, or of
// a list of strings as execve(2) takes it.
func (p *program) call(doing string, number uintptr, args ...any) *step {
	s := step{doing: doing, number: number}
	for i, arg := range args {
		s.args[i] = p.argument(arg)
	}
	p.steps = append(p.steps, s)
	return &p.steps[len(p.steps)-1]
}

// forgive lets the player go on after these errors.
func (s *step) forgive(errors ...unix.Errno) {
	copy(s.forgiven[:], errors)
}

// explain gives the message for an error where the kernel's own says too little.
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
		return p.store(append([]byte(arg), 0)) // the kernel reads up to the first NUL: see Spec.check
	case []byte:
		return p.store(arg)
	case []string:
		return p.storeAll(arg)
	default:
		panic(fmt.Sprintf("a system call takes no %T", arg))
	}
}

// store adds data and returns its address in the player.
func (p *program) store(data []byte) uintptr {
	address := dataAddress + uintptr(len(p.data))
	p.data = append(p.data, data...)
	p.data = append(p.data, make([]byte, -len(p.data)&7)...) // the next begins at a multiple of 8
	return address
}

// storeAll adds the strings and returns the address of a list of their addresses, with a 0 at its
// end.
func (p *program) storeAll(list []string) uintptr {
	addresses := make([]byte, 0, 8*(len(list)+1))
	for _, s := range list {
		addresses = binary.NativeEndian.AppendUint64(addresses, uint64(p.argument(s)))
	}
	return p.store(binary.NativeEndian.AppendUint64(addresses, 0))
}

// at is a path's directory file descriptor when the path is absolute, or relative to the
// working directory.
const at = unix.AT_FDCWD

func (p *program) mount(source, target, fstype string, flags uintptr, options string) *step {
	return p.call("mounting "+target, unix.SYS_MOUNT, source, target, fstype, flags, options)
}

// mkdirAll creates target and any missing parents. It follows links, but not those of /proc that
// lead to open files.
func (p *program) mkdirAll(doing, target string) {
	if target == "/" {
		return
	}
	p.mkdirAll(doing, path.Dir(target))
	p.open(doing, path.Dir(target))
	p.call(doing, unix.SYS_MKDIRAT, previous, path.Base(target), 0o755).forgive(unix.EEXIST, unix.EROFS)
}

// open opens a path for the next step, which gets the descriptor as its previous result.
func (p *program) open(doing, target string) *step {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	return p.call(doing, unix.SYS_OPENAT2, at, target, bytesOf(how), unsafe.Sizeof(*how))
}

// report is a player's message to its parent: the step that failed and its error, or, without an
// error, the ID of the process that goes on in its place.
type report struct {
	Step  int32
	Errno int32
}
