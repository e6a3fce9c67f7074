//go:build linux

package shim

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/runtime"
)

func newStreams(t *testing.T) *Streams {
	t.Helper()
	s, err := NewStreams(filepath.Join(t.TempDir(), "log.json"))
	require.NoError(t, err)
	t.Cleanup(func() { s.log.file.Close() })
	return s
}

// TestPipesAreLarge has a container write more at once than an ordinary pipe holds.
func TestPipesAreLarge(t *testing.T) {
	s := newStreams(t)
	files, err := s.Pipes(false, runtime.User{})
	require.NoError(t, err)
	assert.Nil(t, files[stdin])
	for _, file := range files[stdout:] {
		size, err := unix.FcntlInt(file.Fd(), unix.F_GETPIPE_SZ, 0)
		require.NoError(t, err)
		assert.Equal(t, pipeSize, size)
	}
	require.NoError(t, s.Finish(0))
}

// TestQueueIsBounded has a client that takes nothing.
func TestQueueIsBounded(t *testing.T) {
	s := newStreams(t)
	started, release := make(chan bool), make(chan bool)
	c := &client{close: func() error { return nil }, write: func(kind byte, _ []byte) error {
		if kind == stdout {
			started <- true
			<-release
		}
		return nil
	}}
	s.serve(c)
	s.mu.Lock()
	s.put(c, stdout, []byte("first\n"))
	s.mu.Unlock()
	<-started // the client holds one write, and takes no more

	block := bytes.Repeat([]byte("x"), 1<<16)
	s.mu.Lock()
	for range 4 * maxQueue / len(block) {
		s.put(c, stdout, block)
	}
	assert.LessOrEqual(t, c.queued, maxQueue)
	assert.True(t, c.behind)
	s.mu.Unlock()
	s.leave(c)
	close(release)
	go func() {
		for range started { // what is queued may still be written
		}
	}()
	s.serving.Wait()
}
