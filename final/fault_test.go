//go:build linux

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFaults makes sure that there is a kill at every point at which a test can have one.
func TestFaults(t *testing.T) {
	var scripts []byte
	for _, name := range []string{"crash.txtar", "crash-stores.txtar"} {
		script, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		scripts = append(scripts, script...)
	}
	files, err := filepath.Glob("internal/*/*.go")
	require.NoError(t, err)
	point := regexp.MustCompile(`fault\.Point\("(.*)"\)`)
	points := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range point.FindAllSubmatch(source, -1) {
			require.Regexp(t, `\b`+string(match[1])+`\b`, string(scripts), file)
			points++
		}
	}
	require.NotZero(t, points)
}
