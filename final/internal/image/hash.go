//go:build linux

package image

import (
	"crypto/sha256"
	"hash"

	"github.com/lixd/mydocker/final/internal/oci"
)

// hasher computes the digest of what is written to it, on a goroutine of its own: hashing takes
// as long as copying does, and the two go side by side.
type hasher struct {
	hash    hash.Hash
	written int64
	buffer  []byte
	full    chan []byte
	empty   chan []byte
	done    chan struct{}
}

const (
	hashBuffers    = 4
	hashBufferSize = 256 << 10
)

// newHasher starts a hasher, which sum ends.
func newHasher() *hasher {
	h := &hasher{
		hash:  sha256.New(),
		full:  make(chan []byte, hashBuffers),
		empty: make(chan []byte, hashBuffers),
		done:  make(chan struct{}),
	}
	h.buffer = make([]byte, 0, hashBufferSize)
	for range hashBuffers - 1 {
		h.empty <- make([]byte, 0, hashBufferSize)
	}
	go func() {
		defer close(h.done)
		for buffer := range h.full {
			h.hash.Write(buffer) // never fails, see hash.Hash
			h.empty <- buffer[:0]
		}
	}()
	return h
}

func (h *hasher) Write(p []byte) (int, error) {
	h.written += int64(len(p))
	for rest := p; len(rest) > 0; {
		n := min(len(rest), cap(h.buffer)-len(h.buffer))
		h.buffer = append(h.buffer, rest[:n]...)
		rest = rest[n:]
		if len(h.buffer) == cap(h.buffer) {
			h.full <- h.buffer
			h.buffer = <-h.empty
		}
	}
	return len(p), nil
}

// sum returns the digest of all that was written, and how much that was.
func (h *hasher) sum() (oci.Digest, int64) {
	h.full <- h.buffer
	close(h.full)
	<-h.done
	return oci.NewDigest(h.hash.Sum(nil)), h.written
}
