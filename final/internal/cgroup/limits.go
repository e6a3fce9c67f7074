//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
)

// Limits is what a container may use. Zero means as much as there is.
type Limits struct {
	Memory int64   `json:",omitempty"` // bytes, swap included
	CPUs   float64 `json:",omitempty"` // processors' worth of time
	CPUSet string  `json:",omitempty"` // the processors to run on, as in "0-3,6"
	PIDs   int64   `json:",omitempty"` // processes and threads
}

// Check refuses limits that the kernel would refuse without saying why, or would take and not keep.
func (l Limits) Check() error {
	const minMemory = 6 << 20 // docker's; with less hardly a program starts
	if l.Memory != 0 && l.Memory < minMemory {
		return errors.New("minimum memory limit allowed is 6MB")
	}
	// Written so that NaN fails too.
	if n := runtime.NumCPU(); l.CPUs != 0 && !(l.CPUs >= 0.01 && l.CPUs <= float64(n)) {
		return fmt.Errorf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)
	}
	if l.PIDs < 0 {
		return fmt.Errorf("invalid limit of processes: %d", l.PIDs)
	}
	return nil
}

// cpuPeriod is the time in microseconds in which a container may use its cpuQuota: the kernel's default.
const cpuPeriod = 100_000

// cpuQuota is the processor time in microseconds that is to be had in every cpuPeriod.
func (l Limits) cpuQuota() int64 {
	return int64(math.Round(l.CPUs * cpuPeriod))
}

// haveSwap tells whether the machine has swap space. Kernels that cannot swap, or do not
// account for it, lack the files that limit it.
func haveSwap() bool {
	swaps, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(swaps), "\n") > 1 // the first line is a heading
}
