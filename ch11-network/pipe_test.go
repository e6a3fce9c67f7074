//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFrameCarriesAnyArguments(t *testing.T) {
	for _, command := range [][]string{
		{"sh"},
		{""},
		{"", "", ""},
		{"echo", "a b", "\n", "\xff\xfe", `"`, "世界"},
		{strings.Repeat("x", 200_000)},
	} {
		var pipe bytes.Buffer
		require.NoError(t, writeFrame(&pipe, initConfig{Command: command}))
		var got initConfig
		require.NoError(t, readFrame(&pipe, &got))
		assert.Equal(t, command, got.Command)
		assert.Zero(t, pipe.Len(), "all of the frame is read")
	}
}

func TestFrameThatEndsEarly(t *testing.T) {
	var pipe bytes.Buffer
	require.NoError(t, writeFrame(&pipe, initConfig{Command: []string{"sh"}}))
	frame := pipe.Bytes()

	var config initConfig
	assert.Equal(t, io.EOF, readFrame(bytes.NewReader(nil), &config))
	for n := 1; n < len(frame); n++ {
		assert.Equal(t, io.ErrUnexpectedEOF, readFrame(bytes.NewReader(frame[:n]), &config), "%d bytes", n)
	}
}

// TestConversation plays both sides, with an init that becomes nothing.
func TestConversation(t *testing.T) {
	for _, test := range []struct {
		name   string
		become error
		status int
	}{
		{"set-up fails", errors.New("mounting /proc: no"), statusFailed},
		{"the command is not there", exitError{status: statusNotFound, err: errors.New("running sh: no")}, statusNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			answered := make(chan error)
			go func() {
				answered <- answer(theirs, func(config initConfig) error {
					assert.Equal(t, []string{"sh"}, config.Command)
					return test.become
				})
			}()
			err := instruct(ours, initConfig{Command: []string{"sh"}})
			assert.EqualError(t, err, test.become.Error())
			var exit exitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, test.status, exit.status)
			assert.Equal(t, exitError{status: test.status}, <-answered, "init has nothing left to say")
		})
	}
	t.Run("the command runs", func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			var config initConfig
			assert.NoError(t, readFrame(theirs, &config))
			theirs.Close() // as exec does
		}()
		assert.NoError(t, instruct(ours, initConfig{Command: []string{"sh"}}))
	})
}

func FuzzReadFrame(f *testing.F) {
	var frame bytes.Buffer
	require.NoError(f, writeFrame(&frame, initConfig{Command: []string{"a", "\xff"}}))
	f.Add(frame.Bytes())
	f.Add([]byte{})
	f.Add([]byte("\xfc\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var config, again initConfig
		if readFrame(bytes.NewReader(data), &config) != nil {
			return
		}
		var first, second bytes.Buffer
		require.NoError(t, writeFrame(&first, config))
		want := bytes.Clone(first.Bytes())
		require.NoError(t, readFrame(&first, &again))
		require.NoError(t, writeFrame(&second, again))
		assert.Equal(t, want, second.Bytes())
	})
}
