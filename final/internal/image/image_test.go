//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/oci"
)

// need skips a test that cannot run here, or fails it where nothing may be skipped.
func need(t *testing.T, there bool, what string) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("MYDOCKER_TEST_STRICT") == "1" {
		t.Fatal("needs " + what)
	}
	t.Skip("needs " + what)
}

func needRoot(t *testing.T) {
	t.Helper()
	need(t, os.Geteuid() == 0, "root")
}

func newStore(t *testing.T) *Store {
	t.Helper()
	needRoot(t)
	return Open(t.TempDir())
}

// file is an entry of an archive for a test.
type file struct {
	name, content string
	header        tar.Header // the rest
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range files {
		h := f.header
		h.Name, h.Size = f.name, int64(len(f.content))
		if h.Typeflag == 0 && strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write([]byte(f.content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buffer.Bytes()
}

func importTar(t *testing.T, s *Store, ref string, files ...file) *Image {
	t.Helper()
	image, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, files...)), ref, nil, "")
	require.NoError(t, err)
	return image
}

func nothingUsed() ([]Use, error) { return nil, nil }

// leftovers returns what is in the store that is not whole.
func leftovers(t *testing.T, s *Store) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(s.root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && isTemporary(entry.Name()) {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// describeTree says everything about the files in a directory.
func describeTree(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		xattrs, err := readXattrs(path)
		line := fmt.Sprintf("%q %o %d:%d %d %v", name, stat.Mode, stat.Uid, stat.Gid, stat.Rdev, xattrs)
		if stat.Rdev != 0 || stat.Mode&unix.S_IFMT != unix.S_IFCHR {
			line += fmt.Sprintf(" %d", stat.Mtim.Sec)
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, _ := os.ReadFile(path)
			line += fmt.Sprintf(" %d bytes, sparse %v, %x", stat.Size, stat.Blocks*512 < stat.Size/2, content[:min(64, len(content))])
			if _, known := first[stat.Ino]; !known {
				first[stat.Ino] = name
			}
			line += " the same as " + first[stat.Ino]
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		}
		lines = append(lines, line)
		return err
	}))
	return strings.Join(lines, "\n")
}

// makeTree makes a directory with one of everything, as the upper layer of an overlay has it.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "dir/opaque"), 0o755))
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.WriteFile(in("file"), []byte("content"), 0o604))
	require.NoError(t, os.Link(in("file"), in("dir/hard")))
	require.NoError(t, os.Symlink("/nowhere", in("dangling")))
	require.NoError(t, unix.Mkfifo(in("fifo"), 0o640))
	require.NoError(t, unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	require.NoError(t, unix.Mknod(in("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 300))))
	require.NoError(t, unix.Mknod(in("dir/deleted"), unix.S_IFCHR, 0))
	require.NoError(t, unix.Lsetxattr(in("dir/opaque"), opaqueXattr, []byte("y"), 0))
	require.NoError(t, os.WriteFile(in("setuid"), nil, 0o600))
	require.NoError(t, os.Chown(in("setuid"), 1234, 5678))
	require.NoError(t, unix.Chmod(in("setuid"), 0o6755))
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	require.NoError(t, unix.Lsetxattr(in("file"), "security.capability", []byte(capability), 0))
	for _, odd := range []string{"a  b", "new\nline", "-n", "\xff\xfe", "ünï", strings.Repeat("x", 255)} {
		require.NoError(t, os.WriteFile(in(odd), []byte(odd), 0o644))
	}
	sparse, err := os.Create(in("sparse"))
	require.NoError(t, err)
	_, err = sparse.WriteAt([]byte("middle"), 20<<20)
	require.NoError(t, err)
	require.NoError(t, sparse.Truncate(50<<20))
	require.NoError(t, sparse.Close())
	require.NoError(t, os.Chtimes(in("file"), time.Unix(981173106, 0), time.Unix(981173106, 0)))
	require.NoError(t, os.Chtimes(in("dir"), time.Unix(1012709106, 0), time.Unix(1012709106, 0)))
}

func TestCommitSaveLoadKeepEverything(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file{name: "etc/"}, file{name: "etc/passwd", content: "root"})
	upper := t.TempDir()
	makeTree(t, upper)
	image, err := s.Commit(t.Context(), CommitOptions{Parent: base, Upper: upper, Ref: "made", Message: "all of it"})
	require.NoError(t, err)
	require.Equal(t, describeTree(t, upper), describeTree(t, image.Layers()[0]))
	require.Equal(t, base.Layers(), image.Layers()[1:])

	var archive, again bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &archive, []string{"made"}))
	other := newStore(t)
	loaded, err := other.Load(t.Context(), bytes.NewReader(archive.Bytes()), nil)
	require.NoError(t, err)
	require.Equal(t, []Loaded{{ID: image.ID, Names: []string{"made:latest"}}}, loaded)
	found, err := other.Find(t.Context(), "made")
	require.NoError(t, err)
	require.Equal(t, describeTree(t, upper), describeTree(t, found.Layers()[0]))
	require.NoError(t, other.Save(t.Context(), &again, []string{"made"}))
	require.True(t, bytes.Equal(archive.Bytes(), again.Bytes()), "a saved image is saved as the same bytes again")
	require.Empty(t, leftovers(t, s))
	require.Empty(t, leftovers(t, other))
}

