//go:build linux

package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/record"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// Stop sends the container its stop signal, or another one, and SIGKILL when the timeout has passed: of
// this many seconds, 0 for at once and -1 for never; nil for the container's own. It returns when the
// container has ended and its status is recorded. One that does not run is stopped already.
func (c *Container) Stop(signal *unix.Signal, timeout *int) error {
	if !c.IsRunning() {
		return nil
	}
	if err := c.signal(c.stopSignal(signal)); err != nil {
		return err
	}
	fault.Point("stop-signalled")
	if err := c.thaw(); err != nil {
		return err
	}
	if c.waitEnd(c.stopTimeout(timeout)) == nil {
		return nil
	}
	return c.Kill(unix.SIGKILL)
}

func (c *Container) stopSignal(signal *unix.Signal) unix.Signal {
	if signal != nil {
		return *signal
	}
	configured, err := ParseSignal(c.Config.StopSignal)
	if err != nil {
		return unix.SIGTERM
	}
	return configured
}

func (c *Container) stopTimeout(seconds *int) time.Duration {
	if seconds == nil {
		seconds = c.Config.StopTimeout
	}
	switch {
	case seconds == nil:
		return 10 * time.Second
	case *seconds < 0:
		return 1 << 62 // 146 years
	default:
		return time.Duration(*seconds) * time.Second
	}
}

