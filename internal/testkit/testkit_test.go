//go:build linux

package testkit

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// The program under test does nothing, and does it well.
func TestMain(m *testing.M) {
	leakPatience = time.Second // these scripts are meant to leave things behind
	Main(m, func() {})
}

// outcomeOf runs a script and returns what became of it.
func outcomeOf(t *testing.T, script string) outcome {
	t.Helper()
	if missing := missingNeed(); missing != "" {
		skip(t, missing)
	}
	file := filepath.Join(t.TempDir(), "script.txtar")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p := params(t, firstWithImage)
	p.Files = []string{file}
	var result outcome
	testscript.RunT(recorder{t, &result}, p)
	return result
}

func TestScriptsThatPass(t *testing.T) {
	for name, script := range map[string]string{
		"nothing":    "",
		"status":     "status 3 sh -c 'exit 3'\nstatus 143 sh -c 'kill -TERM $$'",
		"program":    "exec mydocker\nexec run true",
		"background": "start p sh -c 'echo ready; read line; echo got $line; exit 4'\nuntil p ^ready\nsend p it\nuntil p '^got it$'\nend p 4\ngrep 'got it' p.out",
		"terminal":   "start -tty p sh -c 'test -t 0 && test -t 1 && echo yes'\nuntil p yes\nend p 0",
		"signal":     "start p sh -c 'sleep 100 & echo ready; wait; exit 5'\nuntil p ready\nsignal -init p KILL\nend p 5",
		"cleaned up": "exec mkdir dir\nexec mount -t tmpfs tmpfs dir\nexec umount dir",
	} {
		t.Run(name, func(t *testing.T) {
			if outcomeOf(t, script).failed {
				t.Error("fails")
			}
		})
	}
}

func TestScriptsThatFail(t *testing.T) {
	for name, script := range map[string]string{
		"command":         "exec false",
		"status":          "status 3 sh -c 'exit 4'",
		"end":             "start p sh -c 'exit 4'\nend p 3",
		"leaves mount":    "exec mkdir dir\nexec mount -t tmpfs tmpfs dir",
		"leaves process":  "exec sh -c 'sleep 1000 >/dev/null 2>&1 &'",
		"leaves cgroup":   "exec sh -c 'for d in /sys/fs/cgroup /sys/fs/cgroup/pids; do [ -e $d/cgroup.procs ] && mkdir -p $d/mydocker/left; done; true'",
		"leaves state":    "exec mkdir -p $STATE/containers/left",
		"leaves hostname": "exec hostname left",
		"leaves link up":  "exec ip link set lo up",
		"leaves bridge":   "exec ip link add left type bridge",
		"leaves firewall": "exec nft add table inet left",
		"leaves network":  "exec mkdir -p $STATE/networks/left",
		"leaves no route": "exec sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'",
	} {
		t.Run(name, func(t *testing.T) {
			before := processList()
			if !outcomeOf(t, script).failed {
				t.Error("passes")
			}
			if diff := cmp.Diff(before, processList()); diff != "" {
				t.Error("leaves processes to the next script:\n" + diff)
			}
		})
	}
}

func TestWithImage(t *testing.T) {
	for _, test := range []struct {
		image      string
		args, want []string
	}{
		{"", []string{"ls", "-l"}, []string{"ls", "-l"}},
		{"busybox", []string{"ls", "-l"}, []string{"busybox", "ls", "-l"}},
		{"busybox", []string{"-m", "6m", "--", "ls"}, []string{"-m", "6m", "--", "busybox", "ls"}},
	} {
		if diff := cmp.Diff(test.want, withImage(test.args, test.image)); diff != "" {
			t.Error(diff)
		}
	}
}
