//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/record"
	"github.com/lixd/mydocker/final/internal/runtime"
	"github.com/lixd/mydocker/final/internal/shim"
)

// Attendance is how somebody waits for a container: who gets what it writes, and who is told
// that it runs.
type Attendance struct {
	Direct  bool                    // what the container writes goes to our stdout and stderr, and no log is kept
	Tee     bool                    // what it writes goes to its log and to our stdout and stderr
	Stdin   *os.File                // what it reads, or nil
	Conn    *net.UnixConn           // somebody who is attached from the beginning, or nil
	Size    *unix.Winsize           // of the container's terminal at first, or nil
	Signals func() <-chan os.Signal // returns those to pass on, when they are caught
	Started func()                  // is called when the command runs, or is nil
}

// Run starts a container, waits for its end, records it, and clears away what must not outlive it.
// It returns the command's exit status, or a runtime.Error if it could not be started. The caller
// is the container's parent: it runs as long as the calling thread does.
func (c *Container) Run(a Attendance) (int, error) {
	started, out := false, &delivery{}
	status, err := c.run(a, out, &started)
	if started {
		status, finishErr := out.finish(status)
		return status, errors.Join(err, finishErr)
	}
	if err != nil && !errors.As(err, new(*runtime.Error)) {
		err = &runtime.Error{Status: runtime.StatusFailed, Err: err}
	}
	return status, err
}

// delivery is who hands on what the container writes.
type delivery struct {
	streams *shim.Streams // nil if no log is kept
	relay   *shim.Relay   // of our files, nil if the container has none of them
}

// finish returns when what the container has written is where it belongs, with the status to exit
// with. A reader may take its time, so the end is recorded before.
func (d *delivery) finish(status int) (int, error) {
	if d.streams != nil {
		return d.streams.Close()
	}
	return d.relay.Finish(status)
}

func (c *Container) run(a Attendance, out *delivery, started *bool) (status int, err error) {
	own, err := c.takeOver(time.Second) // from who looks at it, or dies with a mydocker that was killed
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, NotFoundError{c.Name}
	case errors.Is(err, unix.EWOULDBLOCK):
		return 0, fmt.Errorf("container %s is running, or being removed", c.ShortID())
	case err != nil:
		return 0, err
	}
	defer c.syncRecord() // when the lock is free, and so nobody waits
	defer own.Close()
	if err := c.refreshToChange(); err != nil {
		return 0, err
	}
	defer undo(&err, c.removeIfAsked)
	fault.Point("run-locked")
	if err := c.clearGroup(); err != nil { // of a shim that was killed
		return 0, err
	}
	// Overlayfs does not take a work directory again that was mounted volatile.
	if err := os.RemoveAll(filepath.Join(c.work(), "work", "incompat")); err != nil {
		return 0, err
	}
	defer undo(&err, func() error { return c.hasEnded(*started, status, err) })
	spec, err := c.prepare(a, out)
	if err != nil {
		return 0, err
	}

	group, err := c.store.Groups.New(c.ID, c.Config.Limits)
	if err != nil {
		return 0, err
	}
	defer undo(&err, group.Remove)
	handles, err := group.Open()
	if err != nil {
		return 0, err
	}
	defer handles.Close()
	spec.Cgroup = runtime.Cgroup(handles)

	attach, leave, err := c.joinNetwork()
	if err != nil {
		return 0, err
	}
	defer undo(&err, leave)
	fault.Point("run-network")

	var signals <-chan os.Signal
	spec.Prepare = func(pid int) error {
		fault.Point("run-cgroup")
		signals = a.Signals() // before the command runs: what it writes may be the reason for one
		if err := context.Cause(c.store.Context); err != nil {
			return err
		}
		return attach(pid)
	}
	process, err := runtime.Start(spec)
	if err != nil {
		return 0, err
	}
	log.Debugf("the first process of container %s is process %d", c.ShortID(), process.PID)
	fault.Point("run-started")
	if err := c.hasStarted(process.PID); err != nil {
		_ = process.Signal(unix.SIGKILL) // nobody would know of it
		_, waitErr := process.Wait()
		return 0, errors.Join(err, waitErr)
	}
	*started = true
	go c.syncRecord()
	if process.Terminal != nil {
		out.streams.Terminal(process.Terminal)
	}
	fault.Point("run-recorded")
	if a.Started != nil {
		a.Started()
	}
	go forward(signals, process)

	status, err = process.Wait()
	fault.Point("run-ended")
	err = c.explain(err, group)
	if out.streams != nil {
		err = errors.Join(err, out.streams.Finish(status))
	}
	return status, err
}

// isToGo tells whether the container is removed at its end.
func (c *Container) isToGo() bool { return c.Config.AutoRemove && !c.Kept }

