//go:build linux

package container

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/network"
)

// Store is all containers, in the state directory.
type Store struct {
	Root     string
	Networks *network.Store
}

// Open returns the containers below the state directory root, an absolute path.
func Open(root string) *Store {
	return &Store{Root: root, Networks: network.Open(root)}
}

func (s *Store) containers() string { return filepath.Join(s.Root, "containers") }

// making is where a container is made. It appears among the others when it is whole.
func (s *Store) making() string { return filepath.Join(s.containers(), ".making") }

// Create makes a container of what c says, with the volumes that it wants, and takes its name, or
// finds one for it. The error says who has the name, if somebody has.
func (s *Store) Create(c *Container) (err error) {
	c.Version, c.Created, c.store = version, time.Now().UTC(), s
	dir := filepath.Join(s.making(), c.ID)
	for _, part := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, part), 0o755); err != nil {
			return fmt.Errorf("making the container's directory: %w", err)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.dropName(c), c.removeVolumes(), os.RemoveAll(dir))
		}
	}()
	lock, err := lockDir(dir, 0) // it is nobody else's, but some may be looking
	if err != nil {
		return err
	}
	defer lock.Close()
	fault.Point("create-directory")
	if err := s.sweep(); err != nil {
		return err
	}
	if err := s.clearOrphans(); err != nil {
		log.Warn(err) // a pity, but none of the new container's business
	}
	if err := s.takeName(c); err != nil {
		return err
	}
	fault.Point("create-name")
	release, err := c.makeMounts()
	if err != nil {
		return err
	}
	defer release()
	if err := c.save(dir); err != nil {
		return err
	}
	if err := os.Rename(dir, c.Dir()); err != nil {
		return fmt.Errorf("making the container's directory: %w", err)
	}
	fault.Point("create-whole")
	return nil
}

// sweep removes what those have left who were killed in the middle of Create: their lock ended
// with them. It costs nothing while there are none.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.making())
	if err != nil {
		return fmt.Errorf("looking for what is left over: %w", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(s.making(), entry.Name())
		if isLocked(dir) || isYoung(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing what is left over: %w", err)
		}
	}
	return nil
}

// isYoung tells whether a directory may be of somebody who has yet to lock it.
func isYoung(dir string) bool {
	info, err := os.Stat(dir)
	return err != nil || time.Since(info.ModTime()) < time.Minute
}

// lockDir takes the lock on a directory. If somebody has it, it waits, or fails with LOCK_NB.
func lockDir(dir string, flags int) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("locking the container: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|flags); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking the container: %w", err)
	}
	return file, nil
}

// List returns all containers, the newest first, and what is wrong with records that cannot be read.
func (s *Store) List() ([]*Container, error) {
	entries, err := os.ReadDir(s.containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for containers: %w", err)
	}
	var containers []*Container
	var errs []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		c, err := s.read(entry.Name())
		switch {
		case err == nil:
			containers = append(containers, c)
		case !errors.Is(err, fs.ErrNotExist): // which is one that goes in this moment
			errs = append(errs, err)
		}
	}
	slices.SortFunc(containers, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return containers, errors.Join(errs...)
}

// NotFoundError says that there is no container of that name or ID.
type NotFoundError struct{ Given string }

func (e NotFoundError) Error() string { return "no such container: " + e.Given }

// Find returns the container that has this ID, or else this name, or else is the only one whose
// ID begins with it.
func (s *Store) Find(given string) (*Container, error) {
	if given == "" {
		return nil, errors.New(`invalid name or ID supplied: ""`)
	}
	given = strings.TrimPrefix(given, "/")
	id, err := s.findID(given)
	if err != nil {
		return nil, err
	}
	c, err := s.read(id)
	if errors.Is(err, fs.ErrNotExist) || err == nil && c.Name != given && !strings.HasPrefix(id, given) {
		return nil, NotFoundError{given} // it is gone, or was renamed by somebody who was killed
	}
	return c, err
}

func (s *Store) findID(given string) (string, error) {
	if !validName.MatchString(given + "-") { // one digit will do, of an ID
		return "", NotFoundError{given}
	}
	if _, err := os.Lstat(filepath.Join(s.containers(), given)); err == nil {
		return given, nil
	}
	if id, err := os.Readlink(s.nameLink(given)); err == nil {
		return id, nil
	}
	entries, err := os.ReadDir(s.containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("looking for containers: %w", err)
	}
	found := slices.DeleteFunc(entries, func(entry os.DirEntry) bool { return !strings.HasPrefix(entry.Name(), given) })
	switch len(found) {
	case 0:
		return "", NotFoundError{given}
	case 1:
		return found[0].Name(), nil
	default:
		return "", fmt.Errorf("multiple IDs found with provided prefix: %s", given)
	}
}