func TestCommitOfAnOverlay(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file{name: "etc/"}, file{name: "etc/passwd", content: "root"},
		file{name: "usr/"}, file{name: "usr/old", content: "x"}, file{name: "gone", content: "x"})
	upper, work, merged := t.TempDir(), t.TempDir(), t.TempDir()
	mount := func(layers []string, upper string) error {
		return unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off",
			strings.Join(layers, ":"), upper, work))
	}
	err := mount(base.Layers(), upper)
	need(t, err == nil, fmt.Sprintf("overlay on the temporary directory: %v", err))
	in := func(name string) string { return filepath.Join(merged, name) }
	require.NoError(t, os.Remove(in("gone")))
	require.NoError(t, os.RemoveAll(in("usr")))
	require.NoError(t, os.Mkdir(in("usr"), 0o755))
	require.NoError(t, os.WriteFile(in("usr/new"), []byte("new"), 0o644))
	require.NoError(t, os.WriteFile(in("etc/group"), []byte("wheel"), 0o644))
	wanted := describeTree(t, merged)
	require.NoError(t, unix.Unmount(merged, 0))

	image, err := s.Commit(t.Context(), CommitOptions{Parent: base, Upper: upper})
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &archive, []string{string(image.ID)}))
	other := newStore(t)
	loaded, err := other.Load(t.Context(), &archive, nil)
	require.NoError(t, err)
	require.Equal(t, "Loaded image ID: "+string(image.ID), loaded[0].String())
	for _, store := range []*Store{s, other} {
		found, err := store.Find(t.Context(), image.ShortID())
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(work))
		require.NoError(t, os.Mkdir(work, 0o700))
		empty := t.TempDir()
		require.NoError(t, mount(found.Layers(), empty))
		got := describeTree(t, merged)
		require.NoError(t, unix.Unmount(merged, 0))
		require.Equal(t, withoutRoot(wanted), withoutRoot(got))
	}
}

// withoutRoot leaves out the line of the top directory, which a mount takes from upper.
func withoutRoot(tree string) string {
	_, rest, _ := strings.Cut(tree, "\n")
	return rest
}

func TestWhiteoutsInAnyOrder(t *testing.T) {
	s := newStore(t)
	image := importTar(t, s, "", file{name: "a/"}, file{name: "a/.wh..wh..opq"},
		file{name: "b/"}, file{name: "b/.wh.file"}, file{name: "b/file", content: "new"},
		file{name: "c/"}, file{name: "c/.wh.dir"}, file{name: "c/dir/"},
		file{name: "d/"}, file{name: "d/dir/"}, file{name: "d/.wh.dir"},
		file{name: "e/"}, file{name: "e/.wh.deleted"}, file{name: "e/.wh..wh.plnk/"})
	top := image.Layers()[0]
	opaque := func(name string) bool {
		xattrs, err := readXattrs(filepath.Join(top, name))
		require.NoError(t, err)
		return xattrs[opaqueXattr] == "y"
	}
	require.True(t, opaque("a"))
	require.False(t, opaque("b"))
	require.True(t, opaque("c/dir"))
	require.True(t, opaque("d/dir"))
	content, err := os.ReadFile(filepath.Join(top, "b/file"))
	require.NoError(t, err)
	require.Equal(t, "new", string(content))
	require.True(t, isDeleted(unix.AT_FDCWD, filepath.Join(top, "e/deleted")))
	require.NoFileExists(t, filepath.Join(top, "e/.wh..wh.plnk"))
}

