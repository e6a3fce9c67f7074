//go:build linux

package shim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// LogOptions is which part of a log to print, and how.
type LogOptions struct {
	Follow     bool   // until nobody writes to it any more
	Timestamps bool   // with the time of each line
	Tail       string // how many of the last lines; what is no number means all, as in docker
	Since      string // as ParseTime returns it
	Until      string // likewise, or ""
}

// PrintLog prints the log at path to stdout and stderr. Dir is the directory that is locked as
// long as the log is written to.
func PrintLog(path, dir string, opts LogOptions) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	defer file.Close()
	reader := newLogReader(file, opts)
	if n, err := strconv.Atoi(opts.Tail); err == nil && n >= 0 {
		if err := reader.skipTo(n); err != nil {
			return err
		}
	}
	if opts.Follow {
		err = reader.follow(dir)
	} else {
		err = reader.print()
	}
	if reader.damaged > 0 {
		err = errors.Join(err, fmt.Errorf("%d entries of the log are damaged, the first one because of %w", reader.damaged, reader.why))
	}
	return err
}

// ParseTime returns a time as the log has it, and as they can be compared: it is given as a time, in
// seconds since 1970, or as how long ago it was. Without any it is "", which is before all times. The
// error is what was given: for what, the caller knows.
func ParseTime(since string, now time.Time) (string, error) {
	if since == "" {
		return "", nil
	}
	if ago, err := time.ParseDuration(since); err == nil && since != "0" { // which is a time, as other numbers are
		return logTime(now.Add(-ago)), nil
	}
	if sinceEpoch, err := time.ParseDuration(since + "s"); err == nil {
		return logTime(time.Unix(0, 0).Add(sinceEpoch)), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, since, time.Local); err == nil {
			return logTime(t), nil
		}
	}
	return "", fmt.Errorf("%q", since)
}

// logReader prints a log.
type logReader struct {
	file   *os.File
	offset int64  // of what is printed next
	block  []byte // of the file, and large enough for any entry
	opts   LogOptions

	out     *bufio.Writer
	stream  string          // that out writes to
	midLine map[string]bool // the streams whose line goes on
	damaged int             // entries
	why     error           // the first of them is
}

func newLogReader(file *os.File, opts LogOptions) *logReader {
	return &logReader{
		file:    file,
		block:   make([]byte, 8*maxText),
		opts:    opts,
		out:     bufio.NewWriterSize(os.Stdout, 64<<10),
		stream:  "stdout",
		midLine: map[string]bool{},
	}
}

// skipTo goes to the last n lines.
func (r *logReader) skipTo(n int) error {
	info, err := r.file.Stat()
	if err == nil {
		r.offset, err = tailOffset(r.file, info.Size(), n)
	}
	if err != nil {
		return fmt.Errorf("looking for the last lines: %w", err)
	}
	return nil
}

// follow prints the log until the container ends.
func (r *logReader) follow(dir string) error {
	changed, err := watch(r.file.Name())
	if err != nil {
		return fmt.Errorf("watching the log: %w", err)
	}
	ended := unlocked(dir)
	for {
		if err := r.print(); err != nil {
			return err
		}
		select {
		case <-changed:
		case err := <-ended:
			return errors.Join(err, r.print())
		}
	}
}

// print prints the log from the offset on. What is no whole entry yet is left for the next time.
func (r *logReader) print() error {
	for {
		n, err := r.file.ReadAt(r.block, r.offset)
		whole := bytes.LastIndexByte(r.block[:n], '\n') + 1
		for line := range bytes.Lines(r.block[:whole]) {
			if err := r.printEntry(line); err != nil {
				return fmt.Errorf("printing the log: %w", err)
			}
		}
		if n == len(r.block) && whole == 0 {
			r.skipDamaged(fmt.Errorf("no entry ends within %d bytes of byte %d", n, r.offset))
			whole = n
		}
		r.offset += int64(whole)
		if errors.Is(err, io.EOF) {
			return r.out.Flush()
		}
		if err != nil {
			return fmt.Errorf("reading the log: %w", err)
		}
	}
}

func (r *logReader) printEntry(line []byte) error {
	entry, err := parseEntry(line)
	if err != nil {
		r.skipDamaged(err)
		return nil
	}
	continued := r.midLine[entry.stream]
	r.midLine[entry.stream] = entry.partial
	if entry.time < r.opts.Since || r.opts.Until != "" && entry.time > r.opts.Until {
		return nil
	}
	if err := r.switchTo(entry.stream); err != nil {
		return err
	}
	if r.opts.Timestamps && !continued {
		_, _ = r.out.WriteString(entry.time + " ") // the next Write has the same error
	}
	_, err = r.out.Write(entry.text)
	return err
}

func (r *logReader) skipDamaged(why error) {
	if r.damaged++; r.damaged == 1 {
		r.why = why
	}
}

// switchTo has the output go to where the container's went.
func (r *logReader) switchTo(stream string) error {
	if stream == r.stream {
		return nil
	}
	if err := r.out.Flush(); err != nil {
		return err
	}
	r.stream = stream
	if stream == "stderr" {
		r.out.Reset(os.Stderr)
	} else {
		r.out.Reset(os.Stdout)
	}
	return nil
}

// watch returns a channel that tells when a file was written to. See inotify(7).
func watch(path string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		unix.Close(fd)
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	changed := make(chan struct{}, 1)
	go func() {
		buffer := make([]byte, 4096)
		for {
			if _, err := events.Read(buffer); err != nil {
				return
			}
			select {
			case changed <- struct{}{}:
			default: // somebody has yet to look since the last time
			}
		}
	}()
	return changed, nil
}

// unlocked returns a channel that tells when nobody holds the lock on a directory any more:
// see flock(2). So the end of a killed shim is noticed as that of any other.
func unlocked(dir string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		file, err := os.Open(dir)
		if err == nil {
			err = unix.Flock(int(file.Fd()), unix.LOCK_SH)
			file.Close()
		}
		ended <- err
	}()
	return ended
}
