//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeFiles makes files in dir, as the kernel does when it makes a group.
func fakeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
}

// contents returns what has been written to the files of a fake group.
func contents(t *testing.T, dir string, files ...string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got[name] = string(data)
	}
	return got
}

var allLimits = Limits{Memory: 64 << 20, CPUs: 0.5, CPUSet: "1", PIDs: 20}

func TestCgroupV1(t *testing.T) {
	root := t.TempDir()
	fakeFiles(t, root, map[string]string{
		"memory/mydocker/ID/memory.limit_in_bytes":       "",
		"memory/mydocker/ID/memory.memsw.limit_in_bytes": "",
		"memory/mydocker/ID/memory.oom_control":          "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"memory/mydocker/ID/tasks":                       "",
		"cpu/mydocker/ID/cpu.cfs_period_us":              "",
		"cpu/mydocker/ID/cpu.cfs_quota_us":               "",
		"cpu/mydocker/ID/tasks":                          "",
		"cpuset/cpuset.cpus":                             "0-3\n",
		"cpuset/cpuset.mems":                             "0\n",
		"cpuset/mydocker/cpuset.cpus":                    "",
		"cpuset/mydocker/cpuset.mems":                    "",
		"cpuset/mydocker/cgroup.clone_children":          "0\n",
		"cpuset/mydocker/ID/cpuset.cpus":                 "",
		"cpuset/mydocker/ID/cpuset.mems":                 "",
		"cpuset/mydocker/ID/tasks":                       "",
		"pids/mydocker/ID/pids.max":                      "",
		"pids/mydocker/ID/tasks":                         "",
	})

	group := newV1(root, "mydocker/ID", Limits{Memory: 64 << 20, CPUs: 0.5, PIDs: 20})
	handles, err := group.Open()
	require.NoError(t, err)
	var tasks []string
	for _, controller := range []string{"memory", "cpu", "cpuset", "pids"} {
		tasks = append(tasks, filepath.Join(root, controller, "mydocker/ID/tasks"))
	}
	assert.Equal(t, tasks, handles.Tasks)
	require.NoError(t, handles.Make())
	assert.Equal(t, map[string]string{
		"memory/mydocker/ID/memory.limit_in_bytes":       "67108864",
		"memory/mydocker/ID/memory.memsw.limit_in_bytes": "67108864",
		"cpu/mydocker/ID/cpu.cfs_period_us":              "100000",
		"cpu/mydocker/ID/cpu.cfs_quota_us":               "50000",
		"cpuset/mydocker/cpuset.cpus":                    "0-3",
		"cpuset/mydocker/cpuset.mems":                    "0",
		"cpuset/mydocker/cgroup.clone_children":          "1\n",
		"cpuset/mydocker/ID/cpuset.cpus":                 "0-3",
		"cpuset/mydocker/ID/cpuset.mems":                 "0",
		"pids/mydocker/ID/pids.max":                      "20",
	}, contents(t, root,
		"memory/mydocker/ID/memory.limit_in_bytes",
		"memory/mydocker/ID/memory.memsw.limit_in_bytes",
		"cpu/mydocker/ID/cpu.cfs_period_us",
		"cpu/mydocker/ID/cpu.cfs_quota_us",
		"cpuset/mydocker/cpuset.cpus",
		"cpuset/mydocker/cpuset.mems",
		"cpuset/mydocker/cgroup.clone_children",
		"cpuset/mydocker/ID/cpuset.cpus",
		"cpuset/mydocker/ID/cpuset.mems",
		"pids/mydocker/ID/pids.max"))

	kills, err := group.OOMKills()
	assert.NoError(t, err)
	assert.Equal(t, 2, kills)
}

