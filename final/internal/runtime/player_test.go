//go:build linux

package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// play plays the steps of a launch, without namespaces, and returns the message that describes
// how they failed, and the exit status.
func play(t *testing.T, l *launch) (failure string, status int) {
	t.Helper()
	if l.command == nil {
		l.command = &Command{}
	}
	require.NoError(t, l.openFiles())
	return playOpen(t, l)
}

// playOpen plays a launch that has its files.
func playOpen(t *testing.T, l *launch) (failure string, status int) {
	t.Helper()
	defer l.close()
	process, err := l.fork(0, nil)
	require.NoError(t, err)
	if message, err := l.hear(); err == nil {
		failure = l.describe(message, process.PID).Error()
		l.ours.Close() // so that the player ends
	}
	status, err = process.Wait()
	require.NoError(t, err)
	return failure, status
}

func TestPlayer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	l := &launch{}
	l.call("opening", unix.SYS_OPENAT, at, file, unix.O_RDWR|unix.O_CREAT, 0o600)
	l.call("writing", unix.SYS_WRITE, previous, "played", 6)
	l.call("a forgiven failure", unix.SYS_OPENAT, at, "/none", 0).forgive(unix.EPERM, unix.EACCES, unix.ENOENT)
	l.call("looking inside", opNumber(opIsInside), "/x")
	l.call("looking outside", opNumber(opIsInside), "(unreachable)/x")
	failure, status := play(t, l)
	assert.Equal(t, "looking outside: no such file or directory", failure)
	assert.Equal(t, 1, status)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "played", string(content))

	l = &launch{}
	l.call("exiting", unix.SYS_EXIT_GROUP, 7)
	failure, status = play(t, l)
	assert.Equal(t, "", failure)
	assert.Equal(t, 7, status)
}

func TestFilesAreSealed(t *testing.T) {
	before := []byte("the player")
	fd, err := newExecutable(before)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), "executable")
	defer file.Close()
	_, err = file.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorIs(t, file.Truncate(1), unix.EPERM)
	require.ErrorIs(t, file.Truncate(100), unix.EPERM)
	_, err = unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE)
	require.ErrorIs(t, err, unix.EPERM)
	after := make([]byte, len(before))
	_, err = file.ReadAt(after, 0)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

// TestPlayerIsOfNoUse attacks a player as root of a container with CAP_SYS_PTRACE can.
func TestPlayerIsOfNoUse(t *testing.T) {
	l := &launch{command: &Command{}}
	require.NoError(t, l.openFiles())
	defer l.close()
	l.begin()
	l.awaitsByte()
	process, err := l.fork(0, nil)
	require.NoError(t, err)
	defer process.end()
	l.hearsByte(t)

	path := fmt.Sprintf("/proc/%d/exe", process.PID)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Less(t, len(content), 4096, "it is no more than the player's code")
	require.ErrorIs(t, unix.Access(path, unix.X_OK), unix.EACCES, "it cannot be played again")
	if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil { // older kernels say that it is busy
		_, err = file.Write([]byte("#!/bin/sh"))
		require.ErrorIs(t, err, unix.EPERM)
		file.Close()
	}
}

// awaitsByte has the player say that it is there, and wait for an answer.
func (l *launch) awaitsByte() {
	l.call("reporting", unix.SYS_WRITE, pipeFD, "\x00", 1)
	l.call("waiting", unix.SYS_READ, pipeFD, []byte{0}, 1)
}

func (l *launch) hearsByte(t *testing.T) {
	t.Helper()
	_, err := l.ours.Read(make([]byte, 1))
	require.NoError(t, err)
}

// TestDeadParent has a parent end before the player is tied to it.
func TestDeadParent(t *testing.T) {
	for _, parentIsDead := range []bool{false, true} {
		marker := filepath.Join(t.TempDir(), "marker")
		l := &launch{command: &Command{}}
		require.NoError(t, l.openFiles())
		l.tie()
		l.call("going on", unix.SYS_MKDIRAT, at, marker, 0o700)
		l.call("exiting", unix.SYS_EXIT_GROUP, 0)
		if parentIsDead {
			l.ours.Close()
		}
		process, err := l.fork(0, nil)
		require.NoError(t, err)
		_, err = process.Wait()
		require.NoError(t, err)
		l.close()
		if parentIsDead {
			assert.NoDirExists(t, marker)
		} else {
			assert.DirExists(t, marker)
		}
	}
}

