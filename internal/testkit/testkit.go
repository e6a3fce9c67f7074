//go:build linux

package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// Main is for a chapter's TestMain. The chapter's own main is what runs when a script calls
// mydocker: the test binary answers to that name too.
func Main(m *testing.M, main func()) {
	programs := map[string]func(){
		"mydocker":  main,
		"run":       func() { runProgram(main) },
		"running":   printRunning,
		"outside":   outside,
		"serve":     serve,
		"ask":       ask,
		"advertise": advertise,
		"hold":      hold,
		"speed":     speed,
		"crash":     crash,
		"disk":      disk,
		"outage":    outage,
	}
	if programs[filepath.Base(os.Args[0])] == nil && os.Geteuid() == 0 {
		enterSandbox() // returns in the sandbox
	}
	testscript.Main(m, programs)
}

// runProgram is the scripts' run: mydocker run with the image put in where it belongs.
func runProgram(main func()) {
	if len(os.Args) > 1 && os.Args[1] != "init" {
		os.Args = append([]string{"mydocker", "run"}, withImage(os.Args[1:], os.Getenv("IMAGE"))...)
	}
	main()
}

// withImage puts the image in front of the command, which begins behind "--" if there are flags.
func withImage(args []string, image string) []string {
	if image == "" {
		return args
	}
	at := 0
	if strings.HasPrefix(args[0], "-") {
		at = slices.Index(args, "--") + 1
	}
	return slices.Insert(slices.Clone(args), at, image)
}

// Scripts runs the scripts of all chapters up to the one whose directory this is.
func Scripts(t *testing.T) {
	if missing := missingNeed(); missing != "" {
		skip(t, missing)
	}
	last := chapter(t)
	if negative() {
		next := scriptsOf(t, last+1, last+1)
		if len(next) == 0 {
			t.Log("there is no chapter behind this one")
		}
		mustFail(t, params(t, last), next)
		return
	}
	p := params(t, last)
	p.Files = scriptsOf(t, 1, last)
	testscript.RunT(serially{t}, p)
}

func strict() bool   { return os.Getenv("MYDOCKER_TEST_STRICT") == "1" }
func negative() bool { return os.Getenv("MYDOCKER_TEST_NEGATIVE") == "1" }

// missingNeed says what keeps all scripts from running.
func missingNeed() string {
	switch {
	case os.Geteuid() != 0:
		return "needs root"
	case imageArchive() == "":
		return "needs the busybox image: make image"
	}
	return ""
}

// skip skips the test for a reason, which in strict mode has to be one that a machine cannot help.
func skip(t *testing.T, reason string) {
	t.Helper()
	if strict() && !(strings.HasPrefix(reason, "needs cgroup v") && cgroupVersion() != 0) {
		t.Fatal("strict: ", reason)
	}
	t.Skip(reason)
}

var chapterDir = regexp.MustCompile(`^ch(\d\d)-`)

// chapter returns the number of the chapter whose tests these are; final comes last.
func chapter(t *testing.T) int {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return chapterOf(filepath.Base(dir))
}

func chapterOf(dir string) int {
	match := chapterDir.FindStringSubmatch(dir)
	if match == nil {
		return final
	}
	number, _ := strconv.Atoi(match[1]) // it is two digits
	return number
}

// scriptsOf returns the scripts of the chapters from first to last.
func scriptsOf(t *testing.T, first, last int) []string {
	t.Helper()
	all, err := filepath.Glob("../*/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts []string
	for _, script := range all {
		dir := filepath.Base(filepath.Dir(filepath.Dir(script)))
		if n := chapterOf(dir); n >= first && n <= last {
			scripts = append(scripts, script)
		}
	}
	return scripts
}

const (
	firstWithImage = 4 // the chapter from which on run takes an image
	firstToKeep    = 8 // the chapter from which on a container is kept when it has ended

	firstWithNetworks = 11 // the chapter from which on a container is on a network

	final = 99 // comes last
)

func params(t *testing.T, chapter int) testscript.Params {
	deadline, _ := t.Deadline()
	return testscript.Params{
		Deadline: deadline,
		Cmds:     commands,
		Condition: func(name string) (bool, error) {
			switch name {
			case "keeps":
				return chapter >= firstToKeep, nil
			case "networks":
				return chapter >= firstWithNetworks, nil
			case "final":
				return chapter == final, nil
			}
			return condition(name)
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", strings.Split(os.Getenv("PATH"), ":")[0]+":"+appletsDir+":/usr/sbin:/usr/bin:/sbin:/bin")
			env.Setenv("STATE", stateDir)
			env.Setenv("IMAGE", "")
			env.Setenv("FAILED", "125")
			for _, name := range []string{"MYDOCKER_CRASH", "MYDOCKER_CRASH_ROUNDS", "MYDOCKER_CRASH_SEED"} {
				env.Setenv(name, os.Getenv(name))
			}
			if chapter == final {
				env.Setenv("FAILED", "1")
			}
			if chapter >= firstWithImage {
				env.Setenv("IMAGE", "busybox")
			}
			return prepare(env, chapter >= firstToKeep)
		},
	}
}

func condition(name string) (bool, error) {
	switch name {
	case "cgroup1":
		return cgroupVersion() == 1, nil
	case "cgroup2":
		return cgroupVersion() == 2, nil
	case "gnutar":
		version, err := exec.Command("/bin/tar", "--version").Output()
		return err == nil && strings.Contains(string(version), "GNU tar"), nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// serially runs scripts one after the other: each checks that the sandbox is as it was.
type serially struct{ *testing.T }

func (s serially) Parallel()     {}
func (s serially) Verbose() bool { return testing.Verbose() }

func (s serially) Run(name string, f func(testscript.T)) {
	s.T.Run(name, func(t *testing.T) { f(serially{t}) })
}

func (s serially) Skip(args ...any) {
	s.Helper()
	skip(s.T, fmt.Sprint(args...))
}
