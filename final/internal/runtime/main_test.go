//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stepVar is how the test binary, which starts itself on the way into a sandbox and for some
// tests, knows what it is to be.
const stepVar = "MYDOCKER_RUNTIME_TEST"

// TestMain runs the tests in a mount, PID and network namespace of their own: nothing that goes
// wrong in them goes wrong on the host, and all that they start ends with them.
func TestMain(m *testing.M) {
	switch os.Getenv(stepVar) {
	case "":
		if os.Geteuid() != 0 && os.Getenv("MYDOCKER_TEST_STRICT") != "1" {
			fmt.Println("skipped: containers need root")
			return
		}
		os.Exit(sandbox())
	case "tests":
		if err := enterSandbox(); err != nil {
			fmt.Fprintln(os.Stderr, "making the sandbox:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	case "parent":
		beParent()
	case "keys":
		lookForKey()
	case "stop":
		stopAll()
	}
}

func sandbox() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stepVar+"=tests")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "starting the sandbox:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// sandboxDir holds the image and the containers' layers, in memory.
const sandboxDir = "/mnt"

func enterSandbox() error {
	for _, m := range []struct {
		fstype, target string
		flags          uintptr
	}{
		{"", "/", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", 0},
		{"tmpfs", sandboxDir, 0},
		{"", "/", unix.MS_REC | unix.MS_SHARED}, // as systemd has it: what is not private leaks
	} {
		if err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return os.Setenv("TMPDIR", sandboxDir)
}

// image unpacks the image for a test.
func image(t *testing.T) string {
	archive, err := filepath.Abs("../../../.cache/busybox.tar")
	require.NoError(t, err)
	if _, err := os.Stat(archive); err != nil {
		if os.Getenv("MYDOCKER_TEST_STRICT") == "1" {
			t.Fatal("no image: make image")
		}
		t.Skip("no image: make image")
	}
	dir := t.TempDir()
	out, err := exec.Command("tar", "-xf", archive, "-C", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// newSpec is a container with everything but its command's streams.
func newSpec(t *testing.T, args ...string) *Spec {
	dir := t.TempDir()
	for _, name := range []string{"upper", "work"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	return &Spec{
		Command:  Command{Args: args, Env: []string{"PATH=/bin:/sbin:/usr/bin"}},
		Hostname: "box",
		Root: Overlay{
			Layers: []string{image(t)},
			Upper:  filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Target: dir,
		},
	}
}

// result is what became of a command.
type result struct {
	status         int
	stdout, stderr string
}

// finish starts a command by means of start, and returns what became of it.
func finish(t *testing.T, command *Command, start func() (*Process, error)) (result, error) {
	t.Helper()
	var got result
	var outputs [2]chan string
	var files [2]*os.File
	for i := range outputs {
		read, write, err := os.Pipe()
		require.NoError(t, err)
		files[i], outputs[i] = write, make(chan string, 1)
		go func() {
			defer read.Close()
			output, _ := io.ReadAll(read)
			outputs[i] <- string(output)
		}()
	}
	command.Stdout, command.Stderr = files[0], files[1]
	process, err := start()
	files[0].Close()
	files[1].Close()
	if err == nil {
		got.status, err = process.Wait()
		require.NoError(t, err)
	}
	got.stdout, got.stderr = <-outputs[0], <-outputs[1]
	return got, err
}

func run(t *testing.T, spec *Spec) (result, error) {
	t.Helper()
	return finish(t, &spec.Command, func() (*Process, error) { return Start(spec) })
}

// output runs a shell script in a container that must succeed, and returns what it writes.
func output(t *testing.T, script string, change ...func(*Spec)) string {
	t.Helper()
	spec := newSpec(t, "sh", "-c", script)
	for _, c := range change {
		c(spec)
	}
	got, err := run(t, spec)
	require.NoError(t, err)
	require.Equal(t, 0, got.status, got.stderr)
	return got.stdout
}

// background starts a container that runs until the test ends.
func background(t *testing.T, spec *Spec) (*Process, Target) {
	t.Helper()
	runtime.LockOSThread() // the container ends with the thread
	process, err := Start(spec)
	require.NoError(t, err)
	t.Cleanup(func() {
		defer runtime.UnlockOSThread()
		_ = process.Signal(unix.SIGKILL)
		_, _ = process.Wait()
	})
	started, err := StartTime(process.PID)
	require.NoError(t, err)
	return process, Target{PID: process.PID, StartTime: started}
}

// beParent starts a container, says its process ID, and stays.
func beParent() {
	runtime.LockOSThread()
	spec := &Spec{
		Command: Command{Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, User: User{UID: 7, GID: 7}},
		Init:    os.Getenv("INIT") != "",
		Root:    Overlay{Layers: []string{os.Args[1]}, Upper: os.Args[2] + "/upper", Work: os.Args[2] + "/work", Target: os.Args[2]},
	}
	volumes, _ := strconv.Atoi(os.Getenv("VOLUMES"))
	for i := range volumes {
		spec.Volumes = append(spec.Volumes, Volume{Source: "/etc", Target: fmt.Sprintf("/v/%d", i)})
	}
	process, err := Start(spec)
	if err != nil {
		panic(err)
	}
	fmt.Println(process.PID)
	_, _ = process.Wait()
}

// namespacesOf returns all the namespaces that threads of ours are in, which should be one of each.
func namespacesOf(t *testing.T) []string {
	links, err := filepath.Glob("/proc/self/task/*/ns/*")
	require.NoError(t, err)
	var found []string
	for _, link := range links {
		if namespace, err := os.Readlink(link); err == nil && !strings.Contains(strings.Join(found, " "), filepath.Base(link)+"="+namespace) {
			found = append(found, filepath.Base(link)+"="+namespace)
		}
	}
	return found
}

func lines(s string) []string { return strings.Split(strings.TrimSpace(s), "\n") }
