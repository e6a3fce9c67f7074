//go:build linux

package testkit

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	stateDir   = "/var/lib/mydocker" // in the sandbox every script has its own here
	runtimeDir = "/run/mydocker"     // likewise
	appletsDir = "/usr/local/sbin"   // first in a container's PATH: here every machine has the same commands
	imagesDir  = "/var/lib/images"   // the sandbox's copy
)

// sandboxStep is how the test binary, which starts itself twice on the way into the sandbox,
// knows how far it is.
const sandboxStep = "MYDOCKER_TEST_SANDBOX"

// enterSandbox returns in the sandbox. On the way there the process starts itself in new
// namespaces, where its child, as process 1, makes the sandbox and starts the tests in it.
func enterSandbox() {
	switch os.Getenv(sandboxStep) {
	case "":
		os.Exit(startSandbox())
	case "init":
		os.Exit(sandboxInit())
	}
}

func startSandbox() int {
	name := fmt.Sprintf("mydocker-test-%d", os.Getpid())
	groups, err := makeGroups(name)
	defer func() {
		for _, dir := range groups {
			removeGroups(dir)
		}
	}()
	if err != nil {
		return failed("making cgroups", err)
	}
	cmd := self("init")
	cmd.Env = append(cmd.Env, sandboxName+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  unix.SIGKILL,
	}
	return statusOf(cmd.Run())
}

// sandboxInit is process 1 of the sandbox. It makes the sandbox, runs the tests, and buries
// whatever loses its parent, as any process 1 must.
func sandboxInit() int {
	if err := makeSandbox(os.Getenv(sandboxName)); err != nil {
		return failed("making the sandbox", err)
	}
	tests := self("tests")
	if err := tests.Start(); err != nil {
		return failed("starting the tests", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return failed("waiting for the tests", err)
		case pid == tests.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == tests.Process.Pid:
			return status.ExitStatus()
		}
	}
}

// sandboxName names the environment variable with the name of the sandbox's cgroups.
const sandboxName = "MYDOCKER_TEST_CGROUP"

// self is the test binary once more, called as it was, on its next step into the sandbox. It
// goes by its name: through /proc/self/exe it would still be on the mounts outside, where
// testscript does not find it if we are in a chroot.
func self(step string) *exec.Cmd {
	binary, err := os.Executable()
	if err != nil {
		panic(err) // there is always a /proc where tests run
	}
	cmd := exec.Command(binary, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), sandboxStep+"="+step)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func statusOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return failed("starting the sandbox", err)
	}
}

func failed(doing string, err error) int {
	fmt.Fprintf(os.Stderr, "testkit: %s: %v\n", doing, err)
	return 1
}

// makeSandbox turns the new namespaces that we are in into a machine of the tests' own.
func makeSandbox(name string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := bindGroups(name); err != nil {
		return err
	}
	archive := imageArchive()
	if archive == "" {
		return nil // Scripts says so
	}
	image, err := os.ReadFile(archive)
	if err != nil {
		return err
	}
	for _, dir := range []string{appletsDir, filepath.Dir(stateDir)} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	for _, dir := range []string{imagesDir, stateDir, runtimeDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(imagesDir, "busybox.tar"), image, 0o600); err != nil {
		return err
	}
	if err := installApplets(strings.NewReader(string(image))); err != nil {
		return fmt.Errorf("installing busybox: %w", err)
	}
	// A router, as a machine with Docker is, so that no script but those about it hears of it.
	if err := os.WriteFile(forwarding, []byte("1"), 0); err != nil {
		return fmt.Errorf("making a router of the sandbox: %w", err)
	}
	if err := unix.Sethostname([]byte("sandbox")); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	// Last, because it is what the sandbox is for: mounts that others get to see.
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

// imageArchive returns the image that the tests run, or "".
func imageArchive() string {
	for _, file := range []string{"../.cache/busybox.tar", "../../.cache/busybox.tar", filepath.Join(imagesDir, "busybox.tar")} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// installApplets puts the image's busybox, under all its names, first into the PATH.
func installApplets(image io.Reader) error {
	busybox := filepath.Join(appletsDir, "busybox")
	reader := tar.NewReader(image)
	for {
		header, err := reader.Next()
		if err != nil {
			return err // io.EOF: it is not there
		}
		if filepath.Clean("/"+header.Name) == "/bin/busybox" {
			break
		}
	}
	binary, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	if err := os.WriteFile(busybox, binary, 0o755); err != nil {
		return err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return err
	}
	for _, applet := range strings.Fields(string(applets)) {
		if err := os.Symlink(busybox, filepath.Join(appletsDir, applet)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
