//go:build linux

package testkit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// victim is a command that is killed. The other fields are commands too, with semicolons between
// them: what comes before it and after it, and what works if it succeeds, also after a power failure.
type victim struct{ name, before, command, after, kept string }

const (
	served   = "--name it -p 8080:80 --network mine -v /anonymous busybox sleep 1000"
	nextLoad = "import files.tar next; rmi next" // removes what a killed command left in the image store
)

var victims = []victim{
	{"run", "", "run --name it -p 8080:80 --network mine -v vol:/data busybox true", "", "inspect it; volume inspect vol"},
	{"run-rm", "", "run --rm --name it -p 8080:80 --network mine -v /anonymous busybox true", "", ""},
	{"run-d", "", "run -d " + served, "", "inspect it"},
	{"run-d-rm", "", "run -d --rm --name it -p 8080:80 --network mine -v /anonymous busybox true", "", ""},
	{"create", "", "create " + served, "", "inspect it"},
	{"start", "create " + served, "start it", "", "inspect it"},
	{"stop", "run -d " + served, "stop -t 0 it", "", "inspect it"},
	{"restart", "run -d " + served, "restart -t 0 it", "", "inspect it"},
	{"rm", "create " + served, "rm -v it", "", ""},
	{"rm-f", "run -d " + served, "rm -f -v it", "", ""},
	{"exec", "run -d " + served, "exec it true", "", "inspect it"},
	{"pause", "run -d " + served, "pause it", "", "inspect it"},
	{"unpause", "run -d " + served + "; pause it", "unpause it", "", "inspect it"},
	{"rename", "create " + served, "rename it other", "run --rm --name other busybox true", "inspect other"},
	{"commit", "run -d " + served + "; exec it cp /bin/busybox /copy", "commit it made", nextLoad, "history made; run --rm made cmp /bin/busybox /copy"},
	{"load", "", "load -i saved.tar", nextLoad, "history saved"},
	{"import", "", "import files.tar made", nextLoad, "history made"},
	{"save", "", "save -o out.tar busybox", "", ""},
	{"tag", "import files.tar saved", "tag saved made", nextLoad, "history made; history saved"},
	{"rmi", "import files.tar made", "rmi made", nextLoad, ""},
	{"network-create", "", "network create net", "", "network inspect net"},
	{"network-rm", "network create net", "network rm net", "", ""},
	{"volume-create", "", "volume create vol", "", "volume inspect vol"},
	{"volume-rm", "volume create vol", "volume rm vol", "", ""},
	{"volume-prune", "create " + served + "; rm it", "volume prune -f", "volume prune -f", ""},
	{"container-prune", "create " + served + "; create --name other busybox true", "container prune -f", "volume prune -f", ""},
}

// crasher kills mydocker at random times, and looks at what is left.
type crasher struct {
	disk      string // the image of the file system that loses power, or "" if processes are killed
	random    *rand.Rand
	took      map[string]time.Duration // by each victim, if it lives
	existing  []string                 // what there is besides the victims', a line each
	old       []int                    // processes that are not killed
	bystander string                   // the ID of the container that must survive
}

// crash kills each victim at random times. MYDOCKER_CRASH_ROUNDS is how many times in all, or for how
// long: by default 10s. MYDOCKER_CRASH_SEED repeats an earlier choice, and MYDOCKER_CRASH is a regular
// expression for the names of the victims. With the argument "power" the machine ends instead of a
// process, a quarter as often, and what was not written to the disk is lost.
func crash() {
	chosen, err := chooseVictims(os.Getenv("MYDOCKER_CRASH"))
	fatal(err)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("MYDOCKER_CRASH_SEED"); text != "" {
		seed, err = strconv.ParseUint(text, 10, 64)
		fatal(err)
	}
	fmt.Println("MYDOCKER_CRASH_SEED:", seed)
	fatal(os.Mkdir("crash", 0o700))
	fatal(os.Chdir("crash"))
	c := &crasher{took: map[string]time.Duration{}}
	if len(os.Args) > 1 {
		c.disk = diskFile
		fatal(makeDisk(c.disk))
	}
	fatal(c.setUp())
	isOver, err := c.limit(os.Getenv("MYDOCKER_CRASH_ROUNDS"))
	fatal(err)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	rounds, failures := 0, 0
	for !isOver(rounds) {
		v := chosen[rounds%len(chosen)]
		c.random = rand.New(rand.NewPCG(seed, uint64(rounds)))
		how, err := c.round(v)
		if err != nil {
			failures++
			fmt.Printf("%s: mydocker %s, %s:\n\t%s\n", v.name, v.command, how, strings.ReplaceAll(err.Error(), "\n", "\n\t"))
			fatal(c.reset())
		}
		rounds++
	}
	fatal(c.tearDown())
	fmt.Printf("%d rounds, %d failures\n", rounds, failures)
	if failures > 0 {
		os.Exit(1)
	}
}

