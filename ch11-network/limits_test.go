//go:build linux

package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseMemory(t *testing.T) {
	for size, want := range map[string]int64{
		"0":        0,
		"1":        1,
		"100b":     100,
		"6m":       6 << 20,
		"6M":       6 << 20,
		"6mb":      6 << 20,
		"6MiB":     6 << 20,
		"20480k":   20 << 20,
		"1.5g":     3 << 29,
		".5k":      512,
		"2t":       2 << 40,
		"67108864": 64 << 20,
	} {
		got, err := parseMemory(size)
		assert.NoError(t, err, size)
		assert.Equal(t, want, got, size)
	}
	for size, want := range map[string]string{
		"":          "invalid size: ''",
		"m":         "invalid size: 'm'",
		"-1m":       "invalid size: '-1m'",
		"+1m":       "invalid size: '+1m'",
		"1 m":       "invalid size: '1 m'",
		"1e3":       "invalid size: '1e3'",
		"0x10":      "invalid size: '0x10'",
		"inf":       "invalid size: 'inf'",
		"1.2.3m":    "invalid size: '1.2.3m'",
		"1x":        "invalid suffix: 'x'",
		"1mm":       "invalid suffix: 'mm'",
		"1bib":      "invalid suffix: 'bib'",
		"1ib":       "invalid suffix: 'ib'",
		"99999999t": "invalid size: '99999999t' is more than there can be",
	} {
		_, err := parseMemory(size)
		assert.EqualError(t, err, want, size)
	}
}

func FuzzParseMemory(f *testing.F) {
	for _, size := range []string{"64m", "1.5g", "0", "9223372036854775807", "1e9", "-1"} {
		f.Add(size)
	}
	f.Fuzz(func(t *testing.T, size string) {
		if bytes, err := parseMemory(size); err == nil && bytes < 0 {
			t.Errorf("%q is %d bytes", size, bytes)
		}
	})
}

func TestLimitsCheck(t *testing.T) {
	assert.NoError(t, limits{}.check())
	assert.NoError(t, limits{memory: 6 << 20, cpus: 0.01, pids: 1}.check())
	assert.ErrorContains(t, limits{memory: 6<<20 - 1}.check(), "minimum memory limit")
	for _, cpus := range []float64{-1, 0.009, 1 << 20, math.NaN(), math.Inf(1)} {
		assert.ErrorContains(t, limits{cpus: cpus}.check(), "range of CPUs", cpus)
	}
	assert.ErrorContains(t, limits{pids: -1}.check(), "invalid limit of processes")
}

func TestCPUQuota(t *testing.T) {
	assert.Equal(t, int64(1000), limits{cpus: 0.01}.cpuQuota())
	assert.Equal(t, int64(29_000), limits{cpus: 0.29}.cpuQuota(), "rounded, not cut off")
	assert.Equal(t, int64(150_000), limits{cpus: 1.5}.cpuQuota())
}
