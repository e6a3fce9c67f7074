//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecordOfAContainer(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	c, err := newContainer("id", []string{filepath.Join(stateDir(), "image")}, runOptions{name: "web", image: "busybox", command: []string{"a", "\xff"}})
	require.NoError(t, err)
	require.NoError(t, c.hasStarted(os.Getpid()))
	var end error = exitError{status: 137, err: errors.New("out of memory")}
	c.hasEnded(&end)

	got, err := readContainer("id")
	require.NoError(t, err)
	assert.Equal(t, "web", got.Name)
	assert.Equal(t, arguments{"a", "\xff"}, got.Command)
	assert.Equal(t, os.Getpid(), got.PID)
	assert.Equal(t, 137, got.Status)
	assert.Equal(t, "out of memory", got.Error)
	assert.False(t, got.Finished.Before(got.Started))

	require.NoError(t, c.removeUnlessStarted())
	assert.DirExists(t, c.overlay.Dir, "it has started")
}

func TestContainerThatNeverStartsLeavesNothing(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	id, other := newID(), newID()
	c, err := newContainer(id, nil, runOptions{name: "web"})
	require.NoError(t, err)
	_, err = newContainer(other, nil, runOptions{name: "web"})
	assert.EqualError(t, err, `conflict. The container name "/web" is already in use by container "`+id+`"`)
	assert.NoDirExists(t, filepath.Join(containersDir(), other))

	require.NoError(t, c.removeUnlessStarted())
	assert.NoDirExists(t, c.overlay.Dir)
	_, err = os.Lstat(nameLink("web"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestContainerNames(t *testing.T) {
	for _, name := range []string{"", "ab", "web-1.2_3", "0x"} {
		assert.NoError(t, checkContainerName(name), name)
	}
	for _, name := range []string{"a", "-a", ".a", "a/b", "../a", "a b", "a\n", "ü2"} {
		assert.Error(t, checkContainerName(name), name)
	}
}

func TestFindContainer(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	var alive []*container // with their locks, or the next one clears them away
	for id, name := range map[string]string{"abc1": "web", "abc2": "abc1x", "def": "abc2"} {
		c, err := newContainer(id, nil, runOptions{name: name})
		require.NoError(t, err)
		alive = append(alive, c)
	}
	defer runtime.KeepAlive(alive)
	for given, want := range map[string]string{"abc1": "abc1", "web": "abc1", "d": "def", "abc1x": "abc2", "abc2": "abc2"} {
		id, err := findContainer(given)
		assert.NoError(t, err, given)
		assert.Equal(t, want, id, given)
	}
	for given, want := range map[string]string{
		"":       `invalid name or ID supplied: ""`,
		"abc":    "multiple IDs found with provided prefix: abc",
		"nobody": "no such container: nobody",
		"../web": "no such container: ../web",
	} {
		_, err := findContainer(given)
		assert.EqualError(t, err, want)
	}
}
