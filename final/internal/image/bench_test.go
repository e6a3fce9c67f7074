//go:build linux

package image

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// changed makes a directory with size bytes in files.
func changed(b *testing.B, files, size int) string {
	b.Helper()
	dir := b.TempDir()
	content := make([]byte, size/files)
	rand.Read(content)
	for i := range files {
		require.NoError(b, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), content, 0o644))
	}
	return dir
}

func BenchmarkCommit(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for _, c := range []struct{ files, size int }{{10, 100 << 20}, {10000, 10 << 20}} {
		b.Run(fmt.Sprintf("%d files of %d bytes", c.files, c.size/c.files), func(b *testing.B) {
			dir := changed(b, c.files, c.size)
			s := Open(b.TempDir())
			base, err := s.FromConfig([]byte("{}"))
			require.NoError(b, err)
			b.SetBytes(int64(c.size))
			for b.Loop() {
				image, err := s.Commit(b.Context(), CommitOptions{Parent: base, Upper: dir})
				require.NoError(b, err)
				b.StopTimer()
				_, _, err = s.Remove(b.Context(), string(image.ID), true, nothingUsed)
				require.NoError(b, err)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	s := Open(b.TempDir())
	base, err := s.FromConfig([]byte("{}"))
	require.NoError(b, err)
	_, err = s.Commit(b.Context(), CommitOptions{Parent: base, Upper: changed(b, 1000, 100<<20), Ref: "x"})
	require.NoError(b, err)
	var plain bytes.Buffer
	require.NoError(b, s.Save(b.Context(), &plain, []string{"x"}))
	for name, archive := range map[string][]byte{"plain": plain.Bytes(), "gzip": gzipped(plain.Bytes())} {
		file := filepath.Join(b.TempDir(), "a.tar")
		require.NoError(b, os.WriteFile(file, archive, 0o600))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(100 << 20)
			for b.Loop() {
				b.StopTimer()
				_, _, err := s.Remove(b.Context(), "x", true, nothingUsed)
				require.NoError(b, err)
				in, err := os.Open(file)
				require.NoError(b, err)
				b.StartTimer()
				_, err = s.Load(b.Context(), in, nil)
				require.NoError(b, err)
				in.Close()
			}
		})
	}
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			_, err := s.Find(b.Context(), "x")
			require.NoError(b, err)
		}
	})
	b.Run("save", func(b *testing.B) {
		b.SetBytes(100 << 20)
		for b.Loop() {
			require.NoError(b, s.Save(b.Context(), &discard{}, []string{"x"}))
		}
	})
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
