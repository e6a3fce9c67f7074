//go:build linux

package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, second, third := open(t, path), open(t, path), open(t, path)
	require.NoError(t, Lock(t.Context(), first))

	ctx, end := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	end(reason)
	assert.Equal(t, reason, Lock(ctx, second))

	locked := make(chan error)
	go func() { locked <- Lock(t.Context(), third) }()
	select {
	case err := <-locked:
		t.Fatalf("two have the lock: %v", err)
	default:
	}
	require.NoError(t, second.Close()) // it may still be waiting
	require.NoError(t, first.Close())
	require.NoError(t, <-locked)
}