func TestUnpackStaysInside(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	link := tarLink
	hard := func(target string) tar.Header { return tar.Header{Typeflag: tar.TypeLink, Linkname: target} }
	for name, files := range map[string][]file{
		"dots":             {{name: "../evil", content: "x"}},
		"deep dots":        {{name: "a/../../evil", content: "x"}},
		"symlink":          {{name: "l", header: link(outside)}, {name: "l/evil", content: "x"}},
		"relative symlink": {{name: "l", header: link("../../../../../../../.." + outside)}, {name: "l/evil", content: "x"}},
		"hard link":        {{name: "h", header: hard("../../../../etc/passwd")}},
		"whiteout":         {{name: "l", header: link(outside)}, {name: "l/.wh.evil"}},
		"opaque":           {{name: "l", header: link(outside)}, {name: "l/.wh..wh..opq"}},
		"dots whiteout":    {{name: "a/.wh..."}, {name: "a/.wh..", content: ""}},
		"nameless":         {{name: "a/.wh."}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, files...)), "", nil, "")
			if strings.Contains(name, "dots") || name == "hard link" || name == "nameless" {
				require.Error(t, err) // a symlink is followed inside
			}
			entries, err := os.ReadDir(outside)
			require.NoError(t, err)
			require.Empty(t, entries)
			require.Empty(t, leftovers(t, s))
		})
	}
}

// TestLayerOfAufs unpacks a layer that docker made on aufs, where hard links lead to files of aufs.
func TestLayerOfAufs(t *testing.T) {
	s := newStore(t)
	plink := tar.Header{Typeflag: tar.TypeLink, Linkname: ".wh..wh.plnk/1.2"}
	image := importTar(t, s, "", file{name: ".wh..wh.aufs"}, file{name: ".wh..wh.orph/"}, file{name: ".wh..wh.plnk/"},
		file{name: ".wh..wh.plnk/1.2", content: "linked"}, file{name: "one", header: plink}, file{name: "two", header: plink}, file{name: ".wh..wh..opq"})
	top := image.Layers()[0]
	entries, err := os.ReadDir(top)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	content, err := os.ReadFile(filepath.Join(top, "two"))
	require.NoError(t, err)
	require.Equal(t, "linked", string(content))
	xattrs, err := readXattrs(top)
	require.NoError(t, err)
	require.Equal(t, "y", xattrs[opaqueXattr])
}

func TestImportOfNothing(t *testing.T) {
	s := newStore(t)
	first := importTar(t, s, "nothing")
	second, err := s.Import(t.Context(), bytes.NewReader(nil), "", nil, "")
	require.NoError(t, err)
	require.Equal(t, first.Config.RootFS, second.Config.RootFS)
}

func TestUnpackTakesNoXattrsOfOverlayfs(t *testing.T) {
	s := newStore(t)
	header := tar.Header{PAXRecords: map[string]string{
		xattrPrefix + "trusted.overlay.redirect": "/etc", xattrPrefix + "user.overlay.opaque": "y", xattrPrefix + "user.kept": "a=b\x00c",
	}}
	image := importTar(t, s, "", file{name: "dir/", header: header})
	xattrs := map[string]bool{}
	buffer := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(image.Layers()[0], "dir"), buffer)
	require.NoError(t, err)
	for name := range strings.SplitSeq(string(buffer[:n]), "\x00") {
		xattrs[name] = true
	}
	require.True(t, xattrs["user.kept"])
	require.False(t, xattrs["trusted.overlay.redirect"])
	require.False(t, xattrs["user.overlay.opaque"])
}

