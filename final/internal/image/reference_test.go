package image

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lixd/mydocker/final/internal/oci"
)

func TestParseReference(t *testing.T) {
	id := oci.DigestPrefix + strings.Repeat("ab", 32)
	for in, want := range map[string]reference{
		"busybox":                         {"busybox", "latest", ""},
		"busybox:1.36":                    {"busybox", "1.36", ""},
		"docker.io/busybox":               {"busybox", "latest", ""},
		"docker.io/library/busybox:x":     {"busybox", "x", ""},
		"index.docker.io/library/busybox": {"busybox", "latest", ""},
		"user/image":                      {"user/image", "latest", ""},
		"docker.io/user/image":            {"user/image", "latest", ""},
		"library/a/b":                     {"library/a/b", "latest", ""},
		"host:5000/a/b:c":                 {"host:5000/a/b", "c", ""},
		"localhost/a":                     {"localhost/a", "latest", ""},
		"Host/a":                          {"Host/a", "latest", ""},
		"ghcr.io/a-b/c__d.e--f:V1.0-rc_1": {"ghcr.io/a-b/c__d.e--f", "V1.0-rc_1", ""},
		"busybox@" + id:                   {"busybox", "", id},
		"host:5000/busybox:1@" + id:       {"host:5000/busybox", "1", id},
		strings.Repeat("a", 255-len(":tag1")) + ":tag1": {strings.Repeat("a", 250), "tag1", ""},
	} {
		got, err := parseReference(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{
		"", ":", "a:", ":a", "a/", "/a", "a//b", "../a", "a/../b", "A", "a/B", "a:b:c", "a:b/c:d:", "a b", "a\n", "-a", "a-", "a..b", "a___b", "a._b",
		"a:-x", "a:.x", "a:" + strings.Repeat("t", 129), "a@x", "a@sha256:12", "a@" + strings.ToUpper(id), "host:x/a", "-h.x/a", "ü", "a%b", "a\x00",
		strings.Repeat("a", 256),
	} {
		_, err := parseReference(in)
		require.ErrorContains(t, err, "invalid reference format", "%q", in)
	}
	require.Equal(t, "docker.io/library/a:b", reference{repository: "a", tag: "b"}.full())
	require.Equal(t, "docker.io/a/b:c", reference{repository: "a/b", tag: "c"}.full())
	require.Equal(t, "h:1/b:c", reference{repository: "h:1/b", tag: "c"}.full())
}

// FuzzParseReference holds that what is accepted is a name of one file, and stays the same when
// it is taken apart again.
func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{"busybox", "docker.io/library/a:b", "host:5000/a/b:c", "localhost/a__b", "index.docker.io/x", "a@" + oci.DigestPrefix + strings.Repeat("0", 64)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseReference(s)
		if err != nil {
			return
		}
		file := strings.ReplaceAll(r.name(), "/", "%")
		require.NotContains(t, file, "\x00")
		require.NotContains(t, []string{".", ".."}, file)
		require.LessOrEqual(t, len(file), 255)
		require.False(t, strings.HasPrefix(file, "."))
		require.NotContains(t, r.name(), "%")
		if r.digest != "" {
			return
		}
		for _, name := range []string{r.name(), r.full()} {
			again, err := parseReference(name)
			require.NoError(t, err, name)
			require.Equal(t, r, again)
		}
	})
}
