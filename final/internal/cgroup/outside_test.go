//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutside(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"memory", "cpu,cpuacct", "systemd", "pids"} {
		require.NoError(t, os.Mkdir(filepath.Join(root, name), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name, "tasks"), nil, 0o644))
	}
	handles := outside(root, `4:memory:/user.slice
3:cpu,cpuacct:/user.slice/a:b
2:pids:/
1:name=systemd:/user.slice
5:blkio:/not/mounted
0::/user.slice
`)
	assert.Nil(t, handles.Dir, "v2 is not mounted")
	assert.Equal(t, []string{
		filepath.Join(root, "memory", "tasks"),
		filepath.Join(root, "cpu,cpuacct", "tasks"),
		filepath.Join(root, "systemd", "tasks"),
	}, handles.Tasks)
}
