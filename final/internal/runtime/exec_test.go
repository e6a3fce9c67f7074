//go:build linux

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func runExec(t *testing.T, target Target, command *Command) (result, error) {
	t.Helper()
	if command.Env == nil {
		command.Env = []string{"PATH=/bin:/usr/bin"}
	}
	return finish(t, command, func() (*Process, error) { return Exec(target, command) })
}

func TestExec(t *testing.T) {
	_, target := background(t, newSpec(t, "sleep", "1000"))
	got, err := runExec(t, target, &Command{Args: []string{"sh", "-c", "id -u; pwd; cat /proc/1/comm; hostname; exit 7"}, Dir: "/etc", User: User{UID: 5}})
	require.NoError(t, err)
	assert.Equal(t, result{status: 7, stdout: "5\n/etc\nsleep\nbox\n"}, got)

	args := []string{"printf", "%s|", "", "a b", "\n", "\xff", strings.Repeat("x", 100_000)}
	got, err = runExec(t, target, &Command{Args: args})
	require.NoError(t, err)
	assert.Equal(t, strings.Join(args[2:], "|")+"|", got.stdout)

	for name, status := range map[string]int{"none": StatusNotFound, "/bin": StatusNotExecutable} {
		_, err = runExec(t, target, &Command{Args: []string{name}})
		var failed *Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, status, failed.Status)
	}
}

func TestParseStartTime(t *testing.T) {
	stat := "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n"
	got, err := parseStartTime([]byte(stat))
	require.NoError(t, err)
	assert.EqualValues(t, 4711, got)
	for _, broken := range []string{"", "7 (sh) S 1"} {
		_, err := parseStartTime([]byte(broken))
		require.ErrorContains(t, err, "is no stat line")
	}
}

func TestExecJoinsAllNamespaces(t *testing.T) {
	_, target := background(t, newSpec(t, "sleep", "1000"))
	command := &Command{Args: []string{"sh", "-c", "for n in mnt pid net uts ipc cgroup; do readlink /proc/self/ns/$n; done"}}
	got, err := runExec(t, target, command)
	require.NoError(t, err)
	var want []string
	for _, name := range []string{"mnt", "pid", "net", "uts", "ipc", "cgroup"} {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", target.PID, name))
		require.NoError(t, err)
		want = append(want, namespace)
	}
	assert.Equal(t, want, lines(got.stdout))
}

func TestExecNeedsTheRightProcess(t *testing.T) {
	process, target := background(t, newSpec(t, "sleep", "1000"))
	marker := filepath.Join(t.TempDir(), "ran")
	command := &Command{Args: []string{"touch", marker}}

	reused := target
	reused.StartTime++
	_, err := runExec(t, reused, command)
	require.ErrorIs(t, err, ErrNotRunning)

	require.NoError(t, process.Signal(unix.SIGKILL))
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(process.pidfd), Events: unix.POLLIN}}, 10_000)
	require.NoError(t, err)
	_, err = runExec(t, target, command) // a zombie
	require.ErrorIs(t, err, ErrNotRunning)
	_, err = process.Wait()
	require.NoError(t, err)
	_, err = runExec(t, target, command)
	require.ErrorIs(t, err, ErrNotRunning)
	assert.NoFileExists(t, marker)
}

// TestExecOutlives has a thread end that has started two commands.
func TestExecOutlives(t *testing.T) {
	_, target := background(t, newSpec(t, "sleep", "1000"))
	started := make(chan *Process)
	start := func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		for _, outlives := range []bool{false, true} {
			process, err := Exec(target, &Command{Args: []string{"/bin/sleep", "1000"}, Outlives: outlives})
			assert.NoError(t, err)
			started <- process
		}
	}
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // the main thread does not end, so another has to be it
			go start()
			select {}
		}
		start()
	}()
	tied, free := <-started, <-started
	status, err := tied.Wait()
	require.NoError(t, err)
	assert.Equal(t, 137, status)
	require.NoError(t, free.Signal(unix.SIGTERM))
	status, err = free.Wait()
	require.NoError(t, err)
	assert.Equal(t, 143, status)
}

// TestJoinsCgroupV1 has a hierarchy of its own, without controllers, as v1 lets also a v2 machine have.
func TestJoinsCgroupV1(t *testing.T) {
	const options = "none,name=mydocker-test"
	hierarchy := t.TempDir()
	t.Cleanup(func() { // while the last group in it is still on its way out, an unmounted hierarchy stays
		assert.Eventually(t, func() bool {
			groups, err := os.ReadFile("/proc/self/cgroup")
			gone := err == nil && !strings.Contains(string(groups), "mydocker-test")
			if !gone {
				_ = unix.Mount("cgroup", hierarchy, "cgroup", 0, options)
				_ = unix.Unmount(hierarchy, 0)
			}
			return gone
		}, 10*time.Second, 100*time.Millisecond)
	})
	mount(t, "tmpfs", cgroupRoot, "")
	mount(t, "cgroup", hierarchy, options)
	dir := newGroup(t, hierarchy)
	testCgroup(t, dir, Cgroup{Tasks: []string{filepath.Join(dir, "tasks")}}, ":name=mydocker-test:")
}

// TestJoinsCgroupV2 has v2 where distributions mount it, on a v1 machine without its controllers.
func TestJoinsCgroupV2(t *testing.T) {
	var stat unix.Statfs_t
	require.NoError(t, unix.Statfs(cgroupRoot, &stat))
	if stat.Type != unix.CGROUP2_SUPER_MAGIC {
		mount(t, "cgroup2", cgroupRoot, "")
	}
	dir := newGroup(t, cgroupRoot)
	handle, err := os.Open(dir)
	require.NoError(t, err)
	defer handle.Close()
	testCgroup(t, dir, Cgroup{Dir: handle}, "0::")
}

const cgroupRoot = "/sys/fs/cgroup"

func mount(t *testing.T, fstype, target, options string) {
	t.Helper()
	require.NoError(t, unix.Mount(fstype, target, fstype, 0, options))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(target, unix.MNT_DETACH)) })
}

func newGroup(t *testing.T, hierarchy string) string {
	t.Helper()
	dir := filepath.Join(hierarchy, fmt.Sprintf("mydocker-runtime-%d-%d", os.Getpid(), os.Getppid()))
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.Remove(dir)) })
	return dir
}

func testCgroup(t *testing.T, dir string, group Cgroup, hierarchy string) {
	t.Helper()
	spec := newSpec(t, "sleep", "1000")
	spec.Cgroup = group
	_, target := background(t, spec)
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%d\n", target.PID), string(procs))
	got, err := runExec(t, target, &Command{Args: []string{"sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup"}, Cgroup: group})
	require.NoError(t, err)
	assert.Contains(t, got.stdout, hierarchy+"/\n", "the group is the root of what is seen")
	assert.NotContains(t, got.stdout, "mydocker-runtime")
}
