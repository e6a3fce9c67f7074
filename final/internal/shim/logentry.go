//go:build linux

package shim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// logEntry is a line of output, or a part of one.
type logEntry struct {
	text    []byte // with the newline, if it has one
	stream  string // stdout or stderr
	time    string // see logTime
	partial bool   // the line goes on in the stream's next entry
}

// logTime puts a time in such a way that the order of texts is that of times: in RFC 3339,
// in UTC, always with nine digits behind the point.
func logTime(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// partialMark is how an entry ends whose line goes on.
const partialMark = `,"partial":true}`

// appendEntry puts an entry into JSON, as a line like those of docker's json-file driver:
//
//	{"log":"text\n","stream":"stdout","time":"2026-11-23T19:26:53.123456789Z"}
//
// Text that is not UTF-8, which JSON cannot hold, is in base64 under another key.
func appendEntry(buf []byte, e logEntry) []byte {
	if utf8.Valid(e.text) {
		buf = append(buf, `{"log":"`...)
		buf = appendEscaped(buf, e.text)
	} else {
		buf = append(buf, `{"base64":"`...)
		buf = base64.StdEncoding.AppendEncode(buf, e.text)
	}
	buf = append(buf, `","stream":"`...)
	buf = append(buf, e.stream...)
	buf = append(buf, `","time":"`...)
	buf = append(buf, e.time...)
	if e.partial {
		return append(buf, `"`+partialMark+"\n"...)
	}
	return append(buf, "\"}\n"...)
}

// appendEscaped does what encoding/json does for a string, in a third of the time: most of
// the time that a shim uses goes into it.
func appendEscaped(buf, text []byte) []byte {
	start := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		buf = append(buf, text[start:i]...)
		start = i + 1
		switch c {
		case '\n':
			buf = append(buf, `\n`...)
		case '"', '\\':
			buf = append(buf, '\\', c)
		default:
			buf = fmt.Appendf(buf, `\u%04x`, c)
		}
	}
	return append(buf, text[start:]...)
}

// parseEntry is the reverse of appendEntry. The entry's text lies in the line.
func parseEntry(line []byte) (logEntry, error) {
	if entry, ok := parsePlain(line); ok {
		return entry, nil
	}
	var parsed struct {
		Log     string `json:"log"`
		Base64  []byte `json:"base64"`
		Stream  string `json:"stream"`
		Time    string `json:"time"`
		Partial bool   `json:"partial"`
	}
	if err := json.Unmarshal(line, &parsed); err != nil {
		return logEntry{}, err
	}
	if parsed.Base64 == nil {
		parsed.Base64 = []byte(parsed.Log)
	}
	return logEntry{parsed.Base64, parsed.Stream, parsed.Time, parsed.Partial}, nil
}

// parsePlain parses an entry, as most are, where nothing is escaped but the newline at the
// end of the text: with encoding/json it takes ten times as long.
func parsePlain(line []byte) (e logEntry, ok bool) {
	text, isLog := bytes.CutPrefix(line, []byte(`{"log":"`))
	newline := bytes.IndexByte(text, '\\')
	if !isLog || newline < 0 {
		return e, false
	}
	rest, atEnd := bytes.CutPrefix(text[newline:], []byte(`\n","stream":"`))
	stream, rest, hasTime := bytes.Cut(rest, []byte(`","time":"`))
	time, rest, ends := bytes.Cut(rest, []byte(`"}`))
	if !atEnd || !hasTime || !ends || len(bytes.TrimSpace(rest)) > 0 {
		return e, false
	}
	text[newline] = '\n'
	return logEntry{text[:newline+1], string(stream), string(time), false}, true
}

// tailOffset returns where the last n lines of a log begin. It reads the log from its end, so
// it costs what these lines do. The last entry ends a line, whole or not.
func tailOffset(file io.ReaderAt, size int64, n int) (int64, error) {
	if n == 0 {
		return size, nil
	}
	block := make([]byte, 64<<10)
	lines := 0
	for end := size; end > 0; {
		start := max(0, end-int64(len(block)))
		part := block[:end-start]
		if _, err := file.ReadAt(part, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		newline := bytes.LastIndexByte(part, '\n')
		// A mark that begins in front of this block is seen whole in the next one.
		for newline >= len(partialMark) || newline >= 0 && start == 0 {
			part = part[:newline]
			if lines == 0 || !bytes.HasSuffix(part, []byte(partialMark)) {
				lines++
			}
			if lines > n {
				return start + int64(newline) + 1, nil
			}
			newline = bytes.LastIndexByte(part, '\n')
		}
		end = start + int64(newline) + 1
	}
	return 0, nil
}
