//go:build linux

package shim

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/runtime"
)

// TestSlowClient has a client that reads nothing before the container has ended. What the queue does
// not hold comes from the log, each stream in order, with the parts of lines that were there first.
func TestSlowClient(t *testing.T) {
	streams, err := NewStreams(filepath.Join(t.TempDir(), "log.json"))
	require.NoError(t, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	conn, err := net.FileConn(theirs)
	require.NoError(t, err)
	theirs.Close()
	streams.Serve(conn.(*net.UnixConn), true)

	files, err := streams.Pipes(false, runtime.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
	require.NoError(t, err)
	var written [stderr + 1]bytes.Buffer
	for i := range 40_000 {
		stream := stdout + i%2
		text := fmt.Sprintf("%d %s", i, bytes.Repeat([]byte("x"), 100))
		if i%3 > 0 {
			text += "\n"
		}
		written[stream].WriteString(text)
		_, err := files[stream].WriteString(text)
		require.NoError(t, err)
	}
	require.NoError(t, streams.Finish(7))

	closed := make(chan error, 1)
	go func() {
		_, err := streams.Close()
		closed <- err
	}()
	var read [stderr + 1]bytes.Buffer
	for {
		kind, data, err := readFrame(ours)
		require.NoError(t, err)
		if kind == ended {
			assert.Equal(t, []byte{7}, data)
			break
		}
		read[kind].Write(data)
	}
	_, _, err = readFrame(ours)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, <-closed)
	for stream := stdout; stream <= stderr; stream++ {
		assert.True(t, bytes.Equal(written[stream].Bytes(), read[stream].Bytes()), "what came of stream %d is not what was written", stream)
	}
}
