//go:build linux

package shim

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

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

// TestClosePatience has a container end whose clients take their time.
func TestClosePatience(t *testing.T) {
	takeSignals() // starts a goroutine of package os/signal, which must be in no bubble of synctest
	for name, test := range map[string]struct{ each, longest time.Duration }{
		"a client that takes nothing is dropped":        {each: time.Hour, longest: 10 * time.Second},
		"a client that takes something gets everything": {each: 7 * time.Second, longest: 4 * 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStreams(t)
				var got string
				c := &client{close: func() error { return nil }}
				c.write = func(_ byte, data []byte) error {
					time.Sleep(test.each)
					if test.each > test.longest {
						return errors.New("too late")
					}
					got += string(data)
					return nil
				}
				s.serve(c)
				s.mu.Lock()
				for i, text := range []string{"one ", "two ", "three "} {
					s.put(c, []byte{stdout, stderr}[i%2], []byte(text))
				}
				s.mu.Unlock()
				require.NoError(t, s.Finish(3))
				began := time.Now()
				status, err := s.Close()
				require.NoError(t, err)
				assert.Equal(t, 3, status)
				assert.Equal(t, test.longest, time.Since(began))
				if test.each < test.longest {
					assert.Equal(t, "one two three \x03", got)
				}
				s.serving.Wait()
			})
		})
	}
}
