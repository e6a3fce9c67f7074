//go:build linux

package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestMountFlags looks at every mount that a container begins with, but for its volumes.
func TestMountFlags(t *testing.T) {
	const closed = "nodev noexec nosuid"
	masks := []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	want := map[string]string{
		"/": "", "/proc": closed, "/sys": closed + " ro", "/dev": "nosuid", "/dev/pts": "noexec nosuid",
		"/dev/shm": closed, "/dev/mqueue": closed, "/dev/console": "nosuid",
	}
	for _, path := range []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"} {
		want[path] = closed + " ro"
	}
	for _, path := range masks {
		want[path] = "nosuid" // of /dev/null, in /dev
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			want[path] = "ro"
		}
	}
	for path := range want {
		if _, err := os.Stat(path); err != nil && !strings.HasPrefix(path, "/dev/") {
			delete(want, path) // the kernel does not have it
		}
	}
	got := map[string]string{}
	for line := range strings.Lines(output(t, "cat /proc/self/mounts")) {
		fields := strings.Fields(line)
		var flags []string
		for _, flag := range []string{"nodev", "noexec", "nosuid", "ro"} {
			if strings.Contains(","+fields[3]+",", ","+flag+",") {
				flags = append(flags, flag)
			}
		}
		path := fields[1]
		got[path] = strings.Join(flags, " ")
		if path == "/sys/fs/cgroup" || strings.HasPrefix(path, "/sys/fs/cgroup/") {
			want[path] = closed + " ro"
		}
	}
	assert.Equal(t, want, got)
	assert.Contains(t, got, "/sys/fs/cgroup")
}

// TestSession has the command be in no session of ours, whose terminal would send it signals.
func TestSession(t *testing.T) {
	assert.Equal(t, "1\n", output(t, "cut -d' ' -f6 /proc/1/stat"))
}

// TestVolumesAreApart mounts something in a volume: on the host and in the container, the other does
// not see it.
func TestVolumesAreApart(t *testing.T) {
	source := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(source, "dir"), 0o755))
	require.NoError(t, unix.Mount(source, source, "", unix.MS_BIND, ""))
	defer func() { assert.NoError(t, unix.Unmount(source, 0)) }()
	require.NoError(t, unix.Mount("", source, "", unix.MS_SHARED, ""))
	spec := newSpec(t, "sleep", "1000")
	spec.Volumes = []Volume{{Source: source, Target: "/v"}}
	_, target := background(t, spec)

	_, err := runExec(t, target, &Command{Args: []string{"mount", "-t", "tmpfs", "tmpfs", "/v/dir"}, Env: []string{"PATH=/bin"}})
	require.NoError(t, err)
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	assert.NotContains(t, string(mounts), source+"/dir")
}
