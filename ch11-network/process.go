//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// startTime returns when a process was started, in clock ticks since the machine was. With it a
// process ID means one process for good: alone it is given to another some time after the
// process has ended. See proc_pid_stat(5).
func startTime(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading when process %d was started: %w", pid, err)
	}
	return parseStartTime(stat)
}

// isZombie tells whether a process has ended, and its parent has not waited for it. Without a shim
// that is up to the host's process 1, and in many a development container that waits for nobody.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" Z"))
}

// parseStartTime finds field 22. The second is the program's name in parentheses, and may hold
// blanks and parentheses itself.
func parseStartTime(stat []byte) (uint64, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("reading when a process was started: %q is no stat line", stat)
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
