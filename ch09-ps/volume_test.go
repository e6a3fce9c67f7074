//go:build linux

package main

import (
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseVolumes(t *testing.T) {
	volumes, err := parseVolumes([]string{"/b:/a/b:ro", "/a/../c/:/a//", "/x\xff:/a b,c\xff:rw"})
	require.NoError(t, err)
	assert.Equal(t, []volume{
		{Source: "/c", Target: "/a"},
		{Source: "/x\xff", Target: "/a b,c\xff"},
		{Source: "/b", Target: "/a/b", ReadOnly: true},
	}, volumes, "what is mounted in another comes after it")

	for spec, want := range map[string]string{
		"":         "invalid spec: : empty section between colons",
		":":        "invalid spec: :: empty section between colons",
		"/a":       "invalid spec: /a: SRC:DST or SRC:DST:ro is wanted",
		"/a:/b:":   "invalid spec: /a:/b:: empty section between colons",
		"/a:/b:RO": "invalid mode: RO",
		"a:/b":     "invalid spec: a:/b: the host's path must be absolute, or start with ./",
		"/a:b":     "invalid mount path: 'b' mount path must be absolute",
		"/a:/.":    "invalid spec: /a:/.: destination can't be '/'",
	} {
		_, err := parseVolumes([]string{spec})
		assert.EqualError(t, err, want)
	}
	_, err = parseVolumes([]string{"/a:/x", "/b:/y/../x"})
	assert.EqualError(t, err, "duplicate mount point: /x")
}

func FuzzParseVolume(f *testing.F) {
	for _, spec := range []string{"/a:/b", "/a:/b:ro", "a:b", ":::", "/a:/../..:rw", ""} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		v, err := parseVolume(spec)
		if err != nil {
			return
		}
		for _, p := range []string{v.Source, v.Target} {
			if !path.IsAbs(p) || p != path.Clean(p) {
				t.Errorf("%q gives %q", spec, p)
			}
		}
		if v.Target == "/" {
			t.Errorf("%q is mounted on /", spec)
		}
	})
}
