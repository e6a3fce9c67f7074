//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// shrink gives back the memory that is not needed by a process which only waits: what is left
// on the heap of the start, and of the program itself what is as it is in its file. The kernel
// reads that again, page by page, when it is wanted: see MADV_DONTNEED in madvise(2).
func shrink() {
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return // then we stay as large as we are
	}
	unchanged := unchangedMappings(string(maps))
	debug.FreeOSMemory()
	for _, m := range unchanged {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED) // likewise
	}
}

type mapping struct{ start, end uintptr }

// unchangedMappings finds in a /proc/PID/smaps what is mapped from a file, cannot be written
// to, and was not before either: the linker makes some of its work read-only when it is done
// with it, and that is in no file. See proc_pid_smaps(5).
func unchangedMappings(maps string) []mapping {
	var unchanged []mapping
	var current mapping
	var readOnly, ofFile bool
	for line := range strings.Lines(maps) {
		var m mapping
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &m.start, &m.end, &mode); err == nil {
			current, readOnly, ofFile = m, strings.HasPrefix(mode, "r-"), strings.Contains(line, "/")
		}
		if readOnly && ofFile && slices.Equal(strings.Fields(line), []string{"Anonymous:", "0", "kB"}) {
			unchanged = append(unchanged, current)
		}
	}
	return unchanged
}