func TestCgroupV1WithoutController(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "memory"), 0o755))

	group := newV1(root, "mydocker/ID", Limits{})
	require.NoError(t, group.make(), "no limit needs one")
	require.NoError(t, group.Remove())
	assert.NoDirExists(t, filepath.Join(root, "memory/mydocker/ID"))

	assert.ErrorContains(t, newV1(root, "mydocker/ID", Limits{PIDs: 20}).make(), "setting pids.max: the pids controller is not to be had")
	group = newV1(root, "mydocker/ID", Limits{CPUSet: "0"})
	assert.ErrorContains(t, group.make(), "cpuset.cpus")
	require.NoError(t, group.Remove())
	assert.NoDirExists(t, filepath.Join(root, "memory/mydocker/ID"), "what a failure leaves behind can be removed")
}

func TestCgroupV2(t *testing.T) {
	root := t.TempDir()
	fakeFiles(t, root, map[string]string{
		"cgroup.controllers":              "cpuset cpu io memory pids\n",
		"cgroup.subtree_control":          "cpu memory cpuset pids\n",
		"mydocker/cgroup.controllers":     "cpuset cpu memory pids\n",
		"mydocker/cgroup.subtree_control": "cpu memory cpuset\n",
		"mydocker/cpuset.cpus.effective":  "0-3\n",
		"mydocker/ID/memory.max":          "",
		"mydocker/ID/memory.swap.max":     "",
		"mydocker/ID/memory.events":       "low 0\noom 3\noom_kill 1\n",
		"mydocker/ID/cpu.max":             "",
		"mydocker/ID/cpuset.cpus":         "",
		"mydocker/ID/pids.max":            "",
	})

	group, err := newV2(root, "mydocker/ID", allLimits)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"cgroup.subtree_control":          "cpu memory cpuset pids\n", // as it was
		"mydocker/cgroup.subtree_control": "+pidsemory cpuset\n",      // written over the beginning: no real file
		"mydocker/ID/memory.max":          "67108864",
		"mydocker/ID/memory.swap.max":     "0",
		"mydocker/ID/cpu.max":             "50000 100000",
		"mydocker/ID/cpuset.cpus":         "1",
		"mydocker/ID/pids.max":            "20",
	}, contents(t, root,
		"cgroup.subtree_control",
		"mydocker/cgroup.subtree_control",
		"mydocker/ID/memory.max",
		"mydocker/ID/memory.swap.max",
		"mydocker/ID/cpu.max",
		"mydocker/ID/cpuset.cpus",
		"mydocker/ID/pids.max"))

	handles, err := group.Open()
	require.NoError(t, err)
	defer handles.Close()
	assert.Equal(t, filepath.Join(root, "mydocker/ID"), handles.Dir.Name())

	kills, err := group.OOMKills()
	assert.NoError(t, err)
	assert.Equal(t, 1, kills)
}

func TestCgroupV2WithoutController(t *testing.T) {
	root := t.TempDir()
	fakeFiles(t, root, map[string]string{
		"cgroup.controllers":              "",
		"cgroup.subtree_control":          "",
		"mydocker/cgroup.controllers":     "",
		"mydocker/cgroup.subtree_control": "",
	})
	_, err := newV2(root, "mydocker/ID", Limits{Memory: 64 << 20})
	assert.ErrorContains(t, err, "setting memory.max: the memory controller is not to be had")
	assert.NoDirExists(t, filepath.Join(root, "mydocker/ID"), "a failure leaves nothing behind")

	group, err := newV2(root, "mydocker/ID", Limits{})
	require.NoError(t, err, "no limit needs one")
	require.NoError(t, group.Remove())
	assert.NoDirExists(t, filepath.Join(root, "mydocker/ID"))
}

func TestIDs(t *testing.T) {
	root := t.TempDir()
	fakeFiles(t, root, map[string]string{
		"memory/mydocker/both/tasks": "",
		"memory/mydocker/tasks":      "",
		"pids/mydocker/both/tasks":   "",
		"pids/mydocker/half/tasks":   "", // its other groups are removed already
		"cpu/other/tasks":            "",
	})
	ids, err := groupsIn(dirsV1(root, "mydocker"))
	require.NoError(t, err)
	assert.Equal(t, []string{"both", "half"}, ids)

	ids, err = groupsIn([]string{filepath.Join(root, "none")}) // v2, before the first container
	require.NoError(t, err)
	assert.Empty(t, ids)
}