func needGNUTar(t *testing.T) {
	t.Helper()
	version, _ := exec.Command("tar", "--version").Output()
	need(t, strings.Contains(string(version), "GNU"), "GNU tar")
}

func TestSparseArchiveOfGNUTar(t *testing.T) {
	needGNUTar(t)
	s := newStore(t)
	dir := t.TempDir()
	makeTree(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, "dir/deleted")))
	require.NoError(t, unix.Lremovexattr(filepath.Join(dir, "dir/opaque"), opaqueXattr))
	for _, form := range [][2]string{{"gnu", "1.0"}, {"posix", "0.0"}, {"posix", "0.1"}, {"posix", "1.0"}} {
		archive, format := filepath.Join(t.TempDir(), "a.tar"), form[0]
		output, err := exec.Command("tar", "-cf", archive, "--format="+format, "--sparse-version="+form[1], "--xattrs", "--xattrs-include=*", "-C", dir, ".").CombinedOutput()
		if format == "gnu" && err != nil {
			output, err = exec.Command("tar", "-cf", archive, "--sparse", "-C", dir, ".").CombinedOutput()
		}
		require.NoError(t, err, string(output))
		content, err := os.Open(archive)
		require.NoError(t, err)
		image, err := s.Import(t.Context(), content, format, nil, "")
		require.NoError(t, err)
		require.NoError(t, content.Close())
		if format == "posix" {
			require.Equal(t, describeTree(t, dir), describeTree(t, image.Layers()[0]))
		}
	}
}

func TestFind(t *testing.T) {
	s := newStore(t)
	image := importTar(t, s, "docker.io/library/busybox", file{name: "f", content: "x"})
	for _, ref := range []string{
		"busybox", "busybox:latest", "library/busybox", "docker.io/library/busybox:latest",
		string(image.ID), image.ID.Encoded(), image.ShortID(), "sha256:" + image.ShortID(), "busybox@" + string(image.ID),
	} {
		found, err := s.Find(t.Context(), ref)
		require.NoError(t, err, ref)
		require.Equal(t, image.ID, found.ID, ref)
	}
	for ref, message := range map[string]string{
		"none":                              "no such image: none:latest",
		"none:1":                            "no such image: none:1",
		"busybox:1":                         "no such image: busybox:1",
		"":                                  `invalid name or ID supplied: ""`,
		"Busybox":                           `invalid reference format: "Busybox": repository name Busybox must be lowercase`,
		"../images/busybox":                 `invalid reference format: "../images/busybox": `,
		"sha256:" + strings.Repeat("0", 64): "no such image: sha256:" + strings.Repeat("0", 64),
	} {
		_, err := s.Find(t.Context(), ref)
		require.ErrorContains(t, err, message, ref)
	}
	_, err := s.Find(t.Context(), "none")
	require.ErrorAs(t, err, &NotFoundError{})
}

func TestDamagedConfigIsRefused(t *testing.T) {
	s := newStore(t)
	image := importTar(t, s, "busybox", file{name: "f", content: "x"})
	raw := bytes.Replace(image.Raw, []byte("linux"), []byte("linuy"), 1)
	require.NoError(t, os.WriteFile(s.configFile(image.ID), raw, 0o600))
	_, err := s.Find(t.Context(), "busybox")
	require.ErrorContains(t, err, "does not have this digest any more")
}

