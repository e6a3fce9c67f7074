//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logFile is the log of a container in the background: what it writes, an entry a line.
type logFile struct {
	file    *os.File
	streams []*logStream
	copying sync.WaitGroup

	mu      sync.Mutex // for what follows, as two streams write
	size    int64      // of the entries in the file, which are whole
	lost    int64      // bytes of entries that could not be written
	lostFor error      // and why
}

// logStream is stdout or stderr on its way into the log.
type logStream struct {
	name         string
	ours, theirs *os.File // the ends of the pipe: we read what they write
	entries      []byte   // what is about to be written to the log
}

// logPath is where the log of a container is.
func logPath(id string) string {
	return filepath.Join(containersDir(), id, "log.json")
}

// keepOutput has what a container in the background writes put into its log. In the
// foreground it is the caller's, and nothing is kept.
func keepOutput(opts runOptions, id string, init *exec.Cmd) (*logFile, error) {
	if !opts.detach {
		return nil, nil
	}
	file, err := os.OpenFile(logPath(id), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the log: %w", err)
	}
	log := &logFile{file: file}
	stdout, err := log.newStream("stdout")
	if err != nil {
		return nil, err
	}
	stderr, err := log.newStream("stderr")
	if err != nil {
		return nil, err
	}
	init.Stdout, init.Stderr = stdout.theirs, stderr.theirs
	return log, nil
}

// pipeSize is how much the container may write before it has to wait for us, if we may have as
// much: enough not to, as long as we are no slower on the average.
const pipeSize = 1 << 20

func (l *logFile) newStream(name string) (*logStream, error) {
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the pipe for %s: %w", name, err)
	}
	_, _ = unix.FcntlInt(theirs.Fd(), unix.F_SETPIPE_SZ, pipeSize) // if we may not, it has the usual 64 KB
	stream := &logStream{name: name, ours: ours, theirs: theirs}
	l.streams = append(l.streams, stream)
	l.copying.Go(func() { l.copy(stream) })
	return stream, nil
}

// finish completes the log when the container has ended. If output was lost, that is added
// to the container's end.
func (l *logFile) finish(end error) error {
	if l == nil {
		return end
	}
	for _, stream := range l.streams {
		stream.theirs.Close() // the last one, as the container's are closed: so there is an end
	}
	l.copying.Wait()
	err := l.file.Close()
	if l.lost > 0 {
		err = fmt.Errorf("%d bytes of the log were lost: %w", l.lost, l.lostFor)
	}
	if err == nil {
		return end
	}
	var exit exitError
	errors.As(end, &exit)
	exit.err = errors.Join(exit.err, err)
	return exit
}

// maxText is how many bytes of a line an entry holds. A longer line has several entries.
const maxText = 32 << 10

// copy writes to the log what comes through a pipe. What is there at one time is written at
// once: a lone line is not kept back, and a flood of them costs few writes. Whatever becomes of
// the log, the reading goes on: the container must not have to wait, nor be killed by SIGPIPE.
func (l *logFile) copy(stream *logStream) {
	text := make([]byte, maxText)
	begun := 0 // bytes of a line whose end is still to come
	for {
		n, err := stream.ours.Read(text[begun:])
		rest := stream.addLines(text[:begun+n], err != nil)
		l.write(stream)
		begun = copy(text, rest)
		if err != nil {
			return
		}
	}
}

// addLines makes entries of lines, and returns the beginning of one that may go on.
func (s *logStream) addLines(text []byte, ended bool) (rest []byte) {
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
		s.entries = appendEntry(s.entries, logEntry{text[:length], s.name, now, partial})
		text = text[length:]
	}
	return text
}

// write adds a stream's entries to the log, or on a full disk those that fit: half an entry
// would spoil the next one, and a whole one may have been read already.
func (l *logFile) write(stream *logStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.Write(stream.entries)
	if err != nil {
		n = bytes.LastIndexByte(stream.entries[:n], '\n') + 1
		l.lost += int64(len(stream.entries) - n)
		l.lostFor = errors.Join(err, l.file.Truncate(l.size+int64(n)))
	}
	l.size += int64(n)
	stream.entries = stream.entries[:0]
}
