//go:build linux

package main

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// explainExec says more about a file that is there and that execve(2) refused to run: the
// kernel's "no such file" is about another file, and its "exec format error" has two causes.
func explainExec(path string, err error) error {
	if errors.Is(err, unix.ENOENT) {
		if interpreter := interpreterOf(path); interpreter != "" {
			return fmt.Errorf("it is run by %s, which is not in the image: %w", interpreter, err)
		}
	}
	if errors.Is(err, unix.ENOEXEC) {
		if machine := machineOf(path); machine != "" {
			return fmt.Errorf("it is made for %s, and this machine is %s: %w", machine, runtime.GOARCH, err)
		}
		return fmt.Errorf("it is neither a program nor a script that begins with #!: %w", err)
	}
	return err
}

// interpreterOf returns what runs the file: the loader of a dynamically linked program, or
// the first line's program of a script.
func interpreterOf(path string) string {
	file, err := elf.Open(path)
	if err != nil {
		return shebangOf(path)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			loader, err := io.ReadAll(segment.Open())
			if err != nil {
				return ""
			}
			return strings.TrimRight(string(loader), "\x00")
		}
	}
	return ""
}

func shebangOf(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	line, _ := bufio.NewReader(io.LimitReader(file, 256)).ReadString('\n') // the end of the file ends a line too
	command, found := strings.CutPrefix(line, "#!")
	if fields := strings.Fields(command); found && len(fields) > 0 {
		return fields[0]
	}
	return ""
}

// machineOf returns the processor that a program is made for, as in "aarch64".
func machineOf(path string) string {
	file, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	return strings.ToLower(strings.TrimPrefix(file.Machine.String(), "EM_"))
}
