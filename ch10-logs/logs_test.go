//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var entryTime = logTime(time.Date(2026, 11, 23, 20, 26, 53, 120, time.FixedZone("", 3600)))

func TestLogTime(t *testing.T) {
	assert.Equal(t, "2026-11-23T19:26:53.000000120Z", entryTime)
	assert.Less(t, logTime(time.Unix(99, 5)), logTime(time.Unix(99, 10)))
}

func TestEntry(t *testing.T) {
	for _, test := range []struct {
		entry logEntry
		want  string
	}{
		{logEntry{[]byte("text\n"), "stdout", entryTime, false}, `{"log":"text\n","stream":"stdout","time":"2026-11-23T19:26:53.000000120Z"}`},
		{logEntry{[]byte(`a"\` + "\x00\t€"), "stderr", entryTime, true}, `{"log":"a\"\\\u0000\u0009€","stream":"stderr","time":"2026-11-23T19:26:53.000000120Z","partial":true}`},
		{logEntry{[]byte("\xff\n"), "stdout", entryTime, false}, `{"base64":"/wo=","stream":"stdout","time":"2026-11-23T19:26:53.000000120Z"}`},
	} {
		line := appendEntry(nil, test.entry)
		assert.Equal(t, test.want+"\n", string(line))
		got, err := parseEntry(line)
		require.NoError(t, err)
		assert.Equal(t, test.entry, got)
	}
	docker := `{"log":"a\u003cb\n","stream":"stdout","time":"2026-11-23T19:26:53.1Z"}`
	got, err := parseEntry([]byte(docker))
	require.NoError(t, err)
	assert.Equal(t, "a<b\n", string(got.text))
}

func FuzzEntry(f *testing.F) {
	for _, text := range []string{"", "text\n", `","stream":"`, "\\n", "\xff\x00", "\u2028\n\n", "\"}\n"} {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, partial bool) {
		entry := logEntry{text, "stdout", entryTime, partial}
		line := appendEntry(nil, entry)
		if !json.Valid(line) || bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("%q is no line of JSON", line)
		}
		got, err := parseEntry(line)
		require.NoError(t, err)
		assert.Equal(t, string(text), string(got.text))
		assert.Equal(t, partial, got.partial)
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(appendEntry(nil, logEntry{[]byte("text\n"), "stdout", entryTime, false}))
	f.Add([]byte(`{"log":"\n","stream":"","time":""}`))
	f.Fuzz(func(_ *testing.T, line []byte) {
		_, _ = parseEntry(line) // an error or not, but no panic
	})
}

func TestTailOffset(t *testing.T) {
	var log []byte
	var begins []int // of the lines
	for i := range 5000 {
		begins = append(begins, len(log))
		for range i % 4 { // of many lengths, so that blocks end everywhere
			log = appendEntry(log, logEntry{[]byte(strings.Repeat("x", i%37)), "stdout", entryTime, true})
		}
		log = appendEntry(log, logEntry{fmt.Appendf(nil, "%d\n", i), "stdout", entryTime, false})
	}
	complete := len(log)
	check := func(n, want int) {
		t.Helper()
		got, err := tailOffset(bytes.NewReader(log), int64(len(log)), n)
		require.NoError(t, err)
		assert.EqualValues(t, want, got, "the last %d", n)
	}
	check(0, complete)
	for n := 1; n <= 5000; n += 7 {
		check(n, begins[5000-n])
	}
	check(5001, 0)

	log = appendEntry(log, logEntry{[]byte("x"), "stdout", entryTime, true})
	log = append(log, `{"log":"half`...)
	check(1, complete)
	check(2, begins[4999])
	log = nil
	check(1, 0)
}

func TestFullDiskCostsWholeEntries(t *testing.T) {
	signal.Ignore(unix.SIGXFSZ)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "log.json"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer file.Close()
	log := &logFile{file: file}
	lines := func(text string) []byte {
		stream := &logStream{name: "stdout"}
		stream.addLines([]byte(text), true)
		return stream.entries
	}
	two, third, fourth := lines("one\ntwo\n"), lines("three\n"), lines("four\n")

	full := unix.Rlimit{Cur: uint64(len(two) + len(third)/2), Max: old.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &full))
	log.write(&logStream{entries: slices.Concat(two, third)})
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	log.write(&logStream{entries: fourth})

	written, err := os.ReadFile(log.file.Name())
	require.NoError(t, err)
	assert.Equal(t, string(two)+string(fourth), string(written))
	assert.EqualValues(t, len(third), log.lost)
	assert.ErrorIs(t, log.lostFor, unix.EFBIG)
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for since, want := range map[string]string{
		"":                               "",
		"10m":                            "2026-11-23T11:50:00.000000000Z",
		"1h30m":                          "2026-11-23T10:30:00.000000000Z",
		"2026-11-23T19:26:53Z":           "2026-11-23T19:26:53.000000000Z",
		"2026-11-23T19:26:53.5+01:00":    "2026-11-23T18:26:53.500000000Z",
		"2026-11-23T19:26:53.123456789Z": "2026-11-23T19:26:53.123456789Z",
		"1700000000":                     "2023-11-14T22:13:20.000000000Z",
		"1700000000.123456789":           "2023-11-14T22:13:20.123456789Z",
		"2026-11-23":                     logTime(time.Date(2026, 11, 23, 0, 0, 0, 0, time.Local)),
		"2026-11-23T19:26":               logTime(time.Date(2026, 11, 23, 19, 26, 0, 0, time.Local)),
	} {
		got, err := parseSince(since, now)
		assert.NoError(t, err)
		assert.Equal(t, want, got, since)
	}
	for _, since := range []string{"yesterday", "10x", "NaN", "1e300", "2026-13-01"} {
		_, err := parseSince(since, now)
		assert.Error(t, err, since)
	}
}

func TestPipesAreLarge(t *testing.T) {
	log := &logFile{}
	stream, err := log.newStream("stdout")
	require.NoError(t, err)
	size, err := unix.FcntlInt(stream.theirs.Fd(), unix.F_GETPIPE_SZ, 0)
	require.NoError(t, err)
	assert.Equal(t, pipeSize, size)
	require.NoError(t, stream.theirs.Close())
	log.copying.Wait()
}