// ParseSignal reads a signal's name, with or without SIG, or its number. An empty one is SIGTERM.
func ParseSignal(text string) (unix.Signal, error) {
	if text == "" {
		return unix.SIGTERM, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if signal := unix.SignalNum("SIG" + name); signal != 0 {
		return signal, nil
	}
	if signal := cmp.Or(signalAliases[name], realTimeSignal(name)); signal != 0 {
		return signal, nil
	}
	var number int
	if _, err := fmt.Sscanf(text+"\n", "%d\n", &number); err == nil && number > 0 && number < 65 {
		return unix.Signal(number), nil
	}
	return 0, fmt.Errorf("invalid signal: %s", text)
}

// signalAliases are the further names of signals that signal(7) lists.
var signalAliases = map[string]unix.Signal{"CLD": unix.SIGCLD, "IOT": unix.SIGIOT, "POLL": unix.SIGPOLL}

// realTimeSignal reads a name like RTMIN, RTMIN+3 or RTMAX-1, or returns 0. See signal(7).
func realTimeSignal(name string) unix.Signal {
	signal, distance := runtime.FirstRealTime, 0
	if after, ok := strings.CutPrefix(name, "RTMAX"); ok {
		signal, name = runtime.LastRealTime, after
	} else if name, ok = strings.CutPrefix(name, "RTMIN"); !ok {
		return 0
	}
	if name != "" {
		var err error
		if distance, err = strconv.Atoi(name); err != nil || !strings.ContainsAny(name[:1], "+-") {
			return 0
		}
	}
	if signal += unix.Signal(distance); signal < runtime.FirstRealTime || signal > runtime.LastRealTime {
		return 0
	}
	return signal
}

// Kill sends a signal. After SIGKILL it returns when the container has ended and its status is recorded.
func (c *Container) Kill(signal unix.Signal) error {
	if !c.IsRunning() {
		return fmt.Errorf("cannot kill container: %s: container %s is not running", c.Name, c.ID)
	}
	if err := c.signal(signal); err != nil {
		return err
	}
	if signal != unix.SIGKILL {
		return nil
	}
	if err := c.thaw(); err != nil {
		return err
	}
	return c.waitEnd(30 * time.Second)
}

// thaw lets the container see its signals: under cgroup v1 the frozen cannot even die.
func (c *Container) thaw() error {
	group, err := c.store.Groups.Find(c.ID)
	if err != nil {
		return err
	}
	if err := group.Thaw(); err != nil && c.isAlive() {
		return err
	}
	return nil
}

// signal sends a signal to the container's first process, and to no other that has come to its
// process ID. That it has ended is no error.
func (c *Container) signal(signal unix.Signal) error {
	err := c.Target().Signal(signal)
	if errors.Is(err, runtime.ErrNotRunning) {
		return nil
	}
	return err
}

// Keep has a container that runs stay when it has ended, though it be one with --rm.
func (c *Container) Keep() error {
	if !c.isToGo() || !c.IsRunning() {
		return nil
	}
	return c.update(record.ReplaceFile, func(c *Container) { c.Kept = true })
}

// waitEnd waits until the process has ended, and whoever waited for it.
func (c *Container) waitEnd(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	if err := c.Target().WaitEnd(deadline); err != nil {
		return err
	}
	select {
	case err := <-c.unattended():
		return err
	case <-time.After(time.Until(deadline)):
		return fmt.Errorf("container %s does not end", c.ShortID())
	}
}

// unattended returns a channel that gets the result of waitUnattended.
func (c *Container) unattended() <-chan error {
	known, ended := *c, make(chan error, 1)
	go func() { ended <- known.waitUnattended() }()
	return ended
}

// waitUnattended waits until nobody waits for the container any more: then all is recorded.
func (c *Container) waitUnattended() error {
	file, err := os.Open(c.Dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // with --rm it is gone
	}
	if err != nil {
		return fmt.Errorf("waiting for the container's end: %w", err)
	}
	defer file.Close()
	return unix.Flock(int(file.Fd()), unix.LOCK_SH)
}

// Wait waits for the container's end, and returns its exit status. One with --rm is gone then: but
// its lock we have open, and there the status is.
func (c *Container) Wait() (int, error) {
	lock, err := os.Open(c.path(lockName))
	if err == nil {
		defer lock.Close()
	}
	if err := c.waitUnattended(); err != nil {
		return 0, err
	}
	now, err := c.store.read(c.ID)
	if errors.Is(err, fs.ErrNotExist) {
		var status int
		if _, err := fmt.Fscan(lock, &status); err != nil {
			return 0, NotFoundError{c.ID}
		}
		return status, nil
	}
	if err != nil {
		return 0, err
	}
	*c = *now
	return c.Status, nil
}

// Pause stops all of the container's processes.
func (c *Container) Pause() error {
	if c.State() == Paused {
		return fmt.Errorf("container %s is already paused", c.ID)
	}
	if err := c.removeCommitFile(); err != nil {
		return err
	}
	return c.freeze()
}

// PauseToCommit does what Pause does until the file that it returns is closed, and Unpause is called.
// If this process is killed before, the next one that asks for the container's state resumes it.
func (c *Container) PauseToCommit() (*os.File, error) {
	file, err := os.OpenFile(c.path(commitFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pausing the container: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
	if err == nil {
		err = c.freeze()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// resumeAfterCommit resumes a container that a commit has paused which was killed, and reports whether
// it is one.
func (c *Container) resumeAfterCommit() bool {
	file, err := os.Open(c.path(commitFile))
	if err != nil {
		return false
	}
	defer file.Close()
	if unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil || c.thaw() != nil {
		return false
	}
	_ = c.removeCommitFile() // or Pause does
	return true
}

func (c *Container) removeCommitFile() error {
	file := c.path(commitFile)
	if err := os.Remove(file); err != nil && exists(file) {
		return err
	}
	return nil
}

func (c *Container) freeze() error {
	group, err := c.runningGroup()
	if err != nil {
		return err
	}
	if err := group.Freeze(); err != nil {
		return c.unlessEnded(errors.Join(err, group.Thaw()))
	}
	fault.Point("pause-frozen")
	return nil
}

// Unpause lets them go on.
func (c *Container) Unpause() error {
	if c.State() == Running {
		return fmt.Errorf("container %s is not paused", c.ID)
	}
	group, err := c.runningGroup()
	if err != nil {
		return err
	}
	return c.unlessEnded(errors.Join(group.Thaw(), c.removeCommitFile()))
}

func (c *Container) runningGroup() (cgroup.Group, error) {
	if !c.IsRunning() {
		return nil, c.notRunning()
	}
	return c.store.Groups.Find(c.ID)
}

func (c *Container) notRunning() error { return fmt.Errorf("container %s is not running", c.ID) }

// unlessEnded returns err, or if the container has ended meanwhile, that it does not run: its
// group may have gone with it.
func (c *Container) unlessEnded(err error) error {
	if err != nil && !c.isAlive() {
		return c.notRunning()
	}
	return err
}

// Processes returns the IDs on the host of all that runs in the container.
func (c *Container) Processes() ([]int, error) {
	group, err := c.runningGroup()
	if err != nil {
		return nil, err
	}
	members, err := group.Processes()
	return members, c.unlessEnded(err)
}

// Exec runs a command in the container, as runtime.Exec does, in its cgroup.
func (c *Container) Exec(command *runtime.Command) (*runtime.Process, error) {
	if c.State() == Paused {
		return nil, c.pausedError()
	}
	group, err := c.runningGroup()
	if err != nil {
		return nil, err
	}
	handles, err := group.Open()
	if err != nil {
		return nil, c.unlessEnded(err)
	}
	defer handles.Close()
	command.Cgroup = runtime.Cgroup(handles)
	process, err := runtime.Exec(c.Target(), command)
	fault.Point("exec-started")
	if errors.Is(err, runtime.ErrNotRunning) {
		return nil, c.notRunning()
	}
	if errors.Is(err, runtime.ErrPaused) {
		return nil, c.pausedError()
	}
	return process, c.unlessEnded(err)
}

func (c *Container) pausedError() error {
	return fmt.Errorf("container %s is paused, unpause the container before exec", c.Name)
}

// Remove removes the container, and with volumes those that were made for it alone. By force one
// that runs is killed first, and one with a damaged record is removed with what can be found of it.
func (c *Container) Remove(force, volumes bool) error {
	if c.damage != nil && !force {
		return c.damage
	}
	own, err := c.seize(force)
	if err == nil {
		defer own.Close()
		err = c.beginRemoval()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // with --rm it is gone already
	}
	if err != nil {
		return err
	}
	if err := c.clearGroup(); err != nil {
		return err
	}
	if err := c.leaveNetworks(); err != nil {
		return err
	}
	fault.Point("remove-left")
	return c.remove(volumes)
}

// leaveNetworks gives back what the container has of networks: what its record says, also if the
// lease is damaged, and what a shim had that was killed before it could record it.
func (c *Container) leaveNetworks() error {
	if c.Endpoint != nil {
		if err := c.store.Networks.Leave(c.Endpoint); err != nil {
			return err
		}
	}
	return c.store.Networks.LeaveAll(c.ID, c.Config.Network)
}

// seize takes the lock of a container that does not run. By force it kills one that runs, also one
// that another process is about to start.
func (c *Container) seize(force bool) (*os.File, error) {
	deadline := time.Now().Add(30 * time.Second)
	var unattended <-chan error
	for {
		if c.IsRunning() {
			if !force {
				return nil, c.runningError()
			}
			if err := c.end(deadline); err != nil {
				return nil, err
			}
		}
		own, err := lockDir(c.Dir(), unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return own, err
		}
		c.Target().ResumeParent()
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("container %s does not end, or another process is starting or removing it: try again", c.ShortID())
		}
		if unattended == nil {
			unattended = c.unattended()
		}
		select {
		case err := <-unattended: // once: then another process that wants the lock may have it
			if err != nil {
				return nil, err
			}
		case <-time.After(2 * time.Millisecond):
		}
		now, err := c.store.readFrom(c.place, c.ID)
		if err != nil {
			return nil, err
		}
		*c = *now
	}
}

func (c *Container) runningError() error {
	if c.State() == Paused {
		return fmt.Errorf("cannot remove container %q: container is paused and must be unpaused first", c.Name)
	}
	return fmt.Errorf("cannot remove container %q: container is running: stop the container before removing or force remove", c.Name)
}

// end kills the container, and waits for the end of its first process, if it is known which that is.
func (c *Container) end(deadline time.Time) error {
	if c.damage == nil {
		err := errors.Join(c.signal(unix.SIGKILL), c.thaw())
		if err == nil {
			err = c.Target().WaitEnd(deadline)
		}
		if err != nil {
			return fmt.Errorf("ending container %s: %w", c.ShortID(), err)
		}
		return nil
	}
	group, err := c.store.Groups.Find(c.ID)
	if err != nil {
		return err
	}
	return errors.Join(cgroup.Kill(group), c.thaw())
}

// beginRemoval records that what follows has been begun, which may be so already. Nobody changes
// the record after that.
func (c *Container) beginRemoval() error {
	lock, err := c.lockRecord()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.refresh(); err != nil && !record.IsDamaged(err) { // it may have another name by now
		return err
	}
	err = os.Rename(c.path(recordFile), c.path(removingFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the container: %w", err)
	}
	fault.Point("remove-begun")
	return nil
}

// takeOver waits for the lock of whoever still has to do with the container.
func (c *Container) takeOver(timeout time.Duration) (*os.File, error) {
	deadline := time.Now().Add(timeout)
	for {
		own, err := lockDir(c.Dir(), unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return own, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// remove removes the files of a container that nobody else has to do with, and that has left
// its cgroup and its network.
func (c *Container) remove(volumes bool) error {
	if volumes {
		if err := c.removeVolumes(); err != nil {
			return err
		}
	}
	if err := c.removeFiles(); err != nil {
		return err
	}
	fault.Point("remove-files")
	if err := c.store.dropName(c); err != nil {
		return err
	}
	// In one step: a directory without a record is a damaged container. It is not under its ID, or sweep
	// would remove its volumes.
	gone := c.place.making("removed-" + c.ID)
	err := os.MkdirAll(filepath.Dir(gone), 0o700)
	if err == nil {
		err = os.Rename(c.Dir(), gone)
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil {
		return fmt.Errorf("removing the container: %w", err)
	}
	return nil
}

// clearGroup ends what is left of a container whose shim was killed, and removes its cgroup.
func (c *Container) clearGroup() error {
	group, err := c.store.Groups.Find(c.ID)
	if err != nil {
		return err
	}
	err = cgroup.Kill(group)
	if members, _ := group.Processes(); len(members) > 0 {
		err = errors.Join(err, group.Thaw())
	}
	return errors.Join(err, group.Remove())
}

func (c *Container) removeLarge() error {
	err := errors.Join(os.RemoveAll(c.Upper()), os.RemoveAll(c.work()), os.RemoveAll(c.LogPath()))
	for _, name := range hostFiles {
		err = errors.Join(err, os.RemoveAll(c.large(name)))
	}
	return err
}

// removeFiles removes all but the record. It does not if anything is mounted in there, which
// should not be: then it would delete what is mounted, and that may be the host's.
func (c *Container) removeFiles() error {
	if err := checkMounts(c.ID); err != nil {
		return fmt.Errorf("removing the container: %w", err)
	}
	err := c.removeLarge()
	if err == nil {
		err = removeIf(c.Dir(), func(name string) bool { return name != removingFile })
	}
	if err != nil {
		return fmt.Errorf("removing the container: %w", err)
	}
	return nil
}

// checkMounts returns an error if something is mounted where the path has this part. To remove that
// would delete what is mounted.
func checkMounts(part string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.Contains(fields[4], part) {
			return fmt.Errorf("something is mounted at %s: unmount it first", fields[4])
		}
	}
	return nil
}
