//go:build linux

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// client gets what the container writes: a process that is attached, or this one. A client that is
// slower than the container has a queue. When the queue is full, the client gets what follows from
// the log. So no client holds up the container, and a slow one misses nothing.
type client struct {
	write  func(kind byte, data []byte) error
	close  func() error
	isSelf bool

	// Streams.mu guards what follows.
	changed *sync.Cond // there is something to write, or the client is gone
	queue   []frame
	queued  int  // bytes
	moved   bool // it has taken something since isMoving looked
	gone    bool

	behind bool            // what follows the queue is in the log
	offset int64           // there, when behind
	skip   [stderr + 1]int // bytes of each stream after offset that the client has already
}

type frame struct {
	kind byte
	data []byte
}

// maxQueue is how many bytes may wait for a client.
const maxQueue = 1 << 20

// serve adds a client, and writes to it until it has all, or is gone.
func (s *Streams) serve(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.changed = sync.NewCond(&s.mu)
	s.clients[c] = true
	s.serving.Go(func() {
		var err error
		for err == nil {
			err = s.writeNext(c)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.isSelf && !errors.Is(err, io.EOF) {
			s.err = err
		}
		delete(s.clients, c)
		_ = c.close() // the client is gone, or has all
	})
}

// leave ends a client that is gone.
func (s *Streams) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gone = true
	c.changed.Signal()
	_ = c.close() // so that a write ends, too
}

// put queues what the container has written to a stream. The caller holds the lock, and has not
// written it to the log yet.
func (s *Streams) put(c *client, stream byte, data []byte) {
	if c.behind || len(data) == 0 {
		return
	}
	if c.queued+len(data) > maxQueue {
		c.behind, c.offset = true, s.log.size
		for i := range s.pending {
			c.skip[i] = len(s.pending[i])
		}
		return
	}
	last := len(c.queue) - 1
	if last >= 0 && c.queue[last].kind == stream && len(c.queue[last].data) < maxText {
		c.queue[last].data = append(c.queue[last].data, data...)
	} else {
		c.queue = append(c.queue, frame{stream, bytes.Clone(data)})
	}
	c.queued += len(data)
	c.changed.Signal()
}

// writeNext waits until there is something for the client, and writes it. After the exit status
// it returns io.EOF.
func (s *Streams) writeNext(c *client) error {
	s.mu.Lock()
	for len(c.queue) == 0 && !c.behind && !s.ended && !c.gone {
		c.changed.Wait()
	}
	frames, behind, size, gone, status := c.queue, c.behind, s.log.size, c.gone, s.status
	c.queue, c.queued = nil, 0
	if len(frames) == 0 && behind && c.offset >= size {
		s.catchUp(c)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	switch {
	case gone:
		return io.EOF
	case len(frames) > 0:
		return s.writeAll(c, frames)
	case behind:
		return s.writeFromLog(c, size)
	}
	_ = c.write(ended, []byte{byte(status)})
	return io.EOF
}

func (s *Streams) writeAll(c *client, frames []frame) error {
	for _, frame := range frames {
		if err := c.write(frame.kind, frame.data); err != nil {
			return err
		}
		s.mu.Lock()
		c.moved = true
		s.mu.Unlock()
	}
	return nil
}

// catchUp ends the client's way through the log, at whose end it is. The lines that have begun are
// not in the log.
func (s *Streams) catchUp(c *client) {
	c.behind = false
	for stream, line := range s.pending {
		line = line[min(c.skip[stream], len(line)):]
		c.skip[stream] = 0
		s.put(c, byte(stream), line)
	}
}

// writeFromLog writes a part of the log from the client's offset on.
func (s *Streams) writeFromLog(c *client, size int64) error {
	block := make([]byte, min(8*maxText, size-c.offset)) // large enough for any entry
	n, err := s.log.file.ReadAt(block, c.offset)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	var frames []frame
	whole := bytes.LastIndexByte(block[:n], '\n') + 1
	for line := range bytes.Lines(block[:whole]) {
		entry, err := parseEntry(line)
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
		stream := slices.Index(streamNames[:], entry.stream)
		skipped := min(c.skip[stream], len(entry.text))
		c.skip[stream] -= skipped
		if last := len(frames) - 1; last >= 0 && frames[last].kind == byte(stream) {
			frames[last].data = append(frames[last].data, entry.text[skipped:]...)
		} else {
			frames = append(frames, frame{byte(stream), bytes.Clone(entry.text[skipped:])})
		}
	}
	c.offset += int64(whole)
	return s.writeAll(c, frames)
}
