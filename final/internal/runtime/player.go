//go:build linux

package runtime

import (
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// playerCode returns the machine code of the player: the function player, which Go never calls. See
// player_amd64.s and player_arm64.s.
func playerCode() []byte

// player maps the steps and plays them.
//
//nolint:unused // by Go
func player()

// The player's address space, at addresses where the kernel puts nothing else.
const (
	codeAddress = 0x400000
	dataAddress = 0x10000000
)

// What the code needs of package unix, whose names the assembler does not know.
//
//nolint:unused // by Go
const (
	sysCloseRange   = unix.SYS_CLOSE_RANGE
	sysExecve       = unix.SYS_EXECVE
	sysExitGroup    = unix.SYS_EXIT_GROUP
	sysKill         = unix.SYS_KILL
	sysMmap         = unix.SYS_MMAP
	sysMunmap       = unix.SYS_MUNMAP
	sysRead         = unix.SYS_READ
	sysSigtimedwait = unix.SYS_RT_SIGTIMEDWAIT
	sysWait4        = unix.SYS_WAIT4
	sysWrite        = unix.SYS_WRITE
	eacces          = uint(unix.EACCES)
	enoent          = uint(unix.ENOENT)
	sigchld         = uint(unix.SIGCHLD)
	sigkill         = uint(unix.SIGKILL)
	sigterm         = uint(unix.SIGTERM)
	sigusr1         = uint(unix.SIGUSR1)
)

// The player's descriptors, besides stdin, stdout and stderr.
const (
	pipeFD  = 3 // to the parent
	codeFD  = 4 // the player's own executable
	dataFD  = 5 // the steps, and what they point to
	firstFD = 6 // of those that the steps name
)

// playerImage is what precedes the code in the player's executable. There is one segment, and the
// stack is not executable.
type playerImage struct {
	header  elf.Header64
	load    elf.Prog64
	stack   elf.Prog64
	options playerOptions
}

// playerOptions tell the code what it needs before it has mapped the data.
type playerOptions struct {
	dataSize  uint64
	firstStep uint64 // address
}

// Where the code finds its options.
//
//nolint:unused // by Go
const (
	dataSizeAddress  = codeAddress + unsafe.Offsetof(playerImage{}.options) + unsafe.Offsetof(playerOptions{}.dataSize)
	firstStepAddress = codeAddress + unsafe.Offsetof(playerImage{}.options) + unsafe.Offsetof(playerOptions{}.firstStep)
)

// machines maps GOARCH to the ELF machines that have a player.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// executable returns the player as an ELF file. See elf(5).
func executable(machine elf.Machine, options playerOptions) []byte {
	code := playerCode()
	const headers = unsafe.Sizeof(playerImage{})
	size := uint64(headers) + uint64(len(code))
	file := playerImage{
		header: elf.Header64{
			Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:      uint16(elf.ET_EXEC),
			Machine:   uint16(machine),
			Version:   uint32(elf.EV_CURRENT),
			Entry:     codeAddress + uint64(headers),
			Phoff:     uint64(unsafe.Offsetof(playerImage{}.load)),
			Ehsize:    uint16(unsafe.Sizeof(elf.Header64{})),
			Phentsize: uint16(unsafe.Sizeof(elf.Prog64{})),
			Phnum:     2,
		},
		load: elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: codeAddress, Filesz: size, Memsz: size, Align: 1 << 16,
		},
		stack:   elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
		options: options,
	}
	return append(bytesOf(&file), code...)
}

// bytesOf returns a copy of the value's memory.
func bytesOf[T any](value *T) []byte {
	return append([]byte{}, unsafe.Slice((*byte)(unsafe.Pointer(value)), unsafe.Sizeof(*value))...)
}

// newExecutable returns a descriptor of an executable file in memory.
func newExecutable(image []byte) (int, error) {
	fd, err := newFile(image, unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, where all such files are executable
		fd, err = newFile(image, 0)
	}
	if errors.Is(err, unix.EACCES) {
		err = errors.New("the sysctl vm.memfd_noexec forbids executable files in memory: set it to 1 or 0")
	}
	return fd, err
}

// newFile returns a descriptor of a file in memory that nothing can change: a container that may
// trace the player can open the file by /proc/PID/exe or /proc/PID/map_files. See memfd_create(2).
func newFile(content []byte, flags int) (int, error) {
	fd, err := unix.MemfdCreate(playerName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|flags)
	if err != nil {
		return -1, err
	}
	if err := fill(fd, content); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// fill writes all of a file's content and seals the file.
func fill(fd int, content []byte) error {
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		content = content[max(n, 0):]
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return err
}

// playerName is the only argument of the player, and the name of its files in memory.
const playerName = "mydocker-init"

// startPlayer starts a process that plays the program. Flags are those of clone(2) for new
// namespaces. The process is born in the v2 cgroup whose directory is cgroupFD, unless that is -1.
// files[N] becomes its descriptor N.
func (p *program) startPlayer(files []int, flags uintptr, cgroupFD int) (pid, pidfd int, err error) {
	data, firstStep := p.encode()
	dataFile, err := newFile(data, 0)
	if err != nil {
		return 0, -1, err
	}
	defer unix.Close(dataFile)
	codeFile, err := newExecutable(executable(machines[runtime.GOARCH], playerOptions{uint64(len(data)), firstStep}))
	if err != nil {
		return 0, -1, err
	}
	defer unix.Close(codeFile)

	attr := &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  flags,
		PidFD:       &pidfd,
		UseCgroupFD: cgroupFD != -1,
		CgroupFD:    cgroupFD,
	}}
	for _, fd := range files {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	attr.Files[codeFD], attr.Files[dataFD] = uintptr(codeFile), uintptr(dataFile)
	// Until its exec the child shares our memory and suspends this thread, so no page tables are copied.
	pid, err = syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", codeFD), []string{playerName}, attr)
	return pid, pidfd, err
}
