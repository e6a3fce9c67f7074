//go:build linux

package cgroup

import (
	"fmt"
	"strconv"
	"strings"
)

// checkCPUSet refuses processors that the machine does not have. Both lists are in the
// kernel's notation, as in "0-3,6": see cpuset(7), "List format".
func checkCPUSet(requested, available string) error {
	want, err := parseCPUSet(requested)
	if err != nil {
		return err
	}
	have, err := parseCPUSet(available)
	if err != nil {
		return err
	}
	for cpu := range want {
		if !have[cpu] {
			return fmt.Errorf("requested CPUs are not available - requested %s, available: %s", requested, available)
		}
	}
	return nil
}

// maxCPUs bounds what a list may spell out; the kernel is never built for more.
const maxCPUs = 8192

func parseCPUSet(list string) (map[int]bool, error) {
	cpus := map[int]bool{}
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 31)
		to, err2 := strconv.ParseUint(last, 10, 31)
		if err1 != nil || err2 != nil || from > to || to >= maxCPUs {
			return nil, fmt.Errorf("invalid list of CPUs: %q", list)
		}
		for cpu := int(from); cpu <= int(to); cpu++ {
			cpus[cpu] = true
		}
	}
	return cpus, nil
}