// TestPlayerDiesWithParent has the thread end that has started a player.
func TestPlayerDiesWithParent(t *testing.T) {
	l := &launch{command: &Command{}}
	require.NoError(t, l.openFiles())
	defer l.close()
	l.begin()
	l.awaitsByte()
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		if unix.Gettid() == os.Getpid() {
			started <- nil // the main thread does not end
			return
		}
		process, err := l.fork(0, nil)
		assert.NoError(t, err)
		l.hearsByte(t)
		started <- process
	}()
	process := <-started
	if process == nil {
		TestPlayerDiesWithParent(t) // now another thread has to be it
		return
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(process.pidfd), Events: unix.POLLIN}}, 10_000)
	require.NoError(t, err)
	assert.Equal(t, 1, n, "the player has ended")
	process.end()
}

// TestHostRootIsClosed joins a cgroup, as it were, by the host's root.
func TestHostRootIsClosed(t *testing.T) {
	l := &launch{command: &Command{Cgroup: Cgroup{Tasks: []string{os.DevNull}}}}
	require.NoError(t, l.openFiles())
	require.NoError(t, l.joinCgroup())
	l.call("following", unix.SYS_OPENAT, firstFD, "etc", unix.O_PATH)
	failure, _ := playOpen(t, l)
	assert.Equal(t, "following: bad file descriptor", failure)
}

// TestDirIsInside has the working directory be outside of the root without any magic link.
func TestDirIsInside(t *testing.T) {
	root := t.TempDir()
	l := &launch{command: &Command{Dir: "."}}
	l.call("leaving the root", unix.SYS_CHROOT, root)
	l.enterDir()
	failure, _ := play(t, l)
	assert.Equal(t, "entering the working directory: it is outside of the container", failure)
}

// TestNoWayOut has paths of the image and of the user lead through the files that are open when
// they are followed.
func TestNoWayOut(t *testing.T) {
	host, err := os.Executable() // a program that needs no library
	require.NoError(t, err)
	base := newSpec(t, "sleep", "1000")
	base.Volumes = []Volume{{Source: "/", Target: "/etc/of/host"}}
	root := base.Root.Layers[0]
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin", "self"), []byte("#!/proc/self/exe\n"), 0o755))
	require.NoError(t, os.Symlink("/proc/self/fd/5/..", filepath.Join(root, "out")))
	_, target := background(t, newSpec(t, "sleep", "1000"))
	require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/root/bin/self", target.PID), []byte("#!/proc/self/exe\n"), 0o755))

	// refused checks that the command does not run as a first one, under an init, or beside another.
	refused := func(status int, message string, command Command) {
		t.Helper()
		first := *base
		first.Command = command
		underInit := first
		underInit.Init = true
		for name, start := range map[string]func() (*Process, error){
			"start": func() (*Process, error) { return Start(&first) },
			"init":  func() (*Process, error) { return Start(&underInit) },
			"exec":  func() (*Process, error) { return Exec(target, &command) },
		} {
			process, err := start()
			if err == nil {
				process.end()
			}
			var failed *Error
			require.ErrorAs(t, err, &failed, "%s %v", name, command)
			assert.Equal(t, status, failed.Status, "%s %v: %v", name, command, err)
			assert.ErrorContains(t, err, message)
		}
	}
	for _, dir := range []string{"/out", "/proc/self/root", "/proc/self/cwd", "/proc/self/cwd/..", "/proc/thread-self/fd/7"} {
		refused(StatusFailed, "working directory: ", Command{Args: []string{"/bin/true"}, Dir: dir})
	}
	for fd := range 12 {
		link := fmt.Sprintf("/proc/self/fd/%d", fd)
		refused(StatusFailed, "working directory: ", Command{Args: []string{"/bin/true"}, Dir: link})
		refused(StatusNotFound, "", Command{Args: []string{link + host}})
		refused(StatusNotFound, "not found in $PATH", Command{Args: []string{filepath.Base(host)}, Env: []string{"PATH=" + link + filepath.Dir(host)}})
	}
	for fd := range 12 {
		spec := *base
		spec.Tmpfs = []Tmpfs{{Target: fmt.Sprintf("/proc/self/fd/%d", fd)}}
		_, err := Start(&spec)
		require.ErrorIs(t, err, unix.ELOOP)
	}
	for _, name := range []string{"/proc/self/exe", "/bin/self", "/proc/self/fd/3"} {
		refused(StatusNotExecutable, "permission denied", Command{Args: []string{name}})
	}
}