func TestArchiveIsImportedWhenFirstUsed(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.makeDirs())
	put := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(s.archives(), name+".tar"), content, 0o644))
	}
	whole := tarOf(t, file{name: "f", content: strings.Repeat("x", 10000)})
	put("busybox", whole)
	put("text", []byte("no archive\n"))
	put("short", whole[:4000])
	put("none", make([]byte, 10240))
	rows, err := s.List()
	require.NoError(t, err)
	require.Len(t, rows, 4)
	require.Equal(t, "<none>", rows[0].Columns(time.Now(), false)[2])

	for name, message := range map[string]string{
		"text":  "unpacking image text: reading the archive: unexpected EOF",
		"short": "unpacking image short: f: unexpected EOF",
		"none":  "unpacking image none: the archive is empty",
	} {
		for range 2 {
			_, err := s.Find(t.Context(), name)
			require.EqualError(t, err, message)
		}
	}
	var group sync.WaitGroup
	ids := make([]string, 4)
	for i := range ids {
		group.Go(func() {
			image, err := s.Find(t.Context(), "busybox")
			if err == nil {
				ids[i] = string(image.ID)
			}
		})
	}
	group.Wait()
	require.NotEmpty(t, ids[0])
	require.Equal(t, []string{ids[0], ids[0], ids[0], ids[0]}, ids)
	require.Empty(t, leftovers(t, s))

	untagged, deleted, err := s.Remove(t.Context(), "busybox", false, nothingUsed)
	require.NoError(t, err)
	require.Equal(t, []string{"busybox:latest"}, untagged)
	require.Len(t, deleted, 2)
	_, err = s.Find(t.Context(), "busybox")
	require.ErrorContains(t, err, "no such image: busybox:latest")
	untagged, deleted, err = s.Remove(t.Context(), "text", false, nothingUsed)
	require.NoError(t, err)
	require.Equal(t, []string{"text:latest"}, untagged)
	require.Empty(t, deleted)
}

// endless is an archive that never ends: it waits for the context in the middle of a file.
type endless struct {
	start  io.Reader
	cancel context.CancelCauseFunc
}

var errInterrupted = errors.New("terminated signal received")

func (e *endless) Read(p []byte) (int, error) {
	n, err := e.start.Read(p)
	if errors.Is(err, io.EOF) {
		e.cancel(errInterrupted)
		return len(p), nil
	}
	return n, err
}

