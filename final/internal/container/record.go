//go:build linux

// Package container is what a container is: what it was made with, what has become of it, and its
// life from create to remove. There is no daemon: every command is a short process that changes
// what is on the disk, and a running container has one process that waits for its end.
package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/flock"
	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/record"
	"github.com/lixd/mydocker/final/internal/runtime"
)

// version is that of the record. A program that knows only older ones does not touch it.
const version = 1

// Container is the record of a container, in its directory, also when it has ended.
type Container struct {
	Version     int
	ID          string
	Name        string
	Image       string  // as it was named on the command line
	ImageID     string  // the digest of its config
	ImageConfig []byte  // which commit needs, also when the image is gone
	Command     Strings // what runs: the entrypoint and its arguments
	Config      Config
	Created     time.Time

	Started  time.Time         // zero until the command runs
	Finished time.Time         // zero until it has ended, and for ever if its shim was killed
	PID      int               // of its process 1, as the host counts
	PIDStart uint64            // which process that is: see runtime.StartTime
	Boot     string            // which of the machine's, as both are counted from that
	Status   int               // its exit status
	Error    string            // what there is to say about its end besides
	OOM      bool              // the kernel killed some of it for want of memory
	Endpoint *network.Endpoint `json:",omitempty"` // its place on a network, while it runs
	Kept     bool              `json:",omitempty"` // it is not removed at its end, as a restart is on its way
	Removing bool              `json:"-"`          // somebody has begun to remove it

	store    *Store
	place    place
	attended bool   // somebody waited for it when the record was read
	recorded []byte // the record as it was read, or written
	damage   error  // why the record cannot be used, or nil
}

// Config is what a container was made with: by the command line, or by the image.
type Config struct {
	Layers      []string // of the image, the topmost first, as paths within the state directory
	Entrypoint  Strings  `json:",omitempty"` // what Command begins with, for commit
	Env         Strings
	Dir         string // where the command begins
	User        string // as in -u: names are looked up in the image's files
	Hostname    string
	Terminal    bool
	Interactive bool
	AutoRemove  bool
	ReadOnly    bool
	Init        bool
	Tmpfs       []runtime.Tmpfs   `json:",omitempty"`
	Mounts      []Mount           `json:",omitempty"`
	Limits      cgroup.Limits     `json:",omitzero"`
	Network     string            // its name
	Ports       []network.Port    `json:",omitempty"` // to publish
	Exposed     []string          `json:",omitempty"` // those that the image says it serves, as in 80/tcp
	Labels      map[string]string `json:",omitempty"`
	StopSignal  string            // empty for SIGTERM
	StopTimeout *int              `json:",omitempty"` // seconds from that to SIGKILL, or nil for 10
}

// Mount is a volume: a path of the host's, or a volume of ours by its name.
type Mount struct {
	runtime.Volume
	Name      string `json:",omitempty"` // of the volume
	Anonymous bool   `json:",omitempty"` // it was made for this container, and has no name but an ID
	NoCopy    bool   `json:",omitempty"` // a new one does not begin with what it hides
}

// Strings is a list of strings that can be read as earlier records have it, too: all bytes in one,
// with NUL between the strings.
type Strings []string

// UnmarshalJSON takes either.
func (s *Strings) UnmarshalJSON(data []byte) error {
	if data[0] != '"' {
		return json.Unmarshal(data, (*[]string)(s))
	}
	var joined []byte
	err := json.Unmarshal(data, &joined)
	*s = strings.Split(string(joined), "\x00")
	return err
}

// Dir is the container's directory. It is locked as long as somebody waits for the container.
func (c *Container) Dir() string { return c.place.container(c.ID) }

func (c *Container) path(name string) string { return filepath.Join(c.Dir(), name) }

// LogPath is where what it writes is kept.
func (c *Container) LogPath() string { return c.large("log.json") }

// Upper is the directory with what the container has changed of its image.
func (c *Container) Upper() string { return c.large("upper") }

// work is overlayfs's own directory, beside that.
func (c *Container) work() string { return c.large("work") }

// large is the path of something that may be large, and so is on the disk.
func (c *Container) large(name string) string {
	if c.place == place(c.store.Run) {
		return c.store.scratch(c.ID, name)
	}
	return c.path(name)
}

const (
	recordFile   = "container.json"
	removingFile = "removing.json" // the record, when somebody has begun to remove the container
	commitFile   = "commit"        // locked by a commit that has paused the container
	lockName     = "lock"          // of a file: whoever changes the record has it locked
)

// save writes the record into a directory: see package record for what write may be.
func (c *Container) save(dir string, write func(file string, data []byte) error) error {
	data, err := record.Encode(c)
	if err == nil {
		err = write(filepath.Join(dir, recordFile), data)
	}
	if err != nil {
		return fmt.Errorf("recording the container: %w", err)
	}
	c.recorded = data
	return nil
}

// durably is how to write what must survive a power failure. A container with --rm does not.
func (c *Container) durably() func(file string, data []byte) error {
	if c.Config.AutoRemove {
		return record.ReplaceFile
	}
	return record.WriteFile
}

// syncRecord has the disk catch up with a record that was replaced. Nobody waits for that.
func (c *Container) syncRecord() {
	if !c.Config.AutoRemove {
		_ = record.Sync(c.path(recordFile)) // the container may be removed by now
	}
}

// WarmUp has encoding/json make its tables of the record's types, which takes it 0.2 ms, so that they
// are there when the record is first written or read.
func WarmUp() {
	_, _ = json.Marshal(&Container{})
}

