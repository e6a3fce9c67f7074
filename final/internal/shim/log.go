//go:build linux

package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Log is what a container writes, an entry a line.
type Log struct {
	file *os.File

	mu      sync.Mutex // for what follows, as two streams write
	size    int64      // of the entries in the file, which are whole
	lost    int64      // bytes of entries that could not be written
	lostFor error      // and why
}

// OpenLog opens a log to go on where it ends, or makes one.
func OpenLog(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return &Log{file: file, size: info.Size()}, nil
}

// loss returns an error if some of the log was lost.
func (l *Log) loss() error {
	if l.lost > 0 {
		return fmt.Errorf("%d bytes of the log were lost: %w", l.lost, l.lostFor)
	}
	return nil
}

// maxText is how many bytes of a line an entry holds. A longer line has several entries.
const maxText = 32 << 10

// addLines makes entries of lines, and returns the beginning of one that may go on.
func addLines(entries, text []byte, stream string, ended bool) (_, rest []byte) {
	now := logTime(time.Now())
	for len(text) > 0 {
		length := bytes.IndexByte(text, '\n') + 1
		partial := length == 0 && !ended
		if partial && len(text) < maxText {
			break
		}
		if length == 0 {
			length = len(text)
		}
		entries = appendEntry(entries, logEntry{text[:length], stream, now, partial})
		text = text[length:]
	}
	return entries, text
}

// write adds entries to the log, or on a full disk those that fit: half an entry would spoil
// the next one, and a whole one may have been read already.
func (l *Log) write(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(entries)
	if err != nil {
		n = bytes.LastIndexByte(entries[:n], '\n') + 1
		l.lost += int64(len(entries) - n)
		l.lostFor = errors.Join(err, l.file.Truncate(l.size+int64(n)))
	}
	l.size += int64(n)
}
