//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// shrink gives back memory that is not needed by a process which only waits: of the program itself
// what is as it is in its file. The kernel reads that again, page by page, when it is wanted: see
// MADV_DONTNEED in madvise(2). To collect the garbage of the start would take more than it gives.
func shrink() {
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return // then we stay as large as we are
	}
	defer maps.Close()
	for _, m := range unchangedMappings(maps) {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // likewise
	}
}

type mapping struct{ start, end uintptr }

// unchangedMappings finds in a /proc/PID/smaps what is mapped from a file, cannot be written
// to, and was not before either: the linker makes some of its work read-only when it is done
// with it, and that is in no file. See proc_pid_smaps(5).
func unchangedMappings(maps io.Reader) (unchanged []mapping) {
	var current mapping
	var readOnly, ofFile bool
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Bytes()
		fields := bytes.Fields(line)
		switch {
		case len(fields) > 1 && !bytes.HasSuffix(fields[0], []byte(":")): // of the next mapping
			_, err := fmt.Sscanf(string(fields[0]), "%x-%x", &current.start, &current.end)
			readOnly = err == nil && bytes.HasPrefix(fields[1], []byte("r-"))
			ofFile = bytes.Contains(line, []byte("/"))
		case readOnly && ofFile && string(bytes.Join(fields, nil)) == "Anonymous:0kB":
			unchanged = append(unchanged, current)
		}
	}
	return unchanged
}