func TestInterruptLeavesNothing(t *testing.T) {
	s := newStore(t)
	archive := tarOf(t, file{name: "big", content: strings.Repeat("x", 1<<20)})
	for name, start := range map[string]func(ctx context.Context, r io.Reader) error{
		"import": func(ctx context.Context, r io.Reader) error {
			_, err := s.Import(ctx, r, "big", nil, "")
			return err
		},
		"load": func(ctx context.Context, r io.Reader) error {
			_, err := s.Load(ctx, r, nil)
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := start(ctx, &endless{bytes.NewReader(archive[:100000]), cancel})
		require.ErrorIs(t, err, errInterrupted, name)
		require.Empty(t, leftovers(t, s))
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	base := importTar(t, s, "base", file{name: "f", content: "x"})
	cancel(errInterrupted)
	_, err := s.Commit(ctx, CommitOptions{Parent: base, Upper: base.Layers()[0]})
	require.ErrorIs(t, err, errInterrupted)
	require.Empty(t, leftovers(t, s))
}

func TestCommitConfig(t *testing.T) {
	s := newStore(t)
	parent := []byte(`{"architecture":"amd64","os":"linux","author":"she","os.version":"7","container":"x",
		"config":{"Env":["A=1"],"Cmd":["sh"],"Healthcheck":{"Test":["CMD","true"]},"User":"root"},
		"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"one","empty_layer":true}]}`)
	base, err := s.FromConfig(parent)
	require.NoError(t, err)
	image, err := s.Commit(t.Context(), CommitOptions{
		Parent: base, Upper: t.TempDir(), Ref: "x/y:z", Author: "he", Message: "why", CreatedBy: "sh -c true",
		Config: base.Config.Config, Changes: []string{`ENTRYPOINT ["/bin/x"]`, "ENV B=$A", "USER 1:2"},
	})
	require.NoError(t, err)
	require.Contains(t, string(image.Raw), `"Healthcheck":{"Test":["CMD","true"]}`)
	require.Contains(t, string(image.Raw), `"os.version":"7"`)
	require.NotContains(t, string(image.Raw), `"container"`)
	require.Equal(t, oci.ImageConfig{Env: []string{"A=1", "B=1"}, Entrypoint: []string{"/bin/x"}, User: "1:2"}, image.Config.Config)
	require.Equal(t, "he", image.Config.Author)
	require.Nil(t, base.Config.Config.Entrypoint)

	steps, err := s.History(t.Context(), "x/y:z")
	require.NoError(t, err)
	require.Len(t, steps, 2)
	require.Equal(t, []string{image.ShortID(), "Less than a second ago", "sh -c true", "0B", "why"}, steps[0].Columns(time.Now(), false))
	require.Equal(t, []string{"<missing>", "N/A", "one", "0B", ""}, steps[1].Columns(time.Now(), false))

	for _, bad := range []CommitOptions{{Changes: []string{"RUN x"}}, {Ref: "X"}, {Ref: "a@" + string(image.ID)}} {
		bad.Parent, bad.Upper = base, t.TempDir()
		_, err = s.Commit(t.Context(), bad)
		require.Error(t, err)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file{name: "f", content: "base"})
	upper := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(upper, "g"), []byte("top"), 0o644))
	top, err := s.Commit(t.Context(), CommitOptions{Parent: base, Upper: upper, Ref: "top"})
	require.NoError(t, err)
	require.NoError(t, s.Tag(t.Context(), "top", "other/top:1"))

	container := strings.Repeat("c0ffee", 11)[:64]
	inUse := []Use{{Container: container, Running: true, Image: top.ID, Layers: top.Layers()}}
	remove := func(ref string, force bool) (string, error) {
		untagged, deleted, err := s.Remove(t.Context(), ref, force, func() ([]Use, error) { return inUse, nil })
		return fmt.Sprint(untagged, deleted), err
	}
	none := "[] []"
	_, err = remove("nothing", false)
	require.EqualError(t, err, "no such image: nothing:latest")
	_, err = remove(top.ShortID(), true)
	require.EqualError(t, err, "conflict: unable to delete "+top.ShortID()+" (cannot be forced) - image is being used by running container c0ffeec0ffee")
	inUse[0].Running = false
	_, err = remove(top.ShortID(), false)
	require.EqualError(t, err, "conflict: unable to delete "+top.ShortID()+" (must be forced) - image is referenced in multiple repositories")
	out, err := remove("other/top:1", false)
	require.NoError(t, err)
	require.Equal(t, "[other/top:1] []", out)
	out, err = remove("top", false)
	require.EqualError(t, err, `conflict: unable to remove repository reference "top" (must force) - container c0ffeec0ffee is using its referenced image `+top.ShortID())
	require.Equal(t, none, out)
	_, err = remove(top.ShortID(), false)
	require.EqualError(t, err, "conflict: unable to delete "+top.ShortID()+" (must be forced) - image is being used by stopped container c0ffeec0ffee")

	// The image goes, and the layers of the container stay, and of them another can be made.
	out, err = remove(top.ShortID(), true)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("[top:latest] [%s]", top.ID), out)
	require.DirExists(t, top.Layers()[0])
	again, err := s.FromConfig(top.Raw)
	require.NoError(t, err)
	third, err := s.Commit(t.Context(), CommitOptions{Parent: again, Upper: t.TempDir()})
	require.NoError(t, err)

	// Without containers, what only the removed images had goes.
	inUse = nil
	_, err = remove(string(third.ID), false)
	require.NoError(t, err)
	require.NoDirExists(t, top.Layers()[0])
	require.DirExists(t, base.Layers()[0])
	_, err = remove("base", false)
	require.NoError(t, err)
	require.NoDirExists(t, base.Layers()[0])
}

func TestReplacedNameLeavesADanglingImage(t *testing.T) {
	s := newStore(t)
	importTar(t, s, "x", file{name: "f", content: "one"})
	importTar(t, s, "x", file{name: "f", content: "two!"})
	rows, err := s.List()
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, []string{"x", "latest"}, rows[0].Columns(time.Now(), false)[:2])
	require.Equal(t, "4B", rows[0].Columns(time.Now(), false)[4])
	require.Equal(t, []string{"<none>", "<none>"}, rows[1].Columns(time.Now(), false)[:2])
}

