//go:build linux

package testkit

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// mustFail runs scripts that are ahead of the program, and fails for each that does not.
func mustFail(t *testing.T, p testscript.Params, scripts []string) {
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			p.Files = []string{script}
			var result outcome
			testscript.RunT(recorder{t, &result}, p)
			if result.skipped != "" {
				skip(t, result.skipped)
			}
			if !result.failed {
				t.Error("passes before its chapter")
			}
		})
	}
}

type outcome struct {
	failed  bool
	skipped string
}

// recorder is a testscript.T for which a failure is a result like any other.
type recorder struct {
	t *testing.T
	*outcome
}

func (r recorder) Run(_ string, f func(testscript.T)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
}

func (r recorder) FailNow() {
	r.failed = true
	runtime.Goexit()
}

func (r recorder) Fatal(args ...any) {
	r.t.Log(args...)
	r.FailNow()
}

func (r recorder) Skip(args ...any) {
	r.skipped = cmp.Or(fmt.Sprint(args...), "skipped")
	runtime.Goexit()
}

func (r recorder) Log(args ...any) { r.t.Log(args...) }
func (r recorder) Parallel()       {}
func (r recorder) Verbose() bool   { return testing.Verbose() }
