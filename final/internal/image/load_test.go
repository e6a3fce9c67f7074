//go:build linux

package image

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lixd/mydocker/final/internal/oci"
)

// skopeo runs skopeo in a directory of its own.
func skopeo(t *testing.T, args ...string) {
	t.Helper()
	_, err := exec.LookPath("skopeo")
	need(t, err == nil, "skopeo")
	output, err := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput()
	require.NoError(t, err, string(output))
}

// savedImage returns a store with an image of two layers and one of everything in it, and the
// archive of it.
func savedImage(t *testing.T, names ...string) (*Store, *Image, string) {
	t.Helper()
	s := newStore(t)
	base := importTar(t, s, "base", file{name: "etc/"}, file{name: "etc/passwd", content: "root"})
	upper := t.TempDir()
	makeTree(t, upper)
	image, err := s.Commit(t.Context(), CommitOptions{Parent: base, Upper: upper, Changes: []string{
		`CMD ["sh", "-c", "x"]`, "ENV A=1 B='2 3'", "WORKDIR /w", "USER 1:2", "STOPSIGNAL SIGINT", "VOLUME /v", "EXPOSE 80 53/udp", "LABEL l=m",
	}})
	require.NoError(t, err)
	for _, name := range names {
		require.NoError(t, s.Tag(t.Context(), string(image.ID), name))
	}
	refs := names
	if refs == nil {
		refs = []string{string(image.ID)}
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	file, err := os.Create(archive)
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), file, refs))
	require.NoError(t, file.Close())
	return s, image, archive
}

func loadFile(t *testing.T, s *Store, name string) ([]Loaded, error) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	return s.Load(t.Context(), file, nil)
}

// TestSkopeo sends an image through skopeo in every format, and takes it back.
func TestSkopeo(t *testing.T) {
	_, image, archive := savedImage(t, "host:5000/a/made:1")
	for name, copies := range map[string][][]string{
		"docker to docker":  {{"docker-archive:" + archive, "docker-archive:OUT:host:5000/a/made:1"}},
		"docker to oci":     {{"docker-archive:" + archive, "oci-archive:OUT:host:5000/a/made:1"}},
		"oci to oci":        {{"oci-archive:" + archive, "oci-archive:OUT:host:5000/a/made:1"}},
		"oci by its tag":    {{"oci-archive:" + archive + ":1", "docker-archive:OUT:host:5000/a/made:1"}},
		"by a directory":    {{"oci-archive:" + archive, "oci:DIR:x"}, {"oci:DIR:x", "docker-archive:OUT:host:5000/a/made:1"}},
		"gzip":              {{"--dest-compress", "docker-archive:" + archive, "oci:DIR:host:5000/a/made:1"}},
		"zstd":              {{"--dest-compress-format=zstd", "docker-archive:" + archive, "oci:DIR:host:5000/a/made:1"}},
		"docker schema 2":   {{"--format=v2s2", "oci-archive:" + archive, "docker-archive:OUT:host:5000/a/made:1"}},
		"docker by its tag": {{"docker-archive:" + archive + ":host:5000/a/made:1", "oci-archive:OUT:host:5000/a/made:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, out := filepath.Join(t.TempDir(), "layout"), filepath.Join(t.TempDir(), "out.tar")
			for _, args := range copies {
				for i := range args {
					args[i] = strings.NewReplacer("OUT", out, "DIR", dir).Replace(args[i])
				}
				skopeo(t, append([]string{"copy", "-q"}, args...)...)
			}
			if _, err := os.Stat(out); err != nil {
				output, err := exec.Command("tar", "-cf", out, "-C", dir, ".").CombinedOutput()
				require.NoError(t, err, string(output))
			}
			other := newStore(t)
			loaded, err := loadFile(t, other, out)
			require.NoError(t, err)
			require.Len(t, loaded, 1)
			require.Equal(t, []string{"host:5000/a/made:1"}, loaded[0].Names)
			found, err := other.Find(t.Context(), "host:5000/a/made:1")
			require.NoError(t, err)
			require.Equal(t, image.Config.Config, found.Config.Config)
			require.Equal(t, image.Config.RootFS, found.Config.RootFS)
			for i, layer := range image.Layers() {
				require.Equal(t, describeTree(t, layer), describeTree(t, found.Layers()[i]))
			}
			require.Empty(t, leftovers(t, other))
		})
	}
}