func TestCrashLeftoversAreCleared(t *testing.T) {
	s := newStore(t)
	image := importTar(t, s, "kept", file{name: "f", content: "x"})
	orphan, err := s.copyLayer(t.Context(), t.TempDir(), "")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(s.layersDir(), newName(), "fs/half"), 0o700))
	require.NoError(t, os.Symlink("x", filepath.Join(s.namesDir(), newName())))
	half := filepath.Join(s.configsDir(), strings.Repeat("ab", 32))
	require.NoError(t, os.Mkdir(half, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(half, newName()), []byte("{"), 0o600))

	rows, err := s.List()
	require.NoError(t, err)
	require.Len(t, rows, 1)
	removed, err := s.sweep(nil)
	require.NoError(t, err)
	require.Equal(t, string(orphan.DiffID), string(removed[0]))
	require.Empty(t, leftovers(t, s))
	require.NoDirExists(t, half)
	_, err = s.Find(t.Context(), "kept")
	require.NoError(t, err)
	require.DirExists(t, image.Layers()[0])

	// Who adds clears up too, as long as nobody else is adding.
	left := filepath.Join(s.layersDir(), newName())
	require.NoError(t, os.MkdirAll(filepath.Join(left, "fs/half"), 0o700))
	release, err := s.Hold(t.Context())
	require.NoError(t, err)
	importTar(t, s, "more", file{name: "f", content: "x"})
	require.DirExists(t, left)
	release()
	importTar(t, s, "more", file{name: "f", content: "x"})
	require.NoDirExists(t, left)
}

// damages are what a power failure or a bad disk leaves of a layer, or of an image's configuration.
var damages = map[string]func(t *testing.T, s *Store, image *Image){
	"zeros in place of data": func(t *testing.T, _ *Store, image *Image) {
		require.NoError(t, os.WriteFile(filepath.Join(image.Layers()[0], "dir/file"), make([]byte, 7), 0o644))
	},
	"a file that is too short": func(t *testing.T, _ *Store, image *Image) {
		require.NoError(t, os.Truncate(filepath.Join(image.Layers()[0], "dir/file"), 0))
	},
	"a missing file":      func(t *testing.T, _ *Store, image *Image) { remove(t, image.Layers()[0], "dir/file") },
	"a missing directory": func(t *testing.T, _ *Store, image *Image) { remove(t, image.Layers()[0], "dir") },
	"a missing link":      func(t *testing.T, _ *Store, image *Image) { remove(t, image.Layers()[0], "link") },
	"all files missing":   func(t *testing.T, _ *Store, image *Image) { remove(t, image.Layers()[0], ".") },
	"a file that became a directory": func(t *testing.T, _ *Store, image *Image) {
		remove(t, image.Layers()[0], "dir/file")
		require.NoError(t, os.MkdirAll(filepath.Join(image.Layers()[0], "dir/file/x"), 0o755))
	},
	"no record": func(t *testing.T, _ *Store, image *Image) { remove(t, image.Layers()[0], "../layer.json") },
	"an empty record": func(t *testing.T, _ *Store, image *Image) {
		require.NoError(t, os.Truncate(filepath.Join(image.Layers()[0], "../layer.json"), 0))
	},
	"an empty configuration": func(t *testing.T, s *Store, image *Image) {
		require.NoError(t, os.Truncate(s.configFile(image.ID), 0))
	},
}

func remove(t *testing.T, elements ...string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(filepath.Join(elements...)))
}

