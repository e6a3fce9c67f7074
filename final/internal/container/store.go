//go:build linux

package container

import (
	"context"
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
	"sync"
	"time"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/flock"
	"github.com/lixd/mydocker/final/internal/instance"
	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/record"
)

// Store is all containers. Those with --rm do not outlive the machine's run, so their records are
// in the runtime directory, which is in memory: that is faster, and spares the disk. All others
// are in the state directory.
type Store struct {
	Root     string          // the state directory
	Run      string          // the runtime directory, which is empty when the machine has started
	Context  context.Context // ends every wait for a lock, and the copy into a new volume
	Networks *network.Store
	Groups   cgroup.Parent // of the containers' cgroups
}

// Interruptible returns the store, which gives up what takes long when the context ends.
func (s *Store) Interruptible(ctx context.Context) *Store {
	s.Context, s.Networks.Context = ctx, ctx
	return s
}

// Open returns the containers of the state directory root, an absolute path.
func Open(root string) *Store {
	return &Store{
		Root: root, Run: filepath.Join("/run/mydocker", root), Context: context.Background(),
		Networks: network.Open(root), Groups: cgroup.Parent(instance.Name(root)),
	}
}

// place is one of the two directories that have containers, and their names.
type place string

func (s *Store) places() []place { return []place{place(s.Run), place(s.Root)} }

// placeOf returns where the container of this ID is, if there is one.
func (s *Store) placeOf(id string) place {
	if run := place(s.Run); exists(run.container(id)) {
		return run
	}
	return place(s.Root)
}

func (p place) containers() string { return filepath.Join(string(p), "containers") }

func (p place) container(id string) string { return filepath.Join(p.containers(), id) }

// making is where a container is made. It appears among the others when it is whole.
func (p place) making(id string) string { return filepath.Join(p.containers(), ".making", id) }

// nameLink is where a name leads to the ID of its container.
func (p place) nameLink(name string) string { return filepath.Join(string(p), "names", name) }

// Create makes a container of what c says, with the volumes that it wants, and takes its name, or
// finds one for it. The error says who has the name, if somebody has.
func (s *Store) Create(c *Container) (err error) {
	c.Version, c.Created, c.store, c.place = version, time.Now().UTC(), s, place(s.Root)
	if c.Config.AutoRemove {
		c.place = place(s.Run)
	}
	dir := c.place.making(c.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the container's directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.dropName(c), c.removeVolumes(), c.removeLarge(), os.RemoveAll(dir))
		}
	}()
	lock, err := lockDir(dir, 0) // it is nobody else's, but some may be looking
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.makeLayer(dir); err != nil {
		return fmt.Errorf("making the container's layer: %w", err)
	}
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
	fault.Point("create-volumes")
	if err := c.save(dir, c.durably()); err != nil {
		return err
	}
	if err := os.Rename(dir, c.Dir()); err != nil {
		return fmt.Errorf("making the container's directory: %w", err)
	}
	if !c.Config.AutoRemove {
		if err := record.SyncDirs(c.place.containers(), c.place.nameLink("")); err != nil {
			return fmt.Errorf("recording the container: %w", errors.Join(err, os.Rename(c.Dir(), dir)))
		}
	}
	fault.Point("create-whole")
	return nil
}

// sweep removes what those have left who were killed in the middle of Create: their lock ended
// with them. It costs nothing while there are none.
func (s *Store) sweep() error {
	var errs []error
	for _, p := range s.places() {
		err := removeIf(p.making(""), func(id string) bool {
			if isLocked(p.making(id)) || isYoung(p.making(id)) {
				return false
			}
			c := &Container{ID: id, store: s, place: p}
			c.findOwnVolumes()
			err := errors.Join(c.removeVolumes(), c.removeLarge())
			errs = append(errs, err)
			return err == nil
		})
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing what is left over: %w", err)
	}
	return nil
}

