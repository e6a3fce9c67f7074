//go:build linux

package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 0; sleep 9": 137, "trap 'exit 9' TERM; kill $$": 9} {
		for _, init := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, init %v", script, init), func(t *testing.T) {
				spec := newSpec(t, "sh", "-c", script)
				spec.Init = init
				if !init && want == 137 {
					return // as process 1 it is not killed from inside
				}
				got, err := run(t, spec)
				require.NoError(t, err)
				assert.Equal(t, want, got.status)
			})
		}
	}
}

func TestWhyACommandDoesNotRun(t *testing.T) {
	root := image(t)
	for name, file := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"data": {"no program", 0o755}, "plain": {"#!/bin/sh\n", 0o644}, "script": {"#!/bin/perl\n", 0o755},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(root, "bin", name), []byte(file.content), file.mode))
	}
	for command, want := range map[string]struct {
		status  int
		message string
	}{
		"nothing":    {127, `running "nothing": executable file not found in $PATH`},
		"":           {127, `running "": executable file not found in $PATH`},
		"/bin/none":  {127, `running "/bin/none": no such file or directory`},
		"/bin/sh/x":  {127, `running "/bin/sh/x": not a directory`},
		"/bin":       {126, `running "/bin": is a directory`},
		"plain":      {126, `running "plain": permission denied`},
		"data":       {126, `running "data": it is neither a program nor a script that begins with #!: exec format error`},
		"script":     {127, `running "script": it is run by /bin/perl, which is not in the image: no such file or directory`},
		"../bin/sh/": {127, `running "../bin/sh/": not a directory`},
	} {
		for _, init := range []bool{false, true} {
			spec := newSpec(t, command)
			spec.Root.Layers = []string{root}
			spec.Init = init
			_, err := run(t, spec)
			require.EqualError(t, err, want.message)
			var failed *Error
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, want.status, failed.Status, command)
		}
	}
}

// TestFailuresAreFatal has the set-up fail in many places: the command must not run.
func TestFailuresAreFatal(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"no command specified":           func(s *Spec) { s.Args = nil },
		"a command line cannot hold NUL": func(s *Spec) { s.Args = append(s.Args, "a\x00b") },
		"the working directory 'x' is invalid, it needs to be an absolute path": func(s *Spec) { s.Dir = "x" },
		"entering the working directory: not a directory":                       func(s *Spec) { s.Dir = "/bin/sh" },
		"mounting the overlay: files of the image or the container are gone":    func(s *Spec) { s.Root.Layers = []string{"/none"} },
		"opening volume /none: no such file or directory":                       func(s *Spec) { s.Volumes = []Volume{{Source: "/none", Target: "/x"}} },
		"mounting volume /etc on /bin/busybox: one is a directory":              func(s *Spec) { s.Volumes = []Volume{{Source: "/etc", Target: "/bin/sh"}} },
		"opening the network namespace: no such file or directory":              func(s *Spec) { s.Network.Path = "/none" },
		"joining the network namespace: invalid argument":                       func(s *Spec) { s.Network.Path = "/proc/self/ns/uts" },
		"setting the hostname: invalid argument":                                func(s *Spec) { s.Hostname = strings.Repeat("x", 65) },
		"preparing: no":                                                         func(s *Spec) { s.Prepare = func(int) error { return errors.New("preparing: no") } },
		"mounting a tmpfs on /t: invalid argument":                              func(s *Spec) { s.Tmpfs = []Tmpfs{{Target: "/t", Options: "nonsense=1"}} },
	} {
		spec := newSpec(t, "touch", "/ran")
		change(spec)
		_, err := run(t, spec)
		require.ErrorContains(t, err, want)
		var failed *Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, StatusFailed, failed.Status)
		assert.NoFileExists(t, filepath.Join(spec.Root.Upper, "ran"))
	}
}

