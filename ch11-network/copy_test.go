//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestCopyTreeKeepsWhatOverlayfsMeans(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for trusted attributes and devices")
	}
	from, to := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(from, "replaced"), 0o755))
	for attribute, value := range map[string]string{"opaque": "y", "origin": "a handle", "impure": "y"} {
		require.NoError(t, unix.Setxattr(filepath.Join(from, "replaced"), "trusted.overlay."+attribute, []byte(value), 0))
	}
	require.NoError(t, unix.Setxattr(filepath.Join(from, "replaced"), "trusted.mine", []byte("a\x00b"), 0))
	require.NoError(t, unix.Mknod(filepath.Join(from, "deleted"), unix.S_IFCHR, 0))

	require.NoError(t, copyTree(context.Background(), from, to))
	xattrs, err := readXattrs(filepath.Join(to, "replaced"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"trusted.overlay.opaque": "y", "trusted.mine": "a\x00b"}, xattrs)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(to, "deleted"), &stat))
	assert.EqualValues(t, unix.S_IFCHR, stat.Mode&unix.S_IFMT)
	assert.Zero(t, stat.Rdev)
}

func TestCopyTreeLeavesLinksAlone(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink("/etc", filepath.Join(from, "link")))

	require.NoError(t, copyTree(context.Background(), from, to))
	target, err := os.Readlink(filepath.Join(to, "link"))
	require.NoError(t, err)
	assert.Equal(t, "/etc", target)
}

func TestCopyTreeIsInterrupted(t *testing.T) {
	from := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(from, "file"), nil, 0o600))
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	assert.EqualError(t, copyTree(ctx, from, t.TempDir()), "interrupted")
}

func TestLayersAreWrittenDownByPathsWithinTheState(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	file := filepath.Join(stateDir(), "layers")
	layers := []string{filepath.Join(layersDir(), "abc"), filepath.Join(imagesDir(), "b c", "rootfs")}
	require.NoError(t, writeLayers(file, layers))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "layers/abc\nimages/b c/rootfs\n", string(data))
	got, err := readLayers(file)
	require.NoError(t, err)
	assert.Equal(t, layers, got)
}
