//go:build linux

package shim

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFullDiskCostsWholeEntries(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	log, err := OpenLog(filepath.Join(t.TempDir(), "log.json"))
	require.NoError(t, err)
	defer log.file.Close()
	lines := func(text string) []byte {
		entries, _ := addLines(nil, []byte(text), "stdout", true)
		return entries
	}
	two, third, fourth := lines("one\ntwo\n"), lines("three\n"), lines("four\n")

	full := unix.Rlimit{Cur: uint64(len(two) + len(third)/2), Max: old.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &full))
	log.write(slices.Concat(two, third))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	log.write(fourth)

	written, err := os.ReadFile(log.file.Name())
	require.NoError(t, err)
	assert.Equal(t, string(two)+string(fourth), string(written))
	assert.EqualValues(t, len(third), log.lost)
	assert.ErrorIs(t, log.lostFor, unix.EFBIG)
}
