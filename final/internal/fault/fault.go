// Package fault has a program killed where a test wants it to be: a crash at every step has to
// leave a state that ps shows truthfully and rm -f clears.
package fault

import (
	"os"
	"syscall"
)

// at is the name of the point, or "": then a point costs a comparison.
var at = os.Getenv("MYDOCKER_FAULT")

// Point kills this process if its name is in the environment variable MYDOCKER_FAULT.
func Point(name string) {
	if at == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // nothing keeps a process from killing itself
		select {}
	}
}