// NewID returns 32 random bytes as 64 hexadecimal digits. Cut short an ID is the hostname too, so
// the short form is never a number: some programs take such a name for an address.
func NewID() string {
	for {
		bytes := make([]byte, 32)
		rand.Read(bytes) // never fails, see crypto/rand
		id := hex.EncodeToString(bytes)
		if strings.ContainsAny(ShortID(id), "abcdef") {
			return id
		}
	}
}

// ShortID returns the twelve digits of an ID that people get to see.
func ShortID(id string) string { return id[:min(12, len(id))] }

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName refuses what cannot be a container's name. An empty one is replaced by Create.
func CheckName(name string) error {
	if name != "" && !validName.MatchString(name) {
		return fmt.Errorf("invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	return nil
}

// nameLink is where a name leads to the ID of its container.
func (s *Store) nameLink(name string) string { return filepath.Join(s.Root, "names", name) }

// takeName takes the container's name. Where two words do not do for a name that was made up,
// its ID makes the difference.
func (s *Store) takeName(c *Container) error {
	if c.Name != "" {
		return s.linkName(c.Name, c.ID)
	}
	c.Name = moods[mathrand.IntN(len(moods))] + "_" + surnames[mathrand.IntN(len(surnames))]
	if s.linkName(c.Name, c.ID) == nil {
		return nil
	}
	c.Name += "_" + c.ShortID()
	return s.linkName(c.Name, c.ID)
}

// linkName makes the link from a name to an ID. That it is the only one is the kernel's work:
// of two who make the same link at once, one is told that it is there.
func (s *Store) linkName(name, id string) error {
	link := s.nameLink(name)
	err := os.MkdirAll(filepath.Dir(link), 0o700)
	if err == nil {
		err = os.Symlink(id, link)
	}
	if errors.Is(err, fs.ErrExist) {
		return s.takeOverName(name, id)
	}
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	return nil
}

// takeOverName is linkName for a name that leads somewhere, which may be because somebody was
// killed. One does that at a time: else two would find the same link, and both remove it.
func (s *Store) takeOverName(name, id string) error {
	link := s.nameLink(name)
	lock, err := os.Open(filepath.Dir(link))
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	owner, _ := os.Readlink(link) // nobody, if it is just given back
	if owner == id {
		return nil // of an earlier attempt
	}
	if !s.isAbandoned(name, owner) {
		return fmt.Errorf(`conflict. The container name "/%s" is already in use by container "%s"`, name, owner)
	}
	err = os.Remove(link)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Symlink(id, link)
	}
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	return nil
}

// isAbandoned tells whether there is no container of this ID, nor one that is being made, or it
// has another name and is not being renamed: its mydocker was killed.
func (s *Store) isAbandoned(name, id string) bool {
	if isLocked(filepath.Join(s.making(), id)) || isLocked(filepath.Join(s.containers(), id, lockName)) {
		return false
	}
	owner, err := s.read(id) // asked last, as that is where it goes
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return owner.Name != name
}

// dropName gives the name back, if it was ever the container's.
func (s *Store) dropName(c *Container) error {
	owner, _ := os.Readlink(s.nameLink(c.Name)) // nobody, if there is no such link
	if c.Name == "" || owner != c.ID {
		return nil
	}
	if err := os.Remove(s.nameLink(c.Name)); err != nil {
		return fmt.Errorf("giving back the name: %w", err)
	}
	return nil
}

// Rename gives the container another name. It is nobody else's to change until that is done.
func (c *Container) Rename(name string) error {
	if name == "" {
		return errors.New("neither old nor new names may be empty")
	}
	if err := CheckName(name); err != nil {
		return err
	}
	lock, err := lockFile(c.path(lockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	old, err := c.store.read(c.ID)
	if err != nil {
		return err
	}
	if old.Removing {
		return fmt.Errorf("container %s is being removed", old.ID)
	}
	if name == old.Name {
		return errors.New("renaming a container with the same name as its current name")
	}
	if err := c.store.linkName(name, c.ID); err != nil {
		return err
	}
	fault.Point("rename-link")
	*c = *old
	c.Name = name
	if err := c.save(c.Dir()); err != nil {
		return err
	}
	fault.Point("rename-recorded")
	return c.store.dropName(old)
}