// TestLayerOfAnotherTar loads an image whose layer was packed by another program, and saves it:
// the parts of what is saved agree.
func TestLayerOfAnotherTar(t *testing.T) {
	s := newStore(t)
	loaded, err := s.Load(t.Context(), bytes.NewReader(dockerArchive(t, "x:1", nil)), nil)
	require.NoError(t, err)
	found, err := s.Find(t.Context(), "x:1")
	require.NoError(t, err)
	require.Equal(t, loaded[0].ID, found.ID)

	var archive, again bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &archive, []string{"x:1"}))
	require.NoError(t, s.Save(t.Context(), &again, []string{"x:1"}))
	require.True(t, bytes.Equal(archive.Bytes(), again.Bytes()))
	other := newStore(t)
	loaded, err = other.Load(t.Context(), &archive, nil)
	require.NoError(t, err)
	require.NotEqual(t, found.ID, loaded[0].ID)
	var third bytes.Buffer
	require.NoError(t, other.Save(t.Context(), &third, []string{"x:1"}))
	require.True(t, bytes.Equal(third.Bytes(), again.Bytes()))
}

// dockerArchive is an archive as docker made it for long, with change applied to its files.
func dockerArchive(t testing.TB, name string, change func(files map[string][]byte)) []byte {
	t.Helper()
	layer := tarOf(t, file{name: "bin/", header: tarHeaderUser()}, file{name: "bin/sh", content: "#!"})
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		runtime.GOARCH, oci.FromBytes(layer))
	id := oci.FromBytes(config).Encoded()
	files := map[string][]byte{
		"layer.tar":     layer,
		id + ".json":    config,
		"manifest.json": fmt.Appendf(nil, `[{"Config":"%s.json","RepoTags":[%q],"Layers":["a/layer.tar"]}]`, id, name),
	}
	if change != nil {
		change(files)
	}
	entries := []file{{name: "a/"}, {name: "a/layer.tar", header: tarLink("../layer.tar")}}
	for name, content := range files {
		entries = append(entries, file{name: name, content: string(content)})
	}
	return tarOf(t, entries...)
}

func TestLoadCompressed(t *testing.T) {
	s := newStore(t)
	plain := dockerArchive(t, "x:1", func(files map[string][]byte) { files["layer.tar"] = gzipped(files["layer.tar"]) })
	for _, archive := range [][]byte{plain, compressed(t, "gzip", plain), compressed(t, "zstd", plain), compressed(t, "bzip2", plain), compressed(t, "xz", plain)} {
		name := filepath.Join(t.TempDir(), "a")
		require.NoError(t, os.WriteFile(name, archive, 0o600))
		_, err := loadFile(t, s, name)
		require.NoError(t, err)
		_, _, err = s.Remove(t.Context(), "x:1", false, nothingUsed)
		require.NoError(t, err)
	}
}

// compressed returns what a program makes of data.
func compressed(t *testing.T, program string, data []byte) []byte {
	t.Helper()
	_, err := exec.LookPath(program)
	need(t, err == nil, program)
	cmd := exec.Command(program, "-c")
	cmd.Stdin = bytes.NewReader(data)
	output, err := cmd.Output()
	require.NoError(t, err)
	return output
}

func gzipped(data []byte) []byte {
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	_, _ = w.Write(data) // a bytes.Buffer takes everything
	_ = w.Close()
	return buffer.Bytes()
}

