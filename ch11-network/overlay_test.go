//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
	assert.Equal(t, "/var/lib/mydocker", escape("/var/lib/mydocker"))
	assert.Equal(t, `/a\:b\,c\\d`, escape(`/a:b,c\d`))
}

func TestOverlaysAreSweptWhenTheirLockIsFree(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	first, err := newOverlay("first", []string{"/image"})
	require.NoError(t, err)
	second, err := newOverlay("second", []string{"/image"})
	require.NoError(t, err)
	assert.DirExists(t, first.upper(), "the first is in use")

	require.NoError(t, os.WriteFile(filepath.Join(first.upper(), "file"), nil, 0o600))
	require.NoError(t, first.lock.Close()) // as the kernel does when we are killed
	third, err := newOverlay("third", []string{"/image"})
	require.NoError(t, err)
	assert.NoDirExists(t, first.Dir)
	assert.DirExists(t, second.Dir)

	require.NoError(t, second.remove())
	require.NoError(t, third.remove())
	entries, err := os.ReadDir(containersDir())
	require.NoError(t, err)
	assert.Empty(t, entries)
}
