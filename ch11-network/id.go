//go:build linux

package main

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// shortIDLen is how many digits of an ID people get to see.
const shortIDLen = 12

// newID returns a container's ID: 32 random bytes as 64 hexadecimal digits. Cut short it is
// the hostname too, so the short form is never a number: some programs take such a name for
// an address.
func newID() string {
	for {
		bytes := make([]byte, 32)
		rand.Read(bytes) // never fails, see crypto/rand
		id := hex.EncodeToString(bytes)
		if strings.ContainsAny(shortID(id), "abcdef") {
			return id
		}
	}
}

func shortID(id string) string {
	return id[:min(shortIDLen, len(id))]
}
