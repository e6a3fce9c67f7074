//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// container is what is kept about a container in its directory, also when it has ended.
type container struct {
	ID       string
	Name     string
	Image    string
	Command  arguments
	Created  time.Time
	Started  time.Time // zero until the command runs
	Finished time.Time // zero until it has ended, and for ever if its shim was killed
	PID      int       // of its process 1, as the host counts
	Status   int       // its exit status
	Error    string    // what there is to say about its end besides

	overlay *overlay
}

// newContainer makes a container's directory and its record, and takes its name: in this order,
// so that whoever clears up behind us knows of the name.
func newContainer(id string, image []string, opts runOptions) (_ *container, err error) {
	c := &container{ID: id, Name: opts.name, Image: opts.image, Command: opts.command, Created: time.Now()}
	if c.overlay, err = newOverlay(id, image); err != nil {
		return nil, err
	}
	defer undoOnError(&err, c.overlay.remove)
	if err := c.save(); err != nil {
		return nil, err
	}
	if err := c.takeName(); err != nil {
		return nil, err
	}
	return c, nil
}

// hasStarted records that the command runs.
func (c *container) hasStarted(pid int) error {
	c.PID, c.Started = pid, time.Now()
	return c.save()
}

// hasEnded records how the command has ended, or leaves nothing if it never ran. It comes when
// all else is undone: a record without an end says that somebody has to clear up.
func (c *container) hasEnded(end *error) {
	if c.Started.IsZero() {
		undo(end, c.removeUnlessStarted)
		return
	}
	var exit exitError
	errors.As(*end, &exit)
	c.Status, c.Finished = exit.status, time.Now()
	if exit.err != nil {
		c.Error = exit.err.Error()
	}
	undo(end, c.save)
}

// removeUnlessStarted leaves nothing of a container whose command never ran. The name goes
// first, so that there is never a name without a container.
func (c *container) removeUnlessStarted() error {
	if !c.Started.IsZero() {
		return nil
	}
	if err := c.dropName(); err != nil {
		return err
	}
	return c.overlay.remove()
}

// recordFile is the name of a container's record in its directory.
const recordFile = "container.json"

// save writes the record.
func (c *container) save() error {
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return fmt.Errorf("recording the container: %w", err)
	}
	if err := replaceFile(filepath.Join(containersDir(), c.ID, recordFile), append(data, '\n')); err != nil {
		return fmt.Errorf("recording the container: %w", err)
	}
	return nil
}

// readContainer returns the record of a container.
func readContainer(id string) (*container, error) {
	data, err := os.ReadFile(filepath.Join(containersDir(), id, recordFile))
	if err != nil {
		return nil, fmt.Errorf("reading the record of container %s: %w", id, err)
	}
	c := &container{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the record of container %s: %w", id, err)
	}
	return c, nil
}

// containerName is what a container may be called.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func checkContainerName(name string) error {
	if name != "" && !containerName.MatchString(name) {
		return fmt.Errorf("invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// nameLink is where a name leads to the ID of its container.
func nameLink(name string) string {
	return filepath.Join(stateDir(), "names", name)
}

// takeName takes the container's name, if it has one and nobody else does.
func (c *container) takeName() error {
	if c.Name == "" {
		return nil
	}
	err := c.linkName()
	if errors.Is(err, fs.ErrExist) {
		owner, _ := os.Readlink(nameLink(c.Name)) // only for the message
		return fmt.Errorf(`conflict. The container name "/%s" is already in use by container "%s"`, c.Name, owner)
	}
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	return nil
}

// linkName makes the link from the name to the ID. That it is the only one is the kernel's
// work: of two who make the same link at once, one is told that it is there.
func (c *container) linkName() error {
	link := nameLink(c.Name)
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	return os.Symlink(c.ID, link)
}

// dropName gives the name back, if it was ever ours.
func (c *container) dropName() error {
	owner, _ := os.Readlink(nameLink(c.Name)) // nobody, if there is no such link
	if c.Name == "" || owner != c.ID {
		return nil
	}
	if err := os.Remove(nameLink(c.Name)); err != nil {
		return fmt.Errorf("giving back the name: %w", err)
	}
	return nil
}

// arguments is a command line that survives JSON byte for byte. JSON's strings must be UTF-8
// and arguments need not be, so they are kept as one []byte, which JSON has in base64, with
// NUL between them: the one byte that no argument can hold.
type arguments []string

func (a arguments) MarshalJSON() ([]byte, error) {
	return json.Marshal([]byte(strings.Join(a, "\x00")))
}

func (a *arguments) UnmarshalJSON(data []byte) error {
	var joined []byte
	if err := json.Unmarshal(data, &joined); err != nil {
		return err
	}
	*a = strings.Split(string(joined), "\x00")
	return nil
}
