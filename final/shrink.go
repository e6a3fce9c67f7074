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
		if anonymous, found := bytes.CutPrefix(line, []byte("Anonymous:")); found {
			if readOnly && ofFile && string(bytes.TrimSpace(anonymous)) == "0 kB" {
				unchanged = append(unchanged, current)
			}
			continue
		}
		addresses, rest, found := bytes.Cut(line, []byte(" "))
		if !found || bytes.HasSuffix(addresses, []byte(":")) {
			continue
		}
		readOnly, ofFile = bytes.HasPrefix(rest, []byte("r-")), bytes.Contains(rest, []byte("/"))
		if readOnly && ofFile {
			_, err := fmt.Sscanf(string(addresses), "%x-%x", &current.start, &current.end)
			readOnly = err == nil
		}
	}
	return unchanged
}