func chooseVictims(pattern string) ([]victim, error) {
	names, err := regexp.Compile("^(" + pattern + ")$")
	if err != nil || pattern == "" {
		return slices.Clone(victims), err
	}
	chosen := slices.DeleteFunc(slices.Clone(victims), func(v victim) bool { return !names.MatchString(v.name) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no victim is called %s", pattern)
	}
	return chosen, nil
}

// limit returns a function that tells whether there were enough rounds.
func (c *crasher) limit(text string) (func(rounds int) bool, error) {
	if duration, err := time.ParseDuration(cmp.Or(text, "10s")); err == nil {
		deadline := time.Now().Add(duration)
		return func(int) bool { return time.Now().After(deadline) }, nil
	}
	most, err := strconv.Atoi(text)
	if c.disk != "" {
		most = (most + 3) / 4
	}
	return func(rounds int) bool { return rounds >= most }, err
}

// setUp makes what the victims use, and a container that must survive them all.
func (c *crasher) setUp() error {
	if err := makeArchive("files.tar"); err != nil {
		return err
	}
	err := mydockers("network create mine; run -d --name bystander -p 9000:80 busybox sleep 1000; " +
		"import files.tar saved; save -o saved.tar saved; rmi saved; run --rm --name it --network mine -v /anonymous busybox true")
	if err != nil {
		return err
	}
	output, err := mydocker("inspect", "-f", "{{.Id}}", "bystander")
	c.bystander = strings.TrimSpace(output)
	if c.existing == nil {
		c.existing = c.describe()
	}
	return err
}

// measure runs a victim that is not killed, to learn how long it takes.
func (c *crasher) measure(v victim) error {
	if err := mydockers(v.before); err != nil {
		return err
	}
	start := time.Now()
	if err := mydockers(v.command); err != nil {
		return err
	}
	c.took[v.name] = time.Since(start)
	return errors.Join(mydockers(v.kept), c.clear(v))
}

// makeArchive makes an archive with the files of an image that can compare itself.
func makeArchive(name string) error {
	if err := os.MkdirAll("root/bin", 0o755); err != nil {
		return err
	}
	busybox := filepath.Join(appletsDir, "busybox")
	for _, to := range []string{"root/bin/busybox", "root/copy"} {
		if err := exec.Command(busybox, "cp", busybox, to).Run(); err != nil {
			return err
		}
	}
	return exec.Command(busybox, "tar", "-C", "root", "-cf", name, ".").Run()
}

func (c *crasher) tearDown() error {
	err := mydockers("rm -f bystander; network rm mine")
	if err != nil || c.disk == "" {
		return err
	}
	if err := mydockers("network rm bridge"); err != nil {
		return err
	}
	return errors.Join(unix.Unmount(stateDir, 0), os.Remove(c.disk))
}

// reset makes everything anew after a failure.
func (c *crasher) reset() error {
	if err := reboot(); err != nil {
		return err
	}
	for _, pattern := range []string{stateDir + "/[^i]*", stateDir + "/images/[^b]*", "*"} {
		files, _ := filepath.Glob(pattern) // the pattern is good
		for _, file := range files {
			if err := os.RemoveAll(file); err != nil {
				return err
			}
		}
	}
	return c.setUp()
}

// round kills a victim, and says how, and what is wrong with what is left.
func (c *crasher) round(v victim) (kill string, err error) {
	if c.took[v.name] == 0 {
		if err := c.measure(v); err != nil {
			return "not killed", err
		}
	}
	c.old = pids()
	if err := mydockers(v.before); err != nil {
		return "before that", err
	}
	program := exec.Command("mydocker", strings.Fields(v.command)...)
	if err := program.Start(); err != nil {
		return "before that", err
	}
	var succeeded bool
	ended := make(chan bool)
	go func() {
		succeeded = program.Wait() == nil // it may fail, or be killed
		close(ended)
	}()
	after := time.Duration(c.random.Float64() * 1.5 * float64(c.took[v.name]))
	select {
	case <-time.After(after):
	case <-ended:
		if c.disk == "" {
			time.Sleep(c.took[v.name] / 4) // what it has started goes on
		}
	}
	var what string
	if c.disk == "" {
		what = c.kill(program.Process.Pid)
	} else if what, err = c.cut(); err != nil {
		return what, err
	}
	kill = fmt.Sprintf("%s killed after %v", what, after.Round(time.Microsecond))
	select {
	case <-ended:
	case <-time.After(patience):
		_ = program.Process.Kill()
		return kill, errors.New("the command does not end")
	}
	if succeeded {
		if err := mydockers(v.kept); err != nil {
			return kill + ", when it had succeeded", err
		}
	}
	if err := c.check(v); err != nil {
		return kill, err
	}
	return kill, c.clear(v)
}

// cut ends the machine, and starts it again.
func (c *crasher) cut() (string, error) {
	what := "the machine"
	if c.random.IntN(2) == 1 {
		// What ext4 does every five seconds: write directories and inodes, but not the data in files.
		what = "the machine, after a commit of the journal,"
		if err := commitJournal(); err != nil {
			return what, err
		}
	}
	if err := cutPower(c.disk); err != nil {
		return what, err
	}
	return what, checkRecords()
}

// kill kills the client, or any one process of ours, or all, and says which.
func (c *crasher) kill(client int) string {
	choice := c.random.IntN(3)
	which := c.random.Float64()
	switch victims := ours(c.old); {
	case choice == 1 && len(victims) > 0:
		pid := victims[int(which*float64(len(victims)))]
		if pid != client {
			command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
			_ = unix.Kill(pid, unix.SIGKILL)
			return fmt.Sprintf("process %q", strings.ReplaceAll(string(command), "\x00", " "))
		}
	case choice == 2:
		for ; len(victims) > 0; victims = ours(c.old) {
			for _, pid := range victims {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
		return "everything"
	}
	_ = unix.Kill(client, unix.SIGKILL)
	return "the client"
}

// check makes sure that ps tells the truth, and that all containers can be used.
func (c *crasher) check(v victim) error {
	var failures []string
	return eventually(func() error {
		containers, err := truth(v)
		if err != nil {
			return err
		}
		for _, container := range containers {
			if err := use(container, v, c.disk != ""); err != nil {
				// One that has just ended is not as ps has said, but only once.
				failure := container + ": " + err.Error()
				if slices.Contains(failures, container) {
					return persistent{errors.New(failure)}
				}
				failures = append(failures, container)
				return errors.New(failure)
			}
		}
		return nil
	})
}

// use does with a container what can be done in its state, which makes it run.
func use(container string, v victim, restarted bool) error {
	var id, name, state string
	if _, err := fmt.Sscan(container, &id, &name, &state); err != nil {
		return err
	}
	switch {
	case name == "bystander" && state != "running" && !restarted:
		return errors.New("it does not run any more")
	case state == "running", v.name == "commit" && state == "paused":
		return mydockers("exec " + id + " true")
	case state == "paused":
		return mydockers("unpause " + id + "; exec " + id + " true")
	case state == "removing":
		return nil
	default:
		return mydockers("start " + id)
	}
}

// truth returns what ps says of every container, unless it is wrong.
func truth(v victim) ([]string, error) {
	output, err := mydocker("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("ps prints %q", line)
		}
		lives, frozen := len(processesOf(fields[0])) > 0, isFrozen(fields[0])
		said := fields[2]
		switch {
		case lives != (said == "running" || said == "paused"):
			return nil, fmt.Errorf("ps says %s, and that processes are there is %v", line, lives)
		case lives && frozen != (said == "paused") && v.name != "commit":
			return nil, fmt.Errorf("ps says %s, and that it is frozen is %v", line, frozen)
		}
	}
	return lines, nil
}

// clear removes what a victim has made, uses its name, port and network again, and makes sure that nothing is left.
func (c *crasher) clear(v victim) error {
	output, err := mydocker("ps", "-aq", "--no-trunc", "--filter", "name=it", "--filter", "name=other")
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(output) {
		if err := mydockers("rm -f -v " + id); err != nil {
			return err
		}
	}
	age()
	if err := mydockers("run --rm --name it -p 8080:80 --network mine -v /anonymous busybox true; " + v.after); err != nil {
		return fmt.Errorf("afterwards: %w", err)
	}
	const compare = " /bin/busybox cmp /bin/busybox /copy; "
	for _, kind := range []struct{ list, name, use string }{
		{"images --format {{.Repository}}", "made", "run --rm made" + compare + "rmi made"},
		{"images --format {{.Repository}}", "saved", "run --rm saved" + compare + "rmi saved"},
		{"network ls --format {{.Name}}", "net", "run --rm --network net busybox true; network rm net"},
		{"volume ls -q", "vol", "run --rm -v vol:/data busybox true; volume rm vol"},
	} {
		output, err := mydocker(strings.Fields(kind.list)...)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Fields(output), kind.name) {
			if err := mydockers(kind.use); err != nil {
				return err
			}
		}
	}
	if err := removeNameless(); err != nil {
		return err
	}
	_ = os.Remove("out.tar") // it need not be there
	if c.disk != "" {
		// A power failure may undo a removal: that of the volume of a container with --rm.
		if err := mydockers("volume prune -f"); err != nil {
			return err
		}
	}
	return eventually(func() error {
		if diff := gocmp.Diff(c.existing, c.describe()); diff != "" {
			return errors.New("left behind:\n" + diff)
		}
		return nil
	})
}

// removeNameless removes the images that an rmi left which had come no further than their names.
func removeNameless() error {
	output, err := mydocker("images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}")
	if err != nil {
		return err
	}
	for line := range strings.Lines(output) {
		if id, isNameless := strings.CutPrefix(strings.TrimSpace(line), "<none> "); isNameless {
			if err := mydockers("rmi " + id); err != nil {
				return err
			}
		}
	}
	return nil
}

// age makes containers that are being made look abandoned: others wait a minute before they believe it.
func age() {
	for _, dir := range []string{stateDir, filepath.Join(runtimeDir, stateDir)} {
		making, _ := filepath.Glob(filepath.Join(dir, "containers", ".making", "*")) // the pattern is good
		for _, container := range making {
			_ = os.Chtimes(container, time.Unix(0, 0), time.Unix(0, 0)) // it may have gone
		}
	}
}

// kept are files that say nothing of a container or a network: at most sixteen directories, a mark, and
// what the next network to be made or removed replaces.
var kept = regexp.MustCompile(`/scratch/.$|/swept$|/networks/\.(making|removing)(/|$)`)

// processID matches the number of a process in a snapshot.
var processID = regexp.MustCompile(`^process \d+`)

// changes matches what is different after a reboot.
var changes = regexp.MustCompile(`/(leases|endpoints|hosts\.d)/|\b10\.8[34]\.`)

// describe describes all that containers, images, networks and volumes may leave behind.
func (c *crasher) describe() []string {
	lines := snapshot(false)
	for _, dir := range []string{stateDir, runtimeDir, "."} {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && !kept.MatchString(path) {
				lines = append(lines, path)
			}
			if err == nil && filepath.Dir(path) == filepath.Join(stateDir, "layers", "sha256") {
				return fs.SkipDir
			}
			return nil
		})
	}
	ruleset, _ := exec.Command("nft", "-s", "list", "ruleset").Output() // there need not be a nft
	lines = append(lines, strings.Split(string(ruleset), "\n")...)
	names := strings.NewReplacer(c.bystander, "bystander", c.bystander[:12], "bystander")
	for i, line := range lines {
		lines[i] = processID.ReplaceAllString(names.Replace(line), "process")
	}
	slices.Sort(lines)
	return slices.DeleteFunc(lines, func(line string) bool {
		return c.disk != "" && changes.MatchString(line)
	})
}

