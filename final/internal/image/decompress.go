//go:build linux

package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
)

// decompressors are the ways to read what begins like this. For zstd and xz there are the programs of
// these names: as packages they would cost every command, as each one is set up at every start. That
// of zstd takes a 25th of a container's, and those of gzip and bzip2 a 100th of a millisecond.
var decompressors = map[string]func(ctx context.Context, r *bufio.Reader) (io.ReadCloser, error){
	"\x1f\x8b": func(_ context.Context, r *bufio.Reader) (io.ReadCloser, error) { return newGzipReader(r) },
	"BZh": func(_ context.Context, r *bufio.Reader) (io.ReadCloser, error) {
		return io.NopCloser(bzip2.NewReader(r)), nil
	},
	"\x28\xb5\x2f\xfd": func(ctx context.Context, r *bufio.Reader) (io.ReadCloser, error) {
		return startDecompressor(ctx, "zstd", r)
	},
	"\xfd7zXZ\x00": func(ctx context.Context, r *bufio.Reader) (io.ReadCloser, error) {
		return startDecompressor(ctx, "xz", r)
	},
}

// magicSize is how many bytes tell them apart.
const magicSize = 6

// isCompressed reports whether a stream that begins like this is compressed.
func isCompressed(magic []byte) bool {
	for prefix := range decompressors {
		if bytes.HasPrefix(magic, []byte(prefix)) {
			return true
		}
	}
	return false
}

// decompress returns what a stream is when it is not compressed.
func decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(contextReader{ctx, r}, 256<<10)
	magic, err := buffered.Peek(magicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for prefix, open := range decompressors {
		if bytes.HasPrefix(magic, []byte(prefix)) {
			return open(ctx, buffered)
		}
	}
	return io.NopCloser(buffered), nil
}

// gzipReader reads the members of a gzip stream and ignores zeros after them, as gzip does. Archives
// that went through a tape, a block device or dd are padded so to whole blocks.
type gzipReader struct {
	*gzip.Reader
	compressed *bufio.Reader
}

func newGzipReader(r *bufio.Reader) (io.ReadCloser, error) {
	member, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	member.Multistream(false)
	return gzipReader{member, r}, nil
}

func (g gzipReader) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	for {
		next, err := g.compressed.ReadByte()
		if err != nil {
			return n, err
		}
		if next == 0 {
			continue
		}
		if err := g.compressed.UnreadByte(); err != nil {
			return n, err
		}
		if err := g.Reset(g.compressed); err != nil {
			return n, err
		}
		g.Multistream(false)
		return n, nil
	}
}

// decompressor is what a program makes of a stream, until it is closed.
type decompressor struct {
	cmd    *exec.Cmd
	stdout io.Reader
	stderr bytes.Buffer
	ctx    context.Context         //nolint:containedctx // with which the program ends
	fail   context.CancelCauseFunc // and why
	fed    chan struct{}           // is closed when the program has been given all
	end    error                   // io.EOF, or what is wrong; nil as long as there is more to come
}

func startDecompressor(ctx context.Context, program string, compressed io.Reader) (io.ReadCloser, error) {
	d := &decompressor{fed: make(chan struct{})}
	d.ctx, d.fail = context.WithCancelCause(ctx)
	d.cmd = exec.CommandContext(d.ctx, program, "-dc")
	d.cmd.Stderr = &d.stderr
	stdin, err := d.cmd.StdinPipe()
	if err == nil {
		d.stdout, err = d.cmd.StdoutPipe()
	}
	if err == nil {
		err = d.cmd.Start()
	}
	if err != nil {
		d.fail(err)
		return nil, fmt.Errorf("decompressing it: %w", err)
	}
	go func() { // on our own: Wait would wait for a stream that has stopped, too
		_, _ = io.Copy(stdin, failingReader{compressed, d.fail}) // what the program does not want, it does not need
		stdin.Close()
		close(d.fed)
	}()
	return d, nil
}

func (d *decompressor) Read(p []byte) (n int, err error) {
	if d.end == nil {
		if n, err = d.stdout.Read(p); err == nil {
			return n, nil
		}
		d.end = d.wait(err)
	}
	return n, d.end
}

// wait returns how a stream has ended: well only if the program says so.
func (d *decompressor) wait(end error) error {
	err := d.cmd.Wait()
	if failure := context.Cause(d.ctx); failure != nil {
		return failure
	}
	d.fail(end)
	if err != nil {
		complaint, _, _ := strings.Cut(strings.TrimSpace(d.stderr.String()), "\n")
		return fmt.Errorf("decompressing it with %s: %w: %s", d.cmd.Args[0], err, complaint)
	}
	<-d.fed // who checks what was compressed has seen all of it then
	return end
}

// Close ends the program, if it goes on.
func (d *decompressor) Close() error {
	if d.end == nil {
		d.fail(fs.ErrClosed)
		d.end = d.wait(fs.ErrClosed)
	}
	return nil
}

// failingReader tells why a reader has failed.
type failingReader struct {
	io.Reader
	fail context.CancelCauseFunc
}

func (f failingReader) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.fail(err)
	}
	return n, err
}