func TestLoadRefuses(t *testing.T) {
	s := newStore(t)
	replace := func(name, from, to string) func(map[string][]byte) {
		return func(files map[string][]byte) {
			for file, content := range files {
				if strings.HasSuffix(file, name) && (file == name || name == ".json" && file != "manifest.json") {
					files[file] = bytes.Replace(content, []byte(from), []byte(to), 1)
				}
			}
		}
	}
	for message, change := range map[string]func(map[string][]byte){
		"verifying it uncompressed: its digest is":                  replace("layer.tar", "#!", "#?"),
		".json: its digest is":                                      replace(".json", `"sh"`, `"xx"`),
		"the image has 1 layers by its configuration, and 0 by":     replace("manifest.json", `"a/layer.tar"`, ""),
		"there is no ../../etc/passwd in the archive":               replace("manifest.json", "a/layer.tar", "../../etc/passwd"),
		"invalid reference format":                                  replace("manifest.json", "x:1", "X:1"),
		"reading manifest.json: ":                                   replace("manifest.json", "[", "{"),
		"unrecognized image format":                                 func(files map[string][]byte) { delete(files, "manifest.json") },
		"there is no a/layer.tar in the archive":                    func(files map[string][]byte) { delete(files, "layer.tar") },
		`"sha256:../../x" is no digest of a layer`:                  hostileConfig(`{"os":"linux","rootfs":{"diff_ids":["sha256:../../x"]}}`),
		"the image has 0 layers by its configuration, and 1 by":     hostileConfig(`{"os":"linux"}`),
		"the image is for windows":                                  hostileConfig(fmt.Sprintf(`{"os":"windows","rootfs":{"diff_ids":[%q]}}`, oci.FromBytes([]byte("x")))),
		"reading the image's configuration: unexpected end of JSON": hostileConfig(`{"os":`),
	} {
		t.Run(message, func(t *testing.T) {
			_, err := s.Load(t.Context(), bytes.NewReader(dockerArchive(t, "x:1", change)), nil)
			require.ErrorContains(t, err, message)
			require.Empty(t, leftovers(t, s))
			if !strings.Contains(message, "reference") {
				rows, err := s.List()
				require.NoError(t, err)
				require.Empty(t, rows)
			}
			_, err = s.sweep(nil)
			require.NoError(t, err)
		})
		for _, row := range must(s.List()) {
			_, _, err := s.Remove(t.Context(), string(row.ID), true, nothingUsed)
			require.NoError(t, err)
		}
	}
	for name, archive := range map[string][]byte{"empty": nil, "text": []byte("no archive, but long enough"), "half": dockerArchive(t, "x", nil)[:700]} {
		_, err := s.Load(t.Context(), bytes.NewReader(archive), nil)
		require.Error(t, err, name)
	}
}

// hostileConfig replaces the configuration, and the name by which it is known.
func hostileConfig(config string) func(files map[string][]byte) {
	return func(files map[string][]byte) {
		for name := range files {
			if id := strings.TrimSuffix(name, ".json"); len(id) == 64 {
				delete(files, name)
				files["manifest.json"] = bytes.Replace(files["manifest.json"], []byte(name), []byte("config.json"), 1)
			}
		}
		files["config.json"] = []byte(config)
	}
}