// TestDamageIsMended loads, or imports, the same archive again, as people do when an image is
// broken. What is whole stays as it is, for the containers that run on it.
func TestDamageIsMended(t *testing.T) {
	layer := tarOf(t, file{name: "dir/"}, file{name: "dir/file", content: "content"},
		file{name: "link", header: tarLink("dir/file")}, file{name: "hard", header: tar.Header{Typeflag: tar.TypeLink, Linkname: "dir/file"}})
	loadIt := func(s *Store) error {
		_, err := s.Load(t.Context(), bytes.NewReader(dockerArchive(t, "x:1", func(files map[string][]byte) {
			config := fmt.Appendf(nil, `{"os":"linux","rootfs":{"diff_ids":[%q]}}`, oci.FromBytes(layer))
			hostileConfig(string(config))(files)
			files["layer.tar"] = layer
		})), nil)
		return err
	}
	importIt := func(s *Store) error {
		_, err := s.importAt(t.Context(), time.Unix(0, 0), bytes.NewReader(layer), false, "x:1", nil, "")
		return err
	}
	for name, add := range map[string]func(s *Store) error{"load": loadIt, "import": importIt} {
		for damage, do := range damages {
			t.Run(name+", "+damage, func(t *testing.T) {
				s := newStore(t)
				require.NoError(t, add(s))
				image, err := s.Find(t.Context(), "x:1")
				require.NoError(t, err)
				want := describeTree(t, image.Layers()[0])
				do(t, s, image)
				require.NoError(t, add(s))
				image, err = s.Find(t.Context(), "x:1")
				require.NoError(t, err)
				require.Equal(t, want, describeTree(t, image.Layers()[0]))
				_, err = image.Size()
				require.NoError(t, err)
				require.Empty(t, leftovers(t, s))

				before, err := os.Stat(filepath.Join(image.Layers()[0], "dir/file"))
				require.NoError(t, err)
				require.NoError(t, add(s))
				after, err := os.Stat(filepath.Join(image.Layers()[0], "dir/file"))
				require.NoError(t, err)
				require.True(t, os.SameFile(before, after), "what is whole stays")
			})
		}
	}
}

// TestLayersAreOnTheDisk checks that a layer is synced when it is whole, and before it has its name.
func TestLayersAreOnTheDisk(t *testing.T) {
	s := newStore(t)
	synced := 0
	sync := syncTree
	defer func() { syncTree = sync }()
	syncTree = func(dir string) error {
		synced++
		require.FileExists(t, filepath.Join(dir, "layer.json"))
		require.FileExists(t, filepath.Join(dir, "fs/f"))
		require.True(t, isTemporary(filepath.Base(dir)))
		return sync(dir)
	}
	importTar(t, s, "one", file{name: "f", content: "x"})
	require.Equal(t, 1, synced)
	syncTree = func(string) error { return unix.EIO }
	_, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, file{name: "f", content: "y"})), "two", nil, "")
	require.ErrorIs(t, err, unix.EIO)
	require.Empty(t, leftovers(t, s))
}

func TestImportTwiceIsOneLayer(t *testing.T) {
	s := newStore(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	one := importTar(t, s, "one", file{name: "f", content: "x"})
	two := importTar(t, s, "two", file{name: "f", content: "x"})
	require.Equal(t, one.Layers(), two.Layers())
	three := importTar(t, s, "three", file{name: "a/b/f", content: "x"})
	for _, dir := range []string{one.Layers()[0], three.Layers()[0], three.Layers()[0] + "/a", three.Layers()[0] + "/a/b"} {
		info, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	}
}

func TestWhoRemovesWaitsForWhoHolds(t *testing.T) {
	s := newStore(t)
	importTar(t, s, "x", file{name: "f", content: "one"})
	release, err := s.Hold(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = s.Remove(ctx, "x", false, nothingUsed)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	release()
	_, _, err = s.Remove(t.Context(), "x", false, nothingUsed)
	require.NoError(t, err)
}

func TestManyAtOnce(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file{name: "f", content: "x"})
	var archive bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &archive, []string{"base"}))
	upper := t.TempDir()
	var group sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 8 {
		group.Go(func() {
			name := fmt.Sprintf("n%d", i)
			_, err := s.Commit(t.Context(), CommitOptions{Parent: base, Upper: upper, Ref: name})
			errs <- err
			_, err = s.Load(t.Context(), bytes.NewReader(archive.Bytes()), nil)
			errs <- err
			_, _, err = s.Remove(t.Context(), name, false, nothingUsed)
			errs <- err
			_, err = s.List()
			errs <- err
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Empty(t, leftovers(t, s))
	rows, err := s.List()
	require.NoError(t, err)
	require.Len(t, rows, 1)
}

func tarLink(target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Linkname: target}
}

func tarHeaderUser() tar.Header {
	return tar.Header{Uid: 1000, Gid: 1000, Uname: "somebody", ModTime: time.Unix(1e9, 0)}
}
