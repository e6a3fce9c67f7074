//go:build linux

package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestFreeze freezes a process in a group of each version that the kernel has.
func TestFreeze(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	name := "mydocker-test-" + strconv.Itoa(os.Getpid())
	t.Run("v1", func(t *testing.T) {
		if _, err := os.Stat("/sys/fs/cgroup/freezer"); err != nil {
			t.Skip("needs cgroup v1")
		}
		group := &v1{root: "/sys/fs/cgroup", path: filepath.Join("mydocker", name), controllers: []string{"freezer"}}
		require.NoError(t, os.MkdirAll(group.dir("freezer"), 0o755))
		testFreeze(t, group, group.dir("freezer"))
	})
	t.Run("v2", func(t *testing.T) {
		root := t.TempDir() // also beside v1, where it has the freezer but no controllers
		require.NoError(t, unix.Mount("none", root, "cgroup2", 0, ""))
		t.Cleanup(func() { assert.NoError(t, unix.Unmount(root, 0)) })
		group := &v2{dir: filepath.Join(root, name)}
		require.NoError(t, os.Mkdir(group.dir, 0o755))
		testFreeze(t, group, group.dir)
	})
}

func testFreeze(t *testing.T, group Group, dir string) {
	t.Helper()
	process := exec.Command("sleep", "1000")
	require.NoError(t, process.Start())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(process.Process.Pid)), 0))
	require.Equal(t, []bool{false, true, false}, []bool{isFrozen(t, group), freezeIt(t, group), thawIt(t, group)})

	freezeIt(t, group)
	require.NoError(t, Kill(group))
	require.NoError(t, group.Thaw()) // under v1 it ends now
	assert.ErrorContains(t, process.Wait(), "killed")
	require.NoError(t, group.Remove())
	assert.False(t, isFrozen(t, group), "it is gone")
	assert.NoDirExists(t, dir)
}

func freezeIt(t *testing.T, group Group) bool {
	t.Helper()
	require.NoError(t, group.Freeze())
	return isFrozen(t, group)
}

func thawIt(t *testing.T, group Group) bool {
	t.Helper()
	require.NoError(t, group.Thaw())
	return isFrozen(t, group)
}

func isFrozen(t *testing.T, group Group) bool {
	t.Helper()
	frozen, err := group.IsFrozen()
	require.NoError(t, err)
	return frozen
}