// update changes the record, which others may have changed since we have read it, and what we
// know with it.
func (c *Container) update(write func(file string, data []byte) error, change func(*Container)) error {
	lock, err := c.lockRecord()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.refreshToChange(); err != nil {
		return err
	}
	change(c)
	return c.save(c.Dir(), write)
}

// lockRecord keeps all others from changing the record until the file is closed.
func (c *Container) lockRecord() (*os.File, error) {
	lock, err := c.store.lockFile(c.path(lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NotFoundError{c.Name} // removed since we have found it
	}
	return lock, err
}

// refresh finds out what others have changed since we have read the record.
func (c *Container) refresh() error {
	data, err := os.ReadFile(c.path(recordFile))
	if err == nil && bytes.Equal(data, c.recorded) {
		return nil
	}
	now, err := c.store.read(c.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return NotFoundError{c.Name}
	}
	if err != nil {
		return err
	}
	now.attended = c.attended
	*c = *now
	return nil
}

// refreshToChange is refresh for who goes on with the container.
func (c *Container) refreshToChange() error {
	err := c.refresh()
	if err == nil && c.Removing {
		return fmt.Errorf("container %s is being removed", c.ID)
	}
	return err
}

// read returns a container by its ID. With an error that its record is damaged it also returns what
// can be found of the container, to be removed.
func (s *Store) read(id string) (*Container, error) {
	c, err := s.readFrom(s.placeOf(id), id)
	if err != nil {
		return nil, err
	}
	return c, c.damage
}

// readFrom returns a container of this place, also one whose record is damaged. Whether somebody
// waits for it is asked first: of one for whom nobody does, the record says the last.
func (s *Store) readFrom(p place, id string) (*Container, error) {
	dir := p.container(id)
	attended := isLocked(dir)
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	removing := errors.Is(err, fs.ErrNotExist)
	if removing {
		data, err = os.ReadFile(filepath.Join(dir, removingFile))
	}
	if err != nil && !exists(dir) {
		return nil, NotFoundError{id}
	}
	if errors.Is(err, fs.ErrNotExist) {
		removing, err = false, record.ErrMissing
	}
	c := s.parse(p, id, data, err)
	c.attended, c.Removing = attended, removing
	return c, nil
}

// parse makes a container of its record, which may be damaged, or could not be read.
func (s *Store) parse(p place, id string, data []byte, err error) *Container {
	c := &Container{}
	if err == nil {
		err = record.Parse(data, c, &c.Version, version)
	}
	if err == nil && c.ID != id {
		err = fmt.Errorf("it is about another, %q", c.ID)
	}
	c.ID, c.store, c.place, c.recorded = id, s, p, data
	if err != nil {
		c.damage = &record.DamagedError{What: "container " + c.ShortID(), Reason: err, Next: fmt.Sprintf("%q removes it", "mydocker rm -f "+c.ShortID())}
		c.recover()
	}
	return c
}

// lockFile waits until no other process holds the lock on the file. Closing it gives the lock
// back, and so does the end of the process, however it comes. See flock(2).
func (s *Store) lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the record: %w", err)
	}
	if err := flock.Lock(s.Context, file); err != nil {
		return nil, fmt.Errorf("locking the record: %w", errors.Join(err, file.Close()))
	}
	return file, nil
}

// isLocked tells whether a process holds the lock on the directory. Those who only look share the
// lock, and are not taken for its holder.
func isLocked(dir string) bool {
	// Every ps does this for every container, and os.Open makes seven system calls of this one.
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// The states of a container, as docker has them.
const (
	Created  = "created"
	Running  = "running"
	Paused   = "paused"
	Exited   = "exited"
	Dead     = "dead" // it ended when nobody was there to see how
	Removing = "removing"
)

// State says what has become of the container.
func (c *Container) State() string {
	state := c.recordedState()
	if state == Running && c.isFrozen() && !c.resumeAfterCommit() {
		return Paused
	}
	return state
}

// recordedState is State for all that need not know whether a running container is paused.
func (c *Container) recordedState() string {
	switch {
	case c.Removing:
		return Removing
	case c.damage != nil && !c.attended && !c.hasProcesses():
		return Dead
	case c.damage != nil:
		return Running
	case c.Started.IsZero():
		return Created
	case !c.Finished.IsZero():
		return Exited
	case !c.attended && !c.isAlive():
		return Dead
	default:
		return Running
	}
}

// IsRunning tells whether it runs, paused or not.
func (c *Container) IsRunning() bool { return c.recordedState() == Running }

// HasShim tells whether a process waited for the container when its record was read.
func (c *Container) HasShim() bool { return c.attended }

// isAlive tells whether its first process lives. If nobody waits for that any more, its process ID
// may have gone to another.
func (c *Container) isAlive() bool {
	return c.Boot == runtime.BootID() && c.Target().IsAlive()
}

// isFrozen asks the kernel whether the container is paused. The record could be wrong: the process
// that froze the container may have been killed before it wrote the record, or the disk was full.
func (c *Container) isFrozen() bool {
	group, err := c.store.Groups.Find(c.ID)
	if err != nil {
		return false
	}
	frozen, err := group.IsFrozen()
	return frozen && err == nil
}

// Target is the container's first process, to run others beside it and to signal it.
func (c *Container) Target() runtime.Target {
	return runtime.Target{PID: c.PID, StartTime: c.PIDStart}
}

// ShortID is the part of the ID that people get to see.
func (c *Container) ShortID() string { return ShortID(c.ID) }