// layout makes an archive of an OCI image layout for several platforms.
func layout(t *testing.T, named bool, change func(name string, content []byte) []byte) []byte {
	t.Helper()
	var files []file
	add := func(mediaType string, content []byte) oci.Descriptor {
		d := oci.Descriptor{MediaType: mediaType, Digest: oci.FromBytes(content), Size: int64(len(content))}
		files = append(files, file{name: blobFile(d.Digest), content: string(change(mediaType, content))})
		return d
	}
	addJSON := func(mediaType string, value any) oci.Descriptor {
		content, err := json.Marshal(value)
		require.NoError(t, err)
		return add(mediaType, content)
	}
	var manifests []oci.Descriptor
	for _, arch := range []string{"unknown", "s390x", runtime.GOARCH} {
		layer := tarOf(t, file{name: "arch", content: arch})
		config := oci.Image{Platform: oci.Platform{Architecture: arch, OS: "linux"}, RootFS: oci.RootFS{Type: "layers", DiffIDs: []oci.Digest{oci.FromBytes(layer)}}}
		m := addJSON(oci.MediaTypeImageManifest, oci.Manifest{
			Config: addJSON(oci.MediaTypeImageConfig, config), Layers: []oci.Descriptor{add(oci.MediaTypeImageLayerGzip, gzipped(layer))},
		})
		m.Platform = &oci.Platform{Architecture: arch, OS: "linux"}
		manifests = append(manifests, m)
	}
	if named {
		manifests = []oci.Descriptor{addJSON(oci.MediaTypeImageIndex, oci.Index{Manifests: manifests})}
		manifests[0].Annotations = map[string]string{oci.AnnotationRefName: "docker.io/library/multi:2"}
	}
	index, err := json.Marshal(oci.Index{Manifests: manifests})
	require.NoError(t, err)
	files = append(files, file{name: "./index.json", content: string(index)}, file{name: "./oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`})
	return tarOf(t, files...)
}

func TestLoadChoosesThisMachinesPlatform(t *testing.T) {
	s := newStore(t)
	same := func(_ string, content []byte) []byte { return content }
	for _, named := range []bool{false, true} {
		loaded, err := s.Load(t.Context(), bytes.NewReader(layout(t, named, same)), nil)
		require.NoError(t, err)
		image, err := s.Find(t.Context(), string(loaded[0].ID))
		require.NoError(t, err)
		require.Equal(t, runtime.GOARCH, image.Config.Architecture)
		if named {
			require.Equal(t, "Loaded image: multi:2", loaded[0].String())
		}
	}
}

func TestLoadVerifiesEveryBlob(t *testing.T) {
	for _, mediaType := range []string{oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, oci.MediaTypeImageConfig, oci.MediaTypeImageLayerGzip} {
		t.Run(mediaType, func(t *testing.T) {
			s := newStore(t)
			flip := func(name string, content []byte) []byte {
				if name != mediaType {
					return content
				}
				flipped := bytes.Clone(content)
				flipped[9] ^= 1 // in a gzip header this is the operating system, of no effect
				return flipped
			}
			_, err := s.Load(t.Context(), bytes.NewReader(layout(t, true, flip)), nil)
			require.ErrorContains(t, err, "its digest is")
			require.Empty(t, must(s.List()))
			require.Empty(t, leftovers(t, s))
		})
	}
}

func TestSaveOfSeveral(t *testing.T) {
	s, image, _ := savedImage(t, "one:1", "two:2")
	var archive bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &archive, []string{"one:1", "two:2", "base", image.ShortID()}))
	other := newStore(t)
	loaded, err := other.Load(t.Context(), bytes.NewReader(archive.Bytes()), nil)
	require.NoError(t, err)
	require.Len(t, loaded, 2)
	require.Equal(t, "Loaded image: one:1\nLoaded image: two:2", loaded[0].String())
	require.Equal(t, "Loaded image: base:latest", loaded[1].String())
	require.ErrorContains(t, s.Save(t.Context(), &archive, []string{"none"}), "no such image: none:latest")
}

func TestSaveOfAllTags(t *testing.T) {
	s := newStore(t)
	importTar(t, s, "app:1", file{name: "1"})
	importTar(t, s, "app:2", file{name: "2"})
	require.NoError(t, s.Tag(t.Context(), "app:2", "app:latest"))
	importTar(t, s, "app:5000/other:1", file{name: "3"})
	names := func(refs ...string) (names []string) {
		var archive bytes.Buffer
		require.NoError(t, s.Save(t.Context(), &archive, refs))
		loaded, err := newStore(t).Load(t.Context(), &archive, nil)
		require.NoError(t, err)
		for _, image := range loaded {
			names = append(names, image.Names...)
		}
		return names
	}
	require.Equal(t, []string{"app:1", "app:2", "app:latest"}, names("app"))
	require.Equal(t, []string{"app:latest"}, names("app:latest"))
	_, _, err := s.Remove(t.Context(), "app:latest", false, nothingUsed)
	require.NoError(t, err)
	require.Equal(t, []string{"app:1", "app:2"}, names("app", "docker.io/library/app"))
	err = s.Save(t.Context(), io.Discard, []string{"app:latest"})
	require.EqualError(t, err, "saving image app:latest: no such image: app:latest")
}

func TestBar(t *testing.T) {
	var terminal bytes.Buffer
	bar := NewBar(&terminal)
	bar(oci.FromBytes([]byte("x")), 50, 100)
	bar(oci.FromBytes([]byte("x")), 51, 100)
	bar(oci.FromBytes([]byte("x")), 100, 100)
	short := oci.FromBytes([]byte("x")).Encoded()[:12]
	require.Equal(t, "\r"+short+": Loading layer [=========================>                         ]  50B/100B\x1b[K"+
		"\r"+short+": Loading layer [==================================================>]  100B/100B\x1b[K\n", terminal.String())
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func FuzzLoad(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root")
	}
	f.Add(dockerArchive(f, "x:1", nil))
	f.Add(gzipped(dockerArchive(f, "x:1", nil)))
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, archive []byte) {
		s := Open(filepath.Join(root, "store"))
		loaded, err := s.Load(t.Context(), bytes.NewReader(archive), nil)
		if err == nil {
			for _, one := range loaded {
				_, err := s.Find(t.Context(), string(one.ID))
				require.NoError(t, err)
			}
		}
		entries, err := os.ReadDir(root)
		require.NoError(t, err)
		require.LessOrEqual(t, len(entries), 1)
		require.NoError(t, os.RemoveAll(s.root))
	})
}