// removeIfAsked is the end of a container with --rm. Whoever waits for our lock finds it gone.
func (c *Container) removeIfAsked() error {
	if !c.isToGo() {
		return nil
	}
	if err := c.beginRemoval(); err != nil {
		return err
	}
	return c.remove(true)
}

// prepare opens the container's streams, and says what is to be started.
func (c *Container) prepare(a Attendance, out *delivery) (*runtime.Spec, error) {
	spec, err := c.spec()
	if err != nil {
		return nil, err
	}
	spec.Size = a.Size
	files := [3]*os.File{a.Stdin, nil, nil}
	if a.Direct {
		files[1], files[2] = os.Stdout, os.Stderr
	}
	if out.relay, err = shim.NewRelay(spec.User, files[0], files[1], files[2]); err != nil {
		return nil, err
	}
	spec.Stdin, spec.Stdout, spec.Stderr = out.relay.Stdin, out.relay.Stdout, out.relay.Stderr
	if a.Direct {
		return spec, nil
	}
	if out.streams, err = shim.NewStreams(c.LogPath()); err != nil {
		return nil, err
	}
	if a.Tee {
		out.streams.Tee(os.Stdout, os.Stderr)
	}
	if err := out.streams.Listen(c.Dir()); err != nil {
		return nil, err
	}
	if !c.Config.Terminal {
		files, err := out.streams.Pipes(c.Config.Interactive && a.Stdin == nil, spec.User)
		if err != nil {
			return nil, err
		}
		if a.Stdin == nil {
			spec.Stdin = files[0]
		}
		spec.Stdout, spec.Stderr = files[1], files[2]
	}
	if a.Conn != nil {
		out.streams.Serve(a.Conn, true)
	}
	return spec, nil
}

// spec says what the runtime is to start.
func (c *Container) spec() (*runtime.Spec, error) {
	user, home, err := c.FindUser(c.Config.User)
	if err != nil {
		return nil, err
	}
	spec := &runtime.Spec{
		Command:  runtime.Command{Args: c.Command, Env: c.env(home, c.Config.Terminal), Dir: c.Config.Dir, User: user, Terminal: c.Config.Terminal},
		Init:     c.Config.Init,
		Hostname: c.Config.Hostname,
		Root:     runtime.Overlay{Upper: c.Upper(), Work: c.work(), Target: c.Dir(), Volatile: c.Config.AutoRemove},
		ReadOnly: c.Config.ReadOnly,
		Tmpfs:    c.Config.Tmpfs,
		Network:  runtime.Network{Host: c.Config.Network == network.Host},
		Sysctls:  openToAll,
	}
	base, err := c.store.makeBase()
	if err != nil {
		return nil, err
	}
	spec.Root.Layers = append(c.layers(), base)
	for _, mount := range c.Config.Mounts {
		spec.Volumes = append(spec.Volumes, mount.Volume)
	}
	owner, err := c.shareNetwork(spec)
	if err == nil && owner == c {
		err = c.writeHostFiles()
	}
	if err != nil {
		return nil, err
	}
	return spec, c.showHostFiles(owner, spec)
}

// NetworkOf and a container's ID are the network of a container that shares that one's.
const NetworkOf = "container:"

// shareNetwork says whose network namespace the container is in: its own, or that of a container
// that must run.
func (c *Container) shareNetwork(spec *runtime.Spec) (owner *Container, err error) {
	id, shared := strings.CutPrefix(c.Config.Network, NetworkOf)
	if !shared {
		return c, nil
	}
	owner, err = c.store.Find(id)
	if err != nil {
		return nil, fmt.Errorf("joining the network of another container: %w", err)
	}
	if !owner.IsRunning() {
		return nil, fmt.Errorf("cannot join network of a non running container: %s", id)
	}
	spec.Network.Path = fmt.Sprintf("/proc/%d/ns/net", owner.PID)
	return owner, nil
}

// hasEndpoint tells whether the container has a place on a network of ours.
func (c *Container) hasEndpoint() bool {
	name := c.Config.Network
	return name != network.Host && name != network.None && !strings.HasPrefix(name, NetworkOf)
}

// openToAll are settings of a network namespace of its own, as docker has them: every user may
// listen on ports below 1024, and send echo requests.
var openToAll = []runtime.Sysctl{
	{Name: "net/ipv4/ip_unprivileged_port_start", Value: "0"},
	{Name: "net/ipv4/ping_group_range", Value: "0 2147483647"},
}

// layers returns the directories of the image's layers, the topmost first.
func (c *Container) layers() (dirs []string) {
	for _, layer := range c.Config.Layers {
		dirs = append(dirs, filepath.Join(c.store.Root, layer))
	}
	return dirs
}

