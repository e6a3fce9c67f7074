//go:build linux

package main

import (
	"testing"

	"github.com/lixd/mydocker/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, main) }

// TestScripts leaves out those of the chapters' scripts that look for a chapter's own words,
// statuses or files, where this program has docker's.
func TestScripts(t *testing.T) {
	testkit.Scripts(t,
	)
}
