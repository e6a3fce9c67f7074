//go:build linux

package main

import (
	"testing"

	"github.com/lixd/mydocker/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m, main) }

func TestScripts(t *testing.T) { testkit.Scripts(t) }
