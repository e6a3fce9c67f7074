//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
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
			_ = unpackNextToSecret(t, archive) // links are followed inside; the kernel's "/.." is "/"
		})
	}
	assert.NoFileExists(t, "/tmp/mydocker-escaped")
	for _, name := range []string{"parent", "parent further on", "hard link", "time of a directory"} {
		assert.ErrorContains(t, unpackNextToSecret(t, hostile(t)[name]), "escapes from the root", name)
	}
	t.Run("absolute names are inside", func(t *testing.T) {
		assert.NoError(t, unpackNextToSecret(t, tarOf(t, file("/etc/passwd"), file("./etc/group"))))
	})
	t.Run("a link out may be there", func(t *testing.T) {
		assert.NoError(t, unpackNextToSecret(t, tarOf(t, symlink("link", "../secret"), symlink("abs", "/etc/passwd"))))
	})
	t.Run("the root stays a directory", func(t *testing.T) {
		assert.ErrorContains(t, unpackNextToSecret(t, tarOf(t, file("."))), "must be a directory")
	})
}

// TestUnpackThroughLinks unpacks names that lead through symlinks of the archive itself.
func TestUnpackThroughLinks(t *testing.T) {
	dir := t.TempDir()
	archive := tarOf(t,
		symlink("lib", "/usr/lib"), file("lib/before"), // usr/lib is made for it
		tar.Header{Typeflag: tar.TypeDir, Name: "usr/lib/", Mode: 0o750}, file("lib/one"),
		symlink("usr/rel", "lib/../lib"), file("usr/rel/two"),
		symlink("up", "../../../usr"), file("up/lib/three"),
		symlink("new", "to/be/made"), file("new/four"),
		hardLink("lib/five", "/lib/one"),
	)
	require.NoError(t, unpack(context.Background(), bytes.NewReader(archive), dir))
	for _, name := range []string{"before", "one", "two", "three", "five"} {
		assert.FileExists(t, filepath.Join(dir, "usr/lib", name))
	}
	assert.FileExists(t, filepath.Join(dir, "to/be/made/four"))
	info, err := os.Stat(filepath.Join(dir, "usr/lib"))
	require.NoError(t, err)
	assert.Equal(t, os.ModeDir|0o750, info.Mode())

	for name, archive := range map[string][]byte{
		"a circle":     tarOf(t, symlink("a", "b"), symlink("b", "a"), file("a/f")),
		"into itself":  tarOf(t, symlink("a", "a/a"), file("a/f")),
		"back to here": tarOf(t, symlink("a", "x/../a"), file("a/f")),
	} {
		assert.ErrorIs(t, unpack(context.Background(), bytes.NewReader(archive), t.TempDir()), unix.ELOOP, name)
	}
}

func TestUnpackHardLinks(t *testing.T) {
	dir := t.TempDir()
	archive := tarOf(t, hardLink("first", "file"), file("file"), hardLink("file", "file"), hardLink("second", "./file"))
	require.NoError(t, unpack(context.Background(), bytes.NewReader(archive), dir))
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(filepath.Join(dir, "first"), &stat))
	assert.EqualValues(t, 3, stat.Nlink)
	err := unpack(context.Background(), bytes.NewReader(tarOf(t, hardLink("a", "nowhere"))), t.TempDir())
	assert.EqualError(t, err, "a: the archive has no nowhere to link to")
}

// TestUnpackModes checks that no mode depends on the umask.
func TestUnpackModes(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	dir := t.TempDir()
	require.NoError(t, unpack(context.Background(), bytes.NewReader(tarOf(t, file("a/b/file"))), dir))
	for name, mode := range map[string]os.FileMode{".": 0o755, "a": 0o755, "a/b": 0o755, "a/b/file": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
	}
}

// TestUnpackTypes unpacks types of entries that only some programs write.
func TestUnpackTypes(t *testing.T) {
	dir := t.TempDir()
	sparse := file("sparse")
	sparse.Format = tar.FormatGNU
	label := symlink("label", "")
	archive := tarOf(t, file("contiguous"), file("directory"), sparse, label)
	patch(archive, "contiguous", map[int]string{156: "7"})
	patch(archive, "directory", map[int]string{156: "D"})
	patch(archive, "label", map[int]string{156: "V"})
	// The content is behind a hole of 1 MiB: see tar(5), "GNU tar archives".
	patch(archive, "sparse", map[int]string{156: "S", 386: "00004000000\x0000000000007\x00", 483: "00004000007\x00"})
	require.NoError(t, unpack(context.Background(), bytes.NewReader(archive), dir))

	data, err := os.ReadFile(filepath.Join(dir, "contiguous"))
	require.NoError(t, err)
	assert.Equal(t, "content", string(data))
	data, err = os.ReadFile(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(append(make([]byte, 1<<20), "content"...), data))
	assert.DirExists(t, filepath.Join(dir, "directory"))
	_, err = os.Lstat(filepath.Join(dir, "label"))
	require.ErrorIs(t, err, os.ErrNotExist)

	patch(archive, "contiguous", map[int]string{156: "Z"})
	err = unpack(context.Background(), bytes.NewReader(archive), t.TempDir())
	assert.EqualError(t, err, "contiguous: unknown type 'Z' of file")
}

// patch changes fields in the header of an archive's entry, and its checksum.
func patch(archive []byte, name string, fields map[int]string) {
	header := archive[bytes.Index(archive, append([]byte(name), 0)):][:512]
	const sumAt, sumSize = 148, 8
	for at, field := range fields {
		copy(header[at:], field)
	}
	copy(header[sumAt:], strings.Repeat(" ", sumSize))
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[sumAt:], fmt.Sprintf("%06o\x00", sum))
}

// ownAttribute returns an attribute that any file system takes. Of the user's own, tmpfs takes none
// before Linux 6.6.
func ownAttribute() string {
	if os.Geteuid() == 0 {
		return "trusted.mydocker"
	}
	return "user.mydocker"
}

// TestUnpackXattrsOfOthers unpacks attributes that the file or the file system does not take.
func TestUnpackXattrsOfOthers(t *testing.T) {
	attributes := map[string]string{
		"com.apple.provenance":   "a",
		"com.apple.ResourceFork": strings.Repeat("a", 70<<10),
		strings.Repeat("a", 300): "a",
		ownAttribute():           "a",
	}
	records := map[string]string{}
	for key, value := range attributes {
		records[xattrPrefix+key] = value
	}
	link, other := symlink("link", "nowhere"), file("file")
	link.PAXRecords, other.PAXRecords = records, records
	link.Format, other.Format = tar.FormatPAX, tar.FormatPAX
	dir := t.TempDir()
	require.NoError(t, unpack(context.Background(), bytes.NewReader(tarOf(t, link, other)), dir))
	value := make([]byte, 16)
	n, err := unix.Getxattr(filepath.Join(dir, "file"), ownAttribute(), value)
	require.NoError(t, err)
	assert.Equal(t, "a", string(value[:n]), "the others stay")
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
	attribute := ownAttribute()
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