// persistent is an error that time does not mend.
type persistent struct{ error }

// eventually returns the error that is still there when everything has had time to end.
func eventually(check func() error) error {
	for deadline := time.Now().Add(leakPatience); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil || errors.As(err, &persistent{}) || time.Now().After(deadline) {
			return err
		}
	}
}

func mydocker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	program := exec.CommandContext(ctx, "mydocker", args...)
	program.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	program.Stdout, program.Stderr = &stdout, &stderr
	err := program.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("mydocker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), err
}

// mydockers runs commands, with semicolons between them, as far as they succeed.
func mydockers(commands string) error {
	for command := range strings.SplitSeq(commands, ";") {
		if args := strings.Fields(command); len(args) > 0 {
			if _, err := mydocker(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func pids() []int {
	var all []int
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is good
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// ours returns the processes of mydocker and its helpers, but not those that run busybox.
func ours(old []int) []int {
	return slices.DeleteFunc(pids(), func(pid int) bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err != nil || pid == 1 || pid == os.Getpid() || slices.Contains(old, pid) ||
			strings.HasSuffix(exe, "/busybox")
	})
}

func processesOf(id string) []int {
	var all []int
	for _, root := range hierarchies() {
		data, _ := os.ReadFile(filepath.Join(root, "mydocker", id, "cgroup.procs")) // there need not be such a group
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if stat, statErr := readStat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && statErr == nil && !strings.HasSuffix(stat.name, "(Z)") {
				all = append(all, pid)
			}
		}
	}
	return all
}

func freezer(id string) (file, frozen, thawed string) {
	if cgroupVersion() == 2 {
		return filepath.Join(cgroupRoot, "mydocker", id, "cgroup.freeze"), "1", "0"
	}
	return filepath.Join(cgroupRoot, "freezer", "mydocker", id, "freezer.state"), "FROZEN", "THAWED"
}

func isFrozen(id string) bool {
	file, frozen, _ := freezer(id)
	data, _ := os.ReadFile(file) // there need not be such a group
	return strings.TrimSpace(string(data)) == frozen
}

func thaw(id string) error {
	file, _, thawed := freezer(id)
	return os.WriteFile(file, []byte(thawed), 0)
}
