//go:build linux

package record

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type thing struct {
	Version int
	Name    string
}

// watch records which steps are made, with the names of their files.
func watch(t *testing.T) *[]string {
	t.Helper()
	var steps []string
	syncFile, renameFile := fsync, rename
	t.Cleanup(func() { fsync, rename = syncFile, renameFile })
	fsync = func(file *os.File) error {
		steps = append(steps, "sync "+filepath.Base(file.Name()))
		return syncFile(file)
	}
	rename = func(from, to string) error {
		steps = append(steps, "rename "+filepath.Base(from)+" "+filepath.Base(to))
		return renameFile(from, to)
	}
	return &steps
}

func TestWriteIsDurable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	steps := watch(t)
	file := filepath.Join(dir, "thing.json")
	require.NoError(t, Write(file, thing{1, "web"}))
	assert.Equal(t, []string{"sync thing.json.new", "rename thing.json.new thing.json", "sync dir"}, *steps)

	*steps = nil
	require.NoError(t, ReplaceFile(file, []byte("{}")))
	assert.Equal(t, []string{"rename thing.json.new thing.json"}, *steps)
}

// A failed write leaves the old record, and nothing beside it.
func TestAFailedWriteChangesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "thing.json")
	require.NoError(t, Write(file, thing{1, "old"}))
	watch(t)
	full := errors.New("no space left on device")
	fsync = func(*os.File) error { return full }
	require.ErrorIs(t, Write(file, thing{1, "new"}), full)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(data), "old")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestReadersSeeWholeRecords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "thing.json")
	name := strings.Repeat("x", 100_000)
	require.NoError(t, Write(file, thing{1, name}))
	written := make(chan error)
	go func() {
		data, err := Encode(thing{1, name})
		for range 300 {
			err = errors.Join(err, ReplaceFile(file, data))
		}
		written <- err
	}()
	for {
		select {
		case err := <-written:
			require.NoError(t, err)
			return
		default:
		}
		var got thing
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, Parse(data, &got, &got.Version, 1))
		require.Equal(t, name, got.Name)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		`{"Version": 1, "Name": "web"}`: "",
		"":                              "it is empty",
		`{"Version": 1, "Na`:            "unexpected end of JSON input",
		"\x00\x00\x00":                  `invalid character '\x00' looking for beginning of value`,
		"{}":                            "it has no version",
		"null":                          "it has no version",
		`{"Version": 2, "Name": ["a"]}`: "it is of version 2, and this program knows 1",
	} {
		var got thing
		err := Parse([]byte(text), &got, &got.Version, 1)
		if want == "" {
			assert.NoError(t, err, text)
			continue
		}
		assert.EqualError(t, err, want, text)
	}
}

func TestDamagedErrorSaysWhatToDo(t *testing.T) {
	err := error(&DamagedError{What: "network web", Reason: NewerError{2, 1}, Next: `"mydocker network rm web" removes it`})
	assert.EqualError(t, err, `reading the record of network web: it is of version 2, and this program knows 1 ("mydocker network rm web" removes it)`)
	assert.True(t, IsDamaged(errors.Join(errors.New("other"), err)))
	assert.True(t, IsNewer(err))
}