// env is all of the command's environment: nothing of the host's may leak into it. HOME is the
// user's, unless somebody has said otherwise.
func (c *Container) env(home string, terminal bool) []string {
	env := []string{"HOSTNAME=" + c.Config.Hostname, "HOME=" + home}
	if terminal {
		env = append(env, "TERM=xterm")
	}
	return MergeEnv(env, c.Config.Env)
}

// MergeEnv returns an environment with another on top: of the same name, the last one counts.
func MergeEnv(below, above []string) []string {
	var merged []string
	index := map[string]int{}
	for _, entry := range append(append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, below...), above...) {
		name, _, _ := strings.Cut(entry, "=")
		if i, known := index[name]; known {
			merged[i] = entry
			continue
		}
		index[name] = len(merged)
		merged = append(merged, entry)
	}
	return merged
}

// joinNetwork finds the container its place. Attach makes it, when there is a namespace for it.
func (c *Container) joinNetwork() (attach func(pid int) error, leave func() error, err error) {
	if !c.hasEndpoint() {
		return func(int) error { return nil }, func() error { return nil }, nil
	}
	if err := c.leaveNetworks(); err != nil { // of a shim that was killed
		return nil, nil, err
	}
	endpoint := &network.Endpoint{ContainerID: c.ID, Name: c.Name, Hostname: c.Config.Hostname, Dir: c.Dir()}
	if err := c.store.Networks.Join(c.Config.Network, NewID(), endpoint, c.Config.Ports); err != nil {
		return nil, nil, err
	}
	c.Endpoint = endpoint
	attach = func(pid int) error {
		err := endpoint.Attach(pid)
		fault.Point("run-attached")
		return err
	}
	return attach, func() error { return c.store.Networks.Leave(endpoint) }, nil
}

// hasStarted records that the command runs.
func (c *Container) hasStarted(pid int) error {
	start, err := runtime.StartTime(pid)
	if err != nil {
		return err
	}
	endpoint := c.Endpoint
	return c.update(record.ReplaceFile, func(c *Container) {
		c.PID, c.PIDStart, c.Boot, c.Started, c.Finished = pid, start, runtime.BootID(), time.Now().UTC(), time.Time{}
		c.Status, c.Error, c.OOM, c.Kept, c.Endpoint = 0, "", false, false, endpoint
	})
}

// explain says what there is to say about the container's end besides its status.
func (c *Container) explain(err error, group cgroup.Group) error {
	kills, oomErr := group.OOMKills()
	if kills > 0 {
		c.OOM = true
		err = errors.Join(err, fmt.Errorf("out of memory: the kernel killed %d of the container's processes", kills))
	}
	return errors.Join(err, oomErr)
}

// hasEnded records how the command has ended, or why it did not run. It comes when all else is
// undone: a record without an end says that there may be something to clear up. Of a container
// that is about to be removed it leaves the status to who waits for it.
func (c *Container) hasEnded(started bool, status int, end error) error {
	fault.Point("run-undone")
	oom := c.OOM
	if c.Config.AutoRemove {
		if err := c.refresh(); err != nil { // a restart may want to keep it
			return err
		}
	}
	switch {
	case c.isToGo() && started:
		return os.WriteFile(c.path(lockName), []byte(strconv.Itoa(status)), 0o600)
	case c.isToGo():
		return nil
	case !started:
		return c.hasFailed(end)
	}
	return c.update(record.ReplaceFile, func(c *Container) {
		c.Status, c.Finished, c.OOM, c.Endpoint = status, time.Now().UTC(), oom, nil
		if end != nil {
			c.Error = end.Error()
		}
	})
}

// hasFailed records why the command does not run, as docker has it.
func (c *Container) hasFailed(reason error) error {
	failed := &runtime.Error{Status: 128}
	errors.As(reason, &failed)
	return c.update(record.ReplaceFile, func(c *Container) { c.Status, c.Error = failed.Status, reason.Error() })
}

// undo runs what takes back an earlier step. Its error does not hide one that is already on its way.
func undo(err *error, takeBack func() error) {
	if undoErr := takeBack(); undoErr != nil {
		*err = errors.Join(*err, undoErr)
	}
}

// forward passes signals on to the container's first process.
func forward(signals <-chan os.Signal, process *runtime.Process) {
	for sig := range signals {
		if err := process.Signal(sig.(unix.Signal)); err != nil {
			log.Debugf("forwarding %v: %v", sig, err)
		}
	}
}

// ExecEnv is the environment of one more command: that of the container, with what is its own.
func (c *Container) ExecEnv(home string, terminal bool, own []string) []string {
	return MergeEnv(c.env(home, terminal), own)
}
