// Package instance tells the state directories of a host apart. What mydocker makes in the kernel
// has a name that comes from the state directory, so that two of them share nothing.
package instance

import (
	"crypto/sha256"
	"encoding/hex"
)

// DefaultRoot is the state directory unless MYDOCKER_ROOT says another one.
const DefaultRoot = "/var/lib/mydocker"

// Name returns mydocker for the default state directory, and for another one, an absolute path,
// a name such as mydocker-12345.
func Name(root string) string {
	if root == DefaultRoot {
		return "mydocker"
	}
	sum := sha256.Sum256([]byte(root))
	return "mydocker-" + hex.EncodeToString(sum[:])[:5]
}