// TestManyFiles has more volumes than the soft limit lets processes have open files.
func TestManyFiles(t *testing.T) {
	spec := newSpec(t, "x")
	exe, err := os.Executable()
	require.NoError(t, err)
	parent := exec.Command("/bin/sh", "-c", `ulimit -Sn 30; exec "$0" "$@"`, exe, spec.Root.Layers[0], filepath.Dir(spec.Root.Upper))
	parent.Env = append(os.Environ(), stepVar+"=parent", "VOLUMES=40")
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	assert.NotEmpty(t, line)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
}

// TestMemfdsForbidden has a kernel that runs nothing from memory.
func TestMemfdsForbidden(t *testing.T) {
	const sysctl = "/proc/sys/vm/memfd_noexec" // of our PID namespace
	before, err := os.ReadFile(sysctl)
	if errors.Is(err, fs.ErrNotExist) {
		return // such a kernel has no such switch
	}
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(sysctl, []byte("2"), 0))
	defer func() { assert.NoError(t, os.WriteFile(sysctl, before, 0)) }()
	_, err = run(t, newSpec(t, "true"))
	require.ErrorContains(t, err, "vm.memfd_noexec")
}

// TestStandardFilesAreNoWayOut has a directory as a standard file: its ".." leads out.
func TestStandardFilesAreNoWayOut(t *testing.T) {
	spec := newSpec(t, "true")
	dir, err := os.Open("/etc")
	require.NoError(t, err)
	defer dir.Close()
	spec.Stdin = dir
	_, err = run(t, spec)
	require.EqualError(t, err, "handing /etc over: is a directory")
}

// contents returns all that can be read of a process's memory.
func contents(t *testing.T, pid int) string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	require.NoError(t, err)
	defer memory.Close()
	var all strings.Builder
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[v") {
			continue // the kernel's vvar, vdso and vsyscall, which are the same for all
		}
		var from, to int64
		_, err := fmt.Sscanf(line, "%x-%x ", &from, &to)
		require.NoError(t, err)
		buffer := make([]byte, to-from)
		n, err := memory.ReadAt(buffer, from)
		require.NoError(t, err)
		all.Write(buffer[:n])
	}
	return all.String()
}

// checkPlayer looks for what is the host's in a player that the container can see.
func checkPlayer(t *testing.T, pid int, secrets ...string) {
	t.Helper()
	for name, want := range map[string]string{"environ": "", "cmdline": playerName + "\x00"} {
		got, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	exe, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	require.NoError(t, err)
	memory := contents(t, pid)
	require.Contains(t, memory, playerName)
	for _, secret := range secrets {
		assert.NotContains(t, string(exe), secret)
		assert.NotContains(t, memory, secret)
	}
}

func TestInitHasNothing(t *testing.T) {
	t.Setenv("HOST_SECRET", "of the caller")
	spec := newSpec(t, "sleep", "1000")
	spec.Init = true
	spec.Volumes = []Volume{{Source: "/etc", Target: "/v"}}
	process, _ := background(t, spec)
	checkPlayer(t, process.PID, "HOST_SECRET", spec.Root.Upper, spec.Root.Layers[0], "/etc", "sleep", "PATH=")
	assert.Equal(t, playerName+"\n"+playerName+"\n", output(t, "cat /proc/1/comm; tr '\\0' '\\n' </proc/1/cmdline", func(s *Spec) { s.Init = true }))
	// Another user's command cannot trace it.
	assert.Equal(t, "no\n", output(t, "readlink /proc/1/exe || echo no", func(s *Spec) { s.Init, s.User.UID = true, 1000 }))
}

// TestExecIsNotCaught has a container stop all processes that it sees, and looks at what exec's is
// at each stop on the way to the command, which is long.
func TestExecIsNotCaught(t *testing.T) {
	t.Setenv("HOST_SECRET", "of the caller")
	exe, err := os.Executable()
	require.NoError(t, err)
	spec := newSpec(t, "/probe")
	spec.Env, spec.Volumes = []string{stepVar + "=stop"}, []Volume{{Source: exe, Target: "/probe"}}
	_, target := background(t, spec)
	deadline := time.Now().Add(time.Minute)
	for caught := 0; caught < 10; {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			path := "PATH=" + strings.Repeat("/none:", 500) + "/bin"
			process, err := Exec(target, &Command{Args: []string{"sleep", "1000"}, Env: []string{path}, User: User{UID: 7, GID: 7}, Outlives: true})
			if assert.NoError(t, err) {
				process.end()
			}
		}()
		for isRunning := true; isRunning; {
			require.True(t, time.Now().Before(deadline), "caught %d times", caught)
			if pid := processIn(target); pid != 0 {
				if look(t, pid, target, spec) {
					caught++
				}
				_ = unix.Kill(pid, unix.SIGCONT)
			}
			select {
			case <-ended:
				isRunning = false
			default:
			}
		}
	}
}

