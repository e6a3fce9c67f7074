//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

// limits is what a container may use. Zero means as much as there is.
type limits struct {
	memory int64   // bytes, swap included
	cpus   float64 // processors' worth of time
	cpuset string  // the processors to run on, as in "0-3,6"
	pids   int64   // processes and threads
}

// check refuses limits that the kernel would refuse without saying why, or would take and not keep.
func (l limits) check() error {
	const minMemory = 6 << 20 // docker's; with less hardly a program starts
	if l.memory != 0 && l.memory < minMemory {
		return errors.New("minimum memory limit allowed is 6MB")
	}
	// Written so that NaN fails too.
	if n := runtime.NumCPU(); l.cpus != 0 && !(l.cpus >= 0.01 && l.cpus <= float64(n)) {
		return fmt.Errorf("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", n, n)
	}
	if l.pids < 0 {
		return fmt.Errorf("invalid limit of processes: %d", l.pids)
	}
	return nil
}

// memoryFlag is --memory, which takes a size.
func memoryFlag(bytes *int64) cli.Flag {
	return &cli.StringFlag{
		Name: "memory", Aliases: []string{"m", "mem"}, Usage: "limit memory to so many bytes, or with k, m or g behind",
		Action: func(_ context.Context, _ *cli.Command, size string) (err error) {
			*bytes, err = parseMemory(size)
			return err
		},
	}
}

// percentFlag is --cpu, which takes the percentage of one processor.
func percentFlag(cpus *float64) cli.Flag {
	return &cli.Float64Flag{
		Name: "cpu", Usage: "limit processor time to so many percent of one processor",
		Action: func(_ context.Context, cmd *cli.Command, percent float64) error {
			if cmd.IsSet("cpus") {
				return errors.New("--cpu and --cpus set the same limit: give one of them")
			}
			*cpus = percent / 100
			return nil
		},
	}
}

// cpuPeriod is the time in microseconds in which a container may use its cpuQuota: the kernel's default.
const cpuPeriod = 100_000

// cpuQuota is the processor time in microseconds that is to be had in every cpuPeriod.
func (l limits) cpuQuota() int64 {
	return int64(math.Round(l.cpus * cpuPeriod))
}

// parseMemory reads a size in docker's notation: a number, and behind it nothing or b for
// bytes, or k, m, g, t for the powers of 1024, which may be spelled kb or kib as well.
func parseMemory(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("invalid size: '%s'", s)
	}
	unit, err := parseUnit(strings.ToLower(s[len(digits):]))
	if err != nil {
		return 0, err
	}
	if number*unit >= math.MaxInt64 {
		return 0, fmt.Errorf("invalid size: '%s' is more than there can be", s)
	}
	return int64(number * unit), nil
}

// parseUnit returns how many bytes the suffix of a size stands for.
func parseUnit(suffix string) (float64, error) {
	if suffix == "" || suffix == "b" {
		return 1, nil
	}
	power := strings.IndexByte("bkmgt", suffix[0])
	if power < 1 || (suffix[1:] != "" && suffix[1:] != "b" && suffix[1:] != "ib") {
		return 0, fmt.Errorf("invalid suffix: '%s'", suffix)
	}
	return math.Pow(1024, float64(power)), nil
}