// removeIf removes some of what is in a directory, which need not be there.
func removeIf(dir string, isToGo func(name string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if !isToGo(entry.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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

// List returns all containers, the newest first, those with a damaged record among them.
func (s *Store) List() ([]*Container, error) {
	var containers []*Container
	var errs []error
	for _, p := range s.places() {
		ids, err := p.ids()
		errs = append(errs, err)
		for _, id := range ids {
			c, err := s.readFrom(p, id)
			if err == nil { // else it has gone in this moment
				containers = append(containers, c)
			}
		}
	}
	slices.SortFunc(containers, func(a, b *Container) int { return b.Created.Compare(a.Created) })
	return containers, errors.Join(errs...)
}

// ids returns the IDs of all containers here.
func (p place) ids() (ids []string, err error) {
	entries, err := os.ReadDir(p.containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for containers: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
			ids = append(ids, entry.Name())
		}
	}
	return ids, nil
}

// NotFoundError says that there is no container of that name or ID.
type NotFoundError struct{ Given string }

func (e NotFoundError) Error() string { return "no such container: " + e.Given }

// Is makes a container that is gone one of the things that do not exist.
func (e NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// Find returns the container that has this ID, or else this name, or else is the only one whose
// ID begins with it. With an error that the record is damaged it also returns the container, for
// Remove.
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
		return s.findRecorded(given) // it is gone, or was renamed by a process that was killed
	}
	return c, err
}

// findRecorded finds a container by the name in its record, as its link may be lost or another's.
func (s *Store) findRecorded(name string) (*Container, error) {
	all, err := s.List()
	for _, c := range all {
		if c.Name == name {
			return c, c.damage
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, NotFoundError{name}
}

// findID returns the ID that something is, or is the name of, or begins. Without one it is the
// name of no container, or of one whose link is lost.
func (s *Store) findID(given string) (string, error) {
	if !validName().MatchString(given + "-") { // one digit will do, of an ID
		return "", NotFoundError{given}
	}
	if exists(s.placeOf(given).container(given)) {
		return given, nil
	}
	if id, _ := s.owner(given); id != "" {
		return id, nil
	}
	var found []string
	for _, p := range s.places() {
		ids, err := p.ids()
		if err != nil {
			return "", err
		}
		found = append(found, slices.DeleteFunc(ids, func(id string) bool { return !strings.HasPrefix(id, given) })...)
	}
	switch len(found) {
	case 0:
		return given, nil
	case 1:
		return found[0], nil
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

// validName is compiled when it is needed: few commands are given a new name.
var validName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
})

// maxName is how many characters a name may have: it is a file's.
const maxName = 255

// CheckName refuses what cannot be a container's name. An empty one is replaced by Create.
func CheckName(name string) error {
	if name == "" {
		return nil
	}
	return checkName("container", name, "")
}

// checkName refuses what cannot be the name of a thing, and says what else may have been meant.
func checkName(thing, name, hint string) error {
	if !validName().MatchString(name) {
		return fmt.Errorf("invalid %s name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed%s", thing, name, hint)
	}
	if len(name) > maxName {
		return fmt.Errorf("invalid %s name (%.20s...): it has %d characters, and %d are allowed", thing, name, len(name), maxName)
	}
	return nil
}

// takeName takes the container's name. Where two words do not do for a name that was made up,
// its ID makes the difference.
func (s *Store) takeName(c *Container) error {
	if c.Name != "" {
		return s.linkName(c, c.Name)
	}
	for range 5 {
		c.Name = moods[mathrand.IntN(len(moods))] + "_" + surnames[mathrand.IntN(len(surnames))]
		if s.linkName(c, c.Name) == nil {
			return nil
		}
	}
	c.Name += "_" + c.ShortID()
	return s.linkName(c, c.Name)
}

// linkName makes the link from a name to a container's ID, with that of one that was killed out of
// the way. One does that at a time: else two would find that the same name is free.
func (s *Store) linkName(c *Container, name string) error {
	lock, err := s.lockNames()
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	defer lock.Close()
	owner, link := s.owner(name)
	if owner == c.ID {
		return nil // of an earlier attempt
	}
	if owner != "" && !s.isAbandoned(name, owner) {
		return fmt.Errorf(`conflict. The container name "/%s" is already in use by container "%s"`, name, owner)
	}
	if link != "" {
		err = os.RemoveAll(link)
	}
	link = c.place.nameLink(name)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(link), 0o700)
	}
	if err == nil {
		err = os.Symlink(c.ID, link)
	}
	if err != nil {
		return fmt.Errorf("taking the name: %w", err)
	}
	return nil
}

func (s *Store) lockNames() (*os.File, error) {
	dir := place(s.Root).nameLink("")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := flock.Lock(s.Context, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// owner returns the ID that a name leads to, or "", and the link. In the place of the link there
// may be something else, which leads nowhere.
func (s *Store) owner(name string) (id, link string) {
	for _, p := range s.places() {
		link = p.nameLink(name)
		id, err := os.Readlink(link)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return id, link
		}
	}
	return "", ""
}

// nameOf returns the name that leads to an ID, or "".
func (s *Store) nameOf(id string) string {
	for _, p := range s.places() {
		entries, _ := os.ReadDir(p.nameLink("")) // none, before the first container
		for _, entry := range entries {
			if owner, err := os.Readlink(p.nameLink(entry.Name())); err == nil && owner == id {
				return entry.Name()
			}
		}
	}
	return ""
}

// isAbandoned tells whether there is no container of this ID, nor one that is being made, or it
// has another name and is not being renamed: its mydocker was killed.
func (s *Store) isAbandoned(name, id string) bool {
	for _, p := range s.places() {
		if isLocked(p.making(id)) || isLocked(filepath.Join(p.container(id), lockName)) {
			return false
		}
	}
	owner, err := s.read(id) // asked last, as that is where it goes
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return owner.Name != name
}

// dropName gives the name back, if it was ever the container's.
func (s *Store) dropName(c *Container) error {
	owner, link := s.owner(c.Name)
	if c.Name == "" || owner != c.ID {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	lock, err := c.lockRecord()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.refreshToChange(); err != nil {
		return err
	}
	old := *c
	if name == old.Name {
		return errors.New("renaming a container with the same name as its current name")
	}
	if err := c.store.linkName(c, name); err != nil {
		return err
	}
	fault.Point("rename-link")
	c.Name = name
	if err := c.save(c.Dir(), c.durably()); err != nil {
		return errors.Join(err, c.store.dropName(c))
	}
	fault.Point("rename-recorded")
	if err := c.store.dropName(&old); err != nil {
		return err
	}
	return record.SyncDirs(filepath.Dir(c.place.nameLink(name)))
}