// FuzzLayer unpacks anything, and what could be unpacked packs to the same twice.
func FuzzLayer(f *testing.F) {
	if os.Geteuid() != 0 {
		f.Skip("needs root")
	}
	f.Add(tarOf(f, file{name: "a/"}, file{name: "a/.wh.b"}, file{name: "a/.wh..wh..opq"}, file{name: "l", header: tarLink("/etc")}, file{name: "l/x", content: "x"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		top := t.TempDir()
		first, second := filepath.Join(top, "1"), filepath.Join(top, "2")
		require.NoError(t, os.Mkdir(first, 0o755))
		require.NoError(t, os.Mkdir(second, 0o755))
		_, err := unpack(t.Context(), bytes.NewReader(archive), first)
		entries, err2 := os.ReadDir(top)
		require.NoError(t, err2)
		require.Len(t, entries, 2)
		if err != nil {
			return
		}
		var packed, again bytes.Buffer
		if _, err := pack(t.Context(), first, &packed); err != nil {
			return // not everything that a file system holds goes into an archive
		}
		_, err = unpack(t.Context(), bytes.NewReader(packed.Bytes()), second)
		require.NoError(t, err)
		_, err = pack(t.Context(), second, &again)
		require.NoError(t, err)
		require.True(t, bytes.Equal(packed.Bytes(), again.Bytes()))
	})
}

func TestLoadOfAnImageWithoutLayers(t *testing.T) {
	s := newStore(t)
	archive := tarOf(t, file{name: "c.json", content: `{"os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":null}}`},
		file{name: "manifest.json", content: `[{"Config":"c.json","RepoTags":["none:1"],"Layers":null}]`})
	_, err := s.Load(t.Context(), bytes.NewReader(archive), nil)
	require.NoError(t, err)
	var saved bytes.Buffer
	require.NoError(t, s.Save(t.Context(), &saved, []string{"none:1"}))
	loaded, err := newStore(t).Load(t.Context(), &saved, nil)
	require.NoError(t, err)
	require.Equal(t, "Loaded image: none:1", loaded[0].String())
	require.Len(t, must(s.List()), 1)
}

// TestLoadOfBareTags loads every image of a layout whose manifests have tags and no names.
func TestLoadOfBareTags(t *testing.T) {
	var files []file
	add := func(content []byte) oci.Descriptor {
		d := oci.Descriptor{Digest: oci.FromBytes(content), Size: int64(len(content))}
		files = append(files, file{name: blobFile(d.Digest), content: string(content)})
		return d
	}
	encode := func(value any) []byte { return must(json.Marshal(value)) }
	var manifests []oci.Descriptor
	for _, tag := range []string{"a", "b", "", "docker.io/library/named:1"} {
		layer := tarOf(t, file{name: "tag", content: tag})
		config := add(encode(oci.Image{RootFS: oci.RootFS{DiffIDs: []oci.Digest{oci.FromBytes(layer)}}}))
		d := add(encode(oci.Manifest{Config: config, Layers: []oci.Descriptor{add(layer)}}))
		if tag != "" {
			d.Annotations = map[string]string{oci.AnnotationRefName: tag}
		}
		manifests = append(manifests, d)
	}
	again := manifests[0]
	again.Annotations = map[string]string{oci.AnnotationRefName: "other"}
	remark := oci.Descriptor{Digest: oci.FromBytes(nil), Platform: &oci.Platform{OS: "unknown", Architecture: "unknown"}}
	files = append(files, file{name: "index.json", content: string(encode(oci.Index{Manifests: append(manifests, again, remark)}))})

	loaded, err := newStore(t).Load(t.Context(), bytes.NewReader(tarOf(t, files...)), nil)
	require.NoError(t, err)
	require.Len(t, loaded, 4)
	for _, image := range loaded[:3] {
		require.Empty(t, image.Names)
	}
	require.Equal(t, []string{"named:1"}, loaded[3].Names)
}

// TestLoadOfAnArchiveOfTar loads archives that people made of an unpacked one: with absolute names,
// and with files whose zeros tar took for holes.
func TestLoadOfAnArchiveOfTar(t *testing.T) {
	needGNUTar(t)
	dir := t.TempDir()
	layer := tarOf(t, file{name: "zeros", content: strings.Repeat("\x00", 1<<20) + "end"})
	config := fmt.Sprintf(`{"os":"linux","rootfs":{"diff_ids":[%q]}}`, oci.FromBytes(layer))
	for name, content := range map[string]string{
		"a/layer.tar": string(layer), "config.json": config,
		"manifest.json": `[{"Config":"config.json","RepoTags":["x:1"],"Layers":["b/layer.tar"]}]`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	require.NoError(t, exec.Command("fallocate", "--dig-holes", filepath.Join(dir, "a/layer.tar")).Run())
	require.NoError(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	require.NoError(t, os.Symlink("/a/layer.tar", filepath.Join(dir, "b/layer.tar")))
	for _, options := range [][]string{
		{"--format=gnu", "--sparse", "--transform=s,^./,/,"},
		{"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"},
		{"--format=posix", "--sparse-version=1.0"},
	} {
		archive, err := exec.Command("tar", append(options, "-P", "-C", dir, "-c", ".")...).Output()
		require.NoError(t, err)
		require.Less(t, len(archive), 1<<20)
		for name, load := range map[string]func(s *Store) ([]Loaded, error){
			"from a pipe": func(s *Store) ([]Loaded, error) { return s.Load(t.Context(), bytes.NewReader(archive), nil) },
			"from a file": func(s *Store) ([]Loaded, error) {
				file := filepath.Join(t.TempDir(), "x.tar")
				require.NoError(t, os.WriteFile(file, archive, 0o600))
				return loadFile(t, s, file)
			},
		} {
			_, err := load(newStore(t))
			require.NoError(t, err, "%s, %s", options, name)
		}
	}
}

// TestLoadOfALegacyArchive loads an archive as docker made it before 1.10, with a command that is a
// string.
func TestLoadOfALegacyArchive(t *testing.T) {
	s := newStore(t)
	bottom, top := tarOf(t, file{name: "bottom"}), tarOf(t, file{name: "top"})
	loaded, err := s.Load(t.Context(), bytes.NewReader(tarOf(t,
		file{name: "aaa/"}, file{name: "aaa/VERSION", content: "1.0"}, file{name: "aaa/layer.tar", content: string(bottom)},
		file{name: "aaa/json", content: `{"id":"aaa","created":"2014-01-02T03:04:05Z","container_config":{"Cmd":["/bin/sh","-c","#(nop) ADD"]},"os":"linux"}`},
		file{name: "bbb/"}, file{name: "bbb/layer.tar", content: string(gzipped(top))},
		file{name: "bbb/json", content: `{"id":"bbb","parent":"aaa","created":"2014-01-02T03:04:06Z","config":{"Cmd":"date","Env":null},"Size":1,"os":"linux"}`},
		file{name: "repositories", content: `{"old":{"1":"bbb","latest":"bbb"},"base":{"1":"aaa"}}`},
	)), nil)
	require.NoError(t, err)
	require.Len(t, loaded, 2)
	image, err := s.Find(t.Context(), "old:1")
	require.NoError(t, err)
	require.Equal(t, []oci.Digest{oci.FromBytes(bottom), oci.FromBytes(top)}, image.Config.RootFS.DiffIDs)
	require.Equal(t, oci.CommandLine{"date"}, image.Config.Config.Cmd)
	require.Equal(t, "/bin/sh -c #(nop) ADD", image.Config.History[0].CreatedBy)
	require.NotContains(t, string(image.Raw), "parent")

	_, err = s.Load(t.Context(), bytes.NewReader(tarOf(t, file{name: "aaa/json", content: `{"parent":"aaa"}`},
		file{name: "repositories", content: `{"x":{"1":"aaa"}}`})), nil)
	require.EqualError(t, err, "reading image aaa: it has too many layers")
}
