//go:build linux

package cgroup

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCheckCPUSet(t *testing.T) {
	for _, requested := range []string{"0", "0-3", "1,3", "0-1,6", "3,3,0-2"} {
		assert.NoError(t, checkCPUSet(requested, "0-3,6"), requested)
	}
	for requested, want := range map[string]string{
		"4":       "requested CPUs are not available - requested 4, available: 0-3,6",
		"0-6":     "requested CPUs are not available - requested 0-6, available: 0-3,6",
		"":        `invalid list of CPUs: ""`,
		"0,":      `invalid list of CPUs: "0,"`,
		"3-1":     `invalid list of CPUs: "3-1"`,
		"-1":      `invalid list of CPUs: "-1"`,
		"1-2-3":   `invalid list of CPUs: "1-2-3"`,
		"0-99999": `invalid list of CPUs: "0-99999"`,
		" 1":      `invalid list of CPUs: " 1"`,
	} {
		assert.EqualError(t, checkCPUSet(requested, "0-3,6"), want, requested)
	}
}

func FuzzCheckCPUSet(f *testing.F) {
	for _, list := range []string{"0", "0-3,6", "0-8191", "-", ",", "4294967295"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := parseCPUSet(list)
		if err == nil && (len(cpus) == 0 || len(cpus) > maxCPUs) {
			t.Errorf("%q names %d CPUs", list, len(cpus))
		}
	})
}