func TestArgumentsAreUntouched(t *testing.T) {
	args := []string{"", "a b", "\n", "\xff\xfe", `"'$x\`, "世界", strings.Repeat("x", 100_000), strings.Repeat("y", 100_000)}
	spec := newSpec(t, append([]string{"printf", `%s|`}, args...)...)
	got, err := run(t, spec)
	require.NoError(t, err)
	assert.Equal(t, strings.Join(args, "|")+"|", got.stdout)
}

func TestNothingIsInherited(t *testing.T) {
	file, err := os.Open("/etc") // and one that is not close-on-exec
	require.NoError(t, err)
	defer file.Close()
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETFD, 0)
	require.NoError(t, err)
	t.Setenv("SECRET", "1")
	process, _ := background(t, newSpec(t, "sleep", "1000"))
	descriptors, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", process.PID))
	require.NoError(t, err)
	assert.Len(t, descriptors, 3)
	assert.Equal(t, "", output(t, "cat /proc/1/environ | tr '\\0' '\\n' | grep -v -e ^PATH= || true"))
	assert.Equal(t, "1024\n", output(t, "ulimit -n"))
	signals := output(t, "grep -e SigBlk -e SigPnd /proc/1/status")
	assert.NotRegexp(t, "[1-9a-f]$", lines(signals)[0])
}

func TestSurroundings(t *testing.T) {
	assert.Equal(t, "box\n", output(t, "hostname"))
	assert.Equal(t, "c 1:3\nc 1:5\nc 1:7\nc 1:8\nc 1:9\nc 5:0\n", output(t,
		`for d in null zero full random urandom tty; do ls -l /dev/$d | awk '{gsub(",","",$5); print substr($1,1,1) " " $5 ":" $6}'; done`))
	assert.Equal(t, "pts/ptmx\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n", output(t,
		"for l in ptmx fd stdin stdout stderr; do readlink /dev/$l; done"))
	assert.Equal(t, "1777\n", output(t, "stat -c %a /dev/shm"))
	for target, want := range map[string]string{
		"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/": "overlay",
	} {
		assert.Equal(t, want+"\n", output(t, "awk '$2==\""+target+"\" {print $3}' /proc/mounts"), target)
	}
	assert.Equal(t, "lo up\n", output(t, "ip a | grep -q 'LOOPBACK,UP' && echo lo up"))
	assert.Equal(t, "no\n", output(t, "cat /proc/keys /proc/timer_list | grep -q . || echo no"), "masked")
	for _, path := range []string{"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/x", "/sys/fs/cgroup/x"} {
		assert.Equal(t, "refused\n", output(t, "echo x 2>/dev/null >"+path+" || echo refused"), path)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), "overlay "+sandboxDir, "the host sees none of the container's mounts")
}

func TestRootIsTheContainers(t *testing.T) {
	assert.Equal(t, "", output(t, "ls -a / .. ../../.. | grep -e lost+found -e boot -e "+filepath.Base(sandboxDir)+"x || true"))
	assert.Equal(t, "gone\n", output(t, "grep -q ext4 /proc/self/mountinfo || echo gone"))
	output(t, "! touch /x 2>/dev/null && touch /v/x /dev/shm/x && test $PWD = /made/up", func(s *Spec) {
		s.ReadOnly, s.Dir = true, "/made/up"
		s.Volumes = []Volume{{Source: t.TempDir(), Target: "/v"}}
	})
}

func TestVolumes(t *testing.T) {
	source := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(source, "file"), []byte("of the host\n"), 0o600))
	assert.Equal(t, "of the host\nof the host\nrefused\n", output(t,
		"cat /a/b/file /etc/deep/er; touch /a/b/new 2>/dev/null || echo refused; touch /rw/new", func(s *Spec) {
			s.Volumes = []Volume{
				{Source: source, Target: "/a/b", ReadOnly: true},
				{Source: filepath.Join(source, "file"), Target: "/etc/deep/er"},
				{Source: source, Target: "/rw"},
			}
		}))
	assert.FileExists(t, filepath.Join(source, "new"))
	assert.Equal(t, "tmpfs\n", output(t, "stat -f -c %T /t", func(s *Spec) {
		s.Tmpfs = []Tmpfs{{Target: "/t", Flags: unix.MS_NOSUID, Options: "size=1m"}}
	}))
}

// TestVolumeStaysInside has an image with links that lead out of it.
func TestVolumeStaysInside(t *testing.T) {
	outside := t.TempDir()
	source := t.TempDir()
	spec := newSpec(t, "true")
	require.NoError(t, os.Symlink(outside, filepath.Join(spec.Root.Layers[0], "link")))
	spec.Volumes = []Volume{{Source: source, Target: "/link/x"}}
	_, err := run(t, spec)
	require.NoError(t, err, "the link leads to a directory of the container's own, which is made")
	require.NoError(t, os.Symlink("/proc/self/fd/3", filepath.Join(spec.Root.Layers[0], "magic")))
	spec.Volumes = []Volume{{Source: source, Target: "/magic/x"}}
	_, err = run(t, spec)
	require.ErrorIs(t, err, unix.ELOOP)
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestUser(t *testing.T) {
	assert.Equal(t, "uid=1000 gid=1001 groups=7,8\n0000000000000000\n/w\n", output(t,
		"id; awk '/CapEff/ {print $2}' /proc/self/status; pwd", func(s *Spec) {
			s.User = User{UID: 1000, GID: 1001, Groups: []uint32{7, 8}}
			s.Dir = "/w"
		}))
	assert.Equal(t, "1000\n", output(t, "awk '/Uid/ {print $2}' /proc/1/status", func(s *Spec) {
		s.Init, s.User.UID = true, 1000
	}), "init, too")
	assert.Regexp(t, `^Groups:\s*$`, output(t, "grep Groups /proc/self/status"), "none of ours")
}

func TestManyLayers(t *testing.T) {
	spec := newSpec(t, "sh", "-c", "cat /number")
	long := filepath.Join(t.TempDir(), strings.Repeat("l", 100))
	var layers []string
	for i := range 60 {
		layer := fmt.Sprintf("%s,%d:", long, i)
		require.NoError(t, os.Mkdir(layer, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(layer, "number"), []byte(strconv.Itoa(i)), 0o644))
		layers = append(layers, layer)
	}
	spec.Root.Layers = append(layers, spec.Root.Layers...)
	got, err := run(t, spec)
	require.NoError(t, err)
	assert.Equal(t, "0", got.stdout)
}

func TestPrepare(t *testing.T) {
	spec := newSpec(t, "sh", "-c", "echo ran")
	prepared := ""
	spec.Prepare = func(pid int) error {
		var err error
		prepared, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		return err
	}
	got, err := run(t, spec)
	require.NoError(t, err)
	assert.Equal(t, "ran\n", got.stdout)
	ours, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	assert.NotEqual(t, ours, prepared)
}

func TestNetwork(t *testing.T) {
	ours, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	assert.Equal(t, ours+"\n", output(t, "readlink /proc/self/ns/net", func(s *Spec) { s.Network.Host = true }))
	other, _ := background(t, newSpec(t, "sleep", "1000"))
	path := fmt.Sprintf("/proc/%d/ns/net", other.PID)
	theirs, err := os.Readlink(path)
	require.NoError(t, err)
	assert.Equal(t, theirs+"\n", output(t, "readlink /proc/self/ns/net", func(s *Spec) { s.Network.Path = path }))
}

func TestSignal(t *testing.T) {
	for _, init := range []bool{false, true} {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		spec := newSpec(t, "sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done")
		spec.Init = init
		spec.Stdout = write
		process, err := Start(spec)
		write.Close()
		require.NoError(t, err)
		_, err = bufio.NewReader(read).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, process.Signal(unix.SIGUSR1))
		status, err := process.Wait()
		require.NoError(t, err)
		assert.Equal(t, 5, status)
		assert.ErrorIs(t, process.Signal(unix.SIGUSR1), os.ErrProcessDone)
	}
}

func TestInitBuriesOrphans(t *testing.T) {
	zombies := "sh -c 'true & exec sh -c \"true & exit\"'; (true & true) ; sleep 0.1; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"
	assert.Equal(t, "0\n", output(t, zombies, func(s *Spec) { s.Init = true }))
	assert.Equal(t, "2\n", output(t, "echo $$", func(s *Spec) { s.Init = true }))
	assert.Equal(t, "", output(t, "ls /proc/1/fd", func(s *Spec) { s.Init = true }))
}

// TestOurThreadsStay starts containers from many threads, and looks where ours are then.
func TestOurThreadsStay(t *testing.T) {
	before := namespacesOf(t)
	_, target := background(t, newSpec(t, "sleep", "1000"))
	specs := []*Spec{newSpec(t, "true"), newSpec(t, "nothing"), newSpec(t, "true")}
	done := make(chan bool)
	for i := range 9 {
		go func() {
			defer func() { done <- true }()
			if i < len(specs) {
				_, _ = run(t, specs[i])
				return
			}
			command := &Command{Args: []string{"/bin/true"}}
			_, _ = finish(t, command, func() (*Process, error) { return Exec(target, command) })
		}()
	}
	for range 9 {
		<-done
	}
	assert.Equal(t, before, namespacesOf(t))
}

func TestDiesWithParent(t *testing.T) {
	for _, init := range []string{"", "1"} { // both as another user, which has undone it once
		spec := newSpec(t, "x")
		parent := exec.Command("/proc/self/exe", spec.Root.Layers[0], filepath.Dir(spec.Root.Upper))
		parent.Env = append(os.Environ(), stepVar+"=parent", "INIT="+init)
		parent.Stderr = os.Stderr
		stdout, err := parent.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, parent.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)
		require.NoError(t, unix.Kill(pid, 0))
		pidfd, err := unix.PidfdOpen(pid, 0)
		require.NoError(t, err)
		require.NoError(t, parent.Process.Kill())
		_ = parent.Wait()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int((10 * time.Second).Milliseconds()))
		require.NoError(t, err)
		assert.Equal(t, 1, n, "the container has ended")
		unix.Close(pidfd)
	}
}
