//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStatus(t *testing.T) {
	then := time.Now().Add(-90 * time.Second)
	start, err := startTime(os.Getpid())
	require.NoError(t, err)
	for want, c := range map[string]*container{
		"Created":                         {},
		"Up 2 weeks":                      {Started: time.Now().Add(-15 * 24 * time.Hour), attended: true},
		"Up Less than a second":           {Started: time.Now(), PID: os.Getpid(), PIDStart: start},
		"Exited (137) About a minute ago": {Started: then, Finished: then, Status: 137, attended: true},
		"Dead":                            {Started: then, PID: os.Getpid(), PIDStart: start + 1},
	} {
		assert.Equal(t, want, c.status())
	}
}

func TestRow(t *testing.T) {
	c := &container{ID: newID(), Name: "web", Image: "busybox", Command: arguments{"echo", "a b", "\xff", "世界世界世界世界世界"}, Created: time.Now()}
	row := psOptions{}.row(c)
	assert.Equal(t, []string{shortID(c.ID), "busybox", `"echo a b � 世界世界世界世界…"`, "Less than a second ago", "Created", "", "web"}, row)
	assert.Equal(t, `"echo a b \xff 世界世界世界世界世界"`, psOptions{noTrunc: true}.row(c)[2])
	assert.Equal(t, []string{c.ID}, psOptions{noTrunc: true, quiet: true}.row(c))
}

func TestRecordsThatAreDamaged(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	containers, err := readContainers()
	assert.NoError(t, err, "there are none at all")
	assert.Empty(t, containers)

	good, err := newContainer(newID(), nil, runOptions{name: "good"})
	require.NoError(t, err)
	for id, record := range map[string]string{"broken": "{", "other": `{"ID": "good"}`} {
		require.NoError(t, os.Mkdir(filepath.Join(containersDir(), id), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(containersDir(), id, recordFile), []byte(record), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(containersDir(), "coming"), 0o700))

	containers, err = readContainers()
	assert.EqualError(t, err, "reading the record of container broken: unexpected end of JSON input\n"+
		`reading the record of container other: it is about another, "good"`)
	require.Len(t, containers, 1)
	assert.Equal(t, good.ID, containers[0].ID)
	assert.True(t, containers[0].attended, "by us")
	require.NoError(t, good.overlay.lock.Close()) // as the kernel does when we are killed
	again, err := readContainer(good.ID)
	require.NoError(t, err)
	assert.False(t, again.attended)
}

func TestTakeAnyName(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Dir(nameLink("x")), 0o700))
	for _, mood := range moods {
		for _, surname := range surnames { // all of them are taken
			require.NoError(t, os.Symlink("somebody", nameLink(mood+"_"+surname)))
		}
	}
	c, err := newContainer(newID(), nil, runOptions{})
	require.NoError(t, err)
	assert.Regexp(t, "^[a-z]+_[a-z]+_"+shortID(c.ID)+"$", c.Name)
	assert.NoError(t, checkContainerName(c.Name))
	recorded, err := readContainer(c.ID)
	require.NoError(t, err)
	assert.Equal(t, c.Name, recorded.Name)
}

func TestStartTime(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	require.NoError(t, cmd.Start())
	ours, err := startTime(os.Getpid())
	require.NoError(t, err)
	its, err := startTime(cmd.Process.Pid)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, its, ours)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_, err = startTime(cmd.Process.Pid)
	assert.True(t, errors.Is(err, os.ErrNotExist), "%v", err)
}

func FuzzParseStartTime(f *testing.F) {
	stat, err := os.ReadFile("/proc/self/stat")
	require.NoError(f, err)
	f.Add(stat)
	f.Add([]byte("1 (a) 1 2 3) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1"))
	f.Add([]byte(""))
	f.Fuzz(func(_ *testing.T, stat []byte) {
		_, _ = parseStartTime(stat) // an error or not, but no panic
	})
}

func TestParseStartTime(t *testing.T) {
	start, err := parseStartTime([]byte("1 (a) 1 2 3) S 0 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1"))
	require.NoError(t, err)
	assert.EqualValues(t, 77, start, "a program may have any name")
	_, err = parseStartTime([]byte("1 (a) S"))
	assert.ErrorContains(t, err, "is no stat line")
}