// look checks a player if it is stopped.
func look(t *testing.T, pid int, target Target, spec *Spec) bool {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil || !strings.Contains(string(status), "\nState:\tT") {
		return false
	}
	if exe, err := os.Readlink(proc + "/exe"); err != nil || !strings.Contains(exe, playerName) {
		return false
	}
	checkPlayer(t, pid, "HOST_SECRET", spec.Root.Upper)
	assert.Contains(t, string(status), "\nUid:\t7\t7\t7\t7\n")
	files, err := filepath.Glob(proc + "/fd/*")
	require.NoError(t, err)
	root, err := os.Stat(fmt.Sprintf("/proc/%d/root", target.PID))
	require.NoError(t, err)
	for _, file := range files {
		link, err := os.Readlink(file)
		require.NoError(t, err)
		if info, err := os.Stat(file); err != nil || !os.SameFile(root, info) { // the working directory
			assert.Regexp(t, "^/dev/null$|^socket:", link)
		}
	}
	for _, namespace := range []string{"mnt", "net", "uts", "ipc", "cgroup", "pid"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", target.PID, namespace))
		require.NoError(t, err)
		its, err := os.Readlink(proc + "/ns/" + namespace)
		require.NoError(t, err)
		assert.Equal(t, theirs, its)
	}
	return true
}

// processIn returns a process in the container beside its first, or 0.
func processIn(target Target) int {
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", target.PID))
	if err != nil {
		return 0
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, link := range links {
		pid := 0
		_, _ = fmt.Sscanf(link, "/proc/%d/", &pid)
		if got, err := os.Readlink(link); err == nil && got == want && pid != target.PID {
			return pid
		}
	}
	return 0
}

// stopAll stops all processes of a container but this one.
func stopAll() {
	for {
		_ = unix.Kill(-1, unix.SIGSTOP) // there may be none
	}
}

// TestKeysStay has a key in the session keyring of the caller.
func TestKeysStay(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, err := unix.KeyctlJoinSessionKeyring("mydocker-test")
	require.NoError(t, err)
	_, err = unix.AddKey("user", secretKey, []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	probe := []Volume{{Source: exe, Target: "/probe"}}
	env := []string{stepVar + "=keys"}

	spec := newSpec(t, "/probe")
	spec.Env, spec.Volumes = env, probe
	got, err := run(t, spec)
	require.NoError(t, err)
	assert.Equal(t, "required key not available\n", got.stdout)

	spec = newSpec(t, "sleep", "1000")
	spec.Volumes = probe
	_, target := background(t, spec)
	got, err = runExec(t, target, &Command{Args: []string{"/probe"}, Env: env})
	require.NoError(t, err)
	assert.Equal(t, "required key not available\n", got.stdout)
}

const secretKey = "mydocker-test-secret"

// lookForKey says whether it finds the caller's key.
func lookForKey() {
	_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", secretKey, 0)
	fmt.Println(err)
}
