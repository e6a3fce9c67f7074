//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestImageNames(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	for _, name := range []string{"", ".", "..", "a/b", "../a", "-a", ".a", "a b", "a\n", "a:b", "a\x00b"} {
		_, err := openImage(name)
		assert.ErrorContains(t, err, "invalid image name", name)
	}
	for _, name := range []string{"a", "busybox", "my_image-1.0", "A.tar"} {
		_, err := openImage(name)
		assert.ErrorContains(t, err, "no such image: "+name, name)
	}
}

func TestOpenImageUnpacksOnce(t *testing.T) {
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	require.NoError(t, os.MkdirAll(imagesDir(), 0o700))
	archive := filepath.Join(imagesDir(), "small.tar")
	require.NoError(t, os.WriteFile(archive, tarOf(t, file("etc/first")), 0o600))

	first, err := openImage("small")
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(first[0], "etc/first"))

	require.NoError(t, os.WriteFile(archive, []byte(strings.Repeat("no archive", 100)), 0o600))
	again, err := openImage("small")
	require.NoError(t, err, "the archive is not needed any more")
	assert.Equal(t, first, again)
}
