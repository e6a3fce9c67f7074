//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUnchangedMappings(t *testing.T) {
	unchanged := unchangedMappings(strings.NewReader(`00400000-0063e000 r-xp 00000000 fe:00 9978018      /bin/my: docker
Rss:                1088 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
008db000-00900000 rw-p 004db000 fe:00 9978018                            /bin/mydocker
Anonymous:             0 kB
7f68dc6af000-7f68dc73f000 r--p 00000000 fe:00 42                         /lib/libc.so.6
Anonymous:            16 kB
7f68dc73f000-7f68dc743000 r--p 00000000 00:00 0
Anonymous:             0 kB
VmFlags: rd mr mw me
`))
	assert.Equal(t, []mapping{{0x400000, 0x63e000}}, unchanged)
}
