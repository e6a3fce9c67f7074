//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tarOf makes an archive. Files without an owner are ours, so that we may make them.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, header := range headers {
		header.Uid, header.Gid = os.Getuid(), os.Getgid()
		if header.Typeflag == tar.TypeReg {
			header.Size = int64(len("content"))
		}
		require.NoError(t, writer.WriteHeader(&header))
		if header.Typeflag == tar.TypeReg {
			_, err := writer.Write([]byte("content"))
			require.NoError(t, err)
		}
	}
	require.NoError(t, writer.Close())
	return archive.Bytes()
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }

func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func hardLink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

// hostile are archives that try to get at files outside of the directory they are unpacked in.
func hostile(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"parent":                tarOf(t, file("../escaped")),
		"parent further on":     tarOf(t, file("a/../../escaped")),
		"through a link":        tarOf(t, symlink("link", ".."), file("link/escaped")),
		"through two links":     tarOf(t, symlink("a", "."), symlink("a/link", ".."), file("link/escaped")),
		"through absolute link": tarOf(t, symlink("link", "/tmp"), file("link/mydocker-escaped")),
		"over a link":           tarOf(t, symlink("link", "../secret"), file("link"), file("../secret")),
		"hard link":             tarOf(t, hardLink("link", "../secret"), file("link")),
		"hard link, link":       tarOf(t, symlink("up", ".."), hardLink("link", "up/secret")),
		"time of a directory":   tarOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "../", Mode: 0o777}),
	}
}

// unpackNextToSecret unpacks into a directory beside a file that must stay alone and as it is.
func unpackNextToSecret(t *testing.T, archive []byte) error {
	top := t.TempDir()
	dir, secret := filepath.Join(top, "dir"), filepath.Join(top, "secret")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))

	err := unpack(context.Background(), bytes.NewReader(archive), dir)

	entries, readErr := os.ReadDir(top)
	require.NoError(t, readErr)
	assert.Len(t, entries, 2, "dir and secret")
	data, readErr := os.ReadFile(secret)
	require.NoError(t, readErr)
	assert.Equal(t, "secret", string(data))
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(secret, &stat))
	assert.EqualValues(t, 1, stat.Nlink)
	return err
}

func TestUnpackStaysInside(t *testing.T) {
	for name, archive := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			assert.Error(t, unpackNextToSecret(t, archive)) // its words are os.Root's, and differ
		})
	}
	assert.NoFileExists(t, "/tmp/mydocker-escaped")
	t.Run("absolute names are inside", func(t *testing.T) {
		assert.NoError(t, unpackNextToSecret(t, tarOf(t, file("/etc/passwd"), file("./etc/group"))))
	})
	t.Run("a link out may be there", func(t *testing.T) {
		assert.NoError(t, unpackNextToSecret(t, tarOf(t, symlink("link", "../secret"), symlink("abs", "/etc/passwd"))))
	})
}

func FuzzUnpack(f *testing.F) {
	for _, archive := range hostile(f) {
		f.Add(archive)
	}
	f.Add(tarOf(f, file("a"), file("b/c"), hardLink("d", "a")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		_ = unpackNextToSecret(t, archive) // an error or not, all that counts is the secret
	})
}

func TestUnpackKeepsAttributes(t *testing.T) {
	attribute := "user.mydocker"
	if os.Geteuid() == 0 {
		attribute = "trusted.mydocker" // which tmpfs has in older kernels too
	}
	then := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	archive := tarOf(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "dir", Mode: 0o1750, ModTime: then},
		tar.Header{
			Typeflag: tar.TypeReg, Name: "dir/file", Mode: 0o4711, ModTime: then, Format: tar.FormatPAX,
			PAXRecords: map[string]string{xattrPrefix + attribute: "a\nb"},
		},
		symlink("dir/link", "file"),
	)
	dir := t.TempDir()
	require.NoError(t, unpack(context.Background(), bytes.NewReader(archive), dir))

	info, err := os.Stat(filepath.Join(dir, "dir"))
	require.NoError(t, err)
	assert.Equal(t, os.ModeDir|os.ModeSticky|0o750, info.Mode())
	assert.True(t, info.ModTime().Equal(then.Truncate(time.Second)), "files put into it later have not changed its time")
	info, err = os.Stat(filepath.Join(dir, "dir/file"))
	require.NoError(t, err)
	assert.Equal(t, os.ModeSetuid|0o711, info.Mode())
	assert.True(t, info.ModTime().Equal(then), "to the nanosecond where the archive has it")
	value := make([]byte, 16)
	n, err := unix.Getxattr(filepath.Join(dir, "dir/file"), attribute, value)
	require.NoError(t, err)
	assert.Equal(t, "a\nb", string(value[:n]))
}

func TestUnpackKeepsHoles(t *testing.T) {
	const size = 64 << 20
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: 0o644, Size: size, Uid: os.Getuid(), Gid: os.Getgid()}))
	content := make([]byte, size)
	content[size/2] = 'x'
	_, err := writer.Write(content)
	require.NoError(t, err)
	require.NoError(t, writer.Close())

	dir := t.TempDir()
	require.NoError(t, unpack(context.Background(), &archive, dir))
	got, err := os.ReadFile(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, got))
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "sparse"), &stat))
	assert.Less(t, stat.Blocks*512, int64(1<<20), "almost all of it is a hole")
}

func TestUnpackReplaces(t *testing.T) {
	archive := tarOf(t,
		file("a"), symlink("a", "nowhere"), file("a"), // a link in the way is replaced, not followed
		file("dir/x"), file("dir"), file("dir/y"), // a file in the way of a directory is not
	)
	dir := t.TempDir()
	err := unpack(context.Background(), bytes.NewReader(archive), dir)
	assert.ErrorContains(t, err, "dir/y")
	info, err := os.Lstat(filepath.Join(dir, "a"))
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular())
	info, err = os.Lstat(filepath.Join(dir, "dir"))
	require.NoError(t, err)
	assert.True(t, info.Mode().IsRegular(), "a file replaces a directory")
}

func TestUnpackIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	err := unpack(ctx, strings.NewReader(string(tarOf(t, file("a")))), t.TempDir())
	assert.ErrorContains(t, err, "interrupted")
}
