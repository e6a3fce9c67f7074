//go:build linux

package main

import (
	"embed"
	"io/fs"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// source goes with the test to where there is none, as in a VM.
//
//go:embed internal/*/*.go testdata/crash*.txtar
var source embed.FS

// TestFaults makes sure that there is a kill at every point at which a test can have one.
func TestFaults(t *testing.T) {
	scripts := read(t, "testdata/crash*.txtar")
	points := regexp.MustCompile(`fault\.Point\("(.*)"\)`).FindAllSubmatch(read(t, "internal/*/*.go"), -1)
	require.NotEmpty(t, points)
	for _, point := range points {
		require.Regexp(t, `\b`+string(point[1])+`\b`, string(scripts))
	}
}

// read returns all files that a pattern matches, one behind the other.
func read(t *testing.T, pattern string) (all []byte) {
	t.Helper()
	names, err := fs.Glob(source, pattern)
	require.NoError(t, err)
	for _, name := range names {
		content, err := source.ReadFile(name)
		require.NoError(t, err)
		all = append(all, content...)
	}
	return all
}
