package image

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/lixd/mydocker/final/internal/oci"
)

// Progress is told how far the unpacking of a layer has come, in bytes of the archive.
type Progress func(layer oci.Digest, done, total int64)

const (
	barWidth    = 50 // columns
	barInterval = 100 * time.Millisecond
)

// NewBar returns a progress that draws a bar for each layer on a terminal, as docker does.
func NewBar(terminal io.Writer) Progress {
	var drawn time.Time
	return func(layer oci.Digest, done, total int64) {
		if done < total && time.Since(drawn) < barInterval {
			return
		}
		drawn = time.Now()
		bar := strings.Repeat("=", int(barWidth*done/max(total, 1)))
		end := ""
		if done == total {
			end = "\n"
		}
		// \033[K clears the rest of the line. That nobody sees it is no reason to stop.
		fmt.Fprintf(terminal, "\r%s: Loading layer [%-*s]  %s/%s\033[K%s", layer.Encoded()[:12], barWidth+1, bar+">",
			units.HumanSizeWithPrecision(float64(done), 4), units.HumanSizeWithPrecision(float64(total), 4), end)
	}
}

// progressReader tells a progress how much was read.
type progressReader struct {
	io.Reader
	layer       oci.Digest
	done, total int64
	progress    Progress // or nil
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.done += int64(n)
	if r.progress != nil && n > 0 {
		r.progress(r.layer, r.done, r.total)
	}
	return n, err
}
