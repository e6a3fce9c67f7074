//go:build linux

// Package record writes and reads the files that say what there is: containers, networks, volumes
// and images, a file of JSON each.
//
// A reader sees the old record or the new one, never a part: Write writes a new file, syncs it,
// renames it over the old one, and syncs the directory. When it returns, the new record survives a
// power failure. Without the sync in the middle, a file system may put the new name on the disk
// before the data, and after a power failure the record is empty: see fsync(2) and rename(2).
//
// A sync takes half a millisecond on a good disk and ten on a bad one, so only what matters waits for it:
//
//   - What a user has asked us to keep (a container, its name, a network, a volume, an image) is
//     written by Write before the command succeeds.
//   - A change of state while a container runs is written by ReplaceFile. It is atomic for every reader
//     and survives a crash of the program. After a power failure the container is dead, whichever
//     of its states the disk has. The shim syncs the record afterwards, while nobody waits for it.
//   - What does not outlive the boot (containers with --rm, in /run) is written by ReplaceFile alone.
//
// The caller holds the lock of the record, or writes where no other process does: the new file has
// a fixed name, so that a killed process leaves at most one behind, which the next Write replaces.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"golang.org/x/sys/unix"
)

// Write writes value as the record in file. When it returns nil, the record survives a power failure.
func Write(file string, value any) error {
	data, err := Encode(value)
	if err != nil {
		return err
	}
	return WriteFile(file, data)
}

// Encode returns value as it is in a record: JSON, in which all strings survive byte for byte.
func Encode(value any) ([]byte, error) {
	data, err := json.MarshalIndent(value, "", "\t")
	if err == nil && mayHaveBytes(data) {
		data, err = json.MarshalIndent(mapStrings(reflect.ValueOf(value), escapeBytes).Interface(), "", "\t")
	}
	return append(data, '\n'), err
}

// WriteFile is Write for a record that is encoded already.
func WriteFile(file string, data []byte) error {
	if err := replace(file, data, fsync); err != nil {
		return err
	}
	return SyncDirs(filepath.Dir(file))
}

// ReplaceFile replaces the record in file at once, without waiting for the disk. A power failure
// in the next seconds may leave the old record, or on some file systems an empty one.
func ReplaceFile(file string, data []byte) error {
	return replace(file, data, func(*os.File) error { return nil })
}

func replace(file string, data []byte, sync func(*os.File) error) (err error) {
	aside := file + ".new"
	defer func() {
		if err != nil {
			_ = os.Remove(aside) // it may not be there, and the next Write replaces it
		}
	}()
	out, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	if err == nil {
		err = sync(out)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return rename(aside, file)
}

// SyncDirs waits until the disk has the names of the files in all of these directories. A new
// file, or a renamed one, is not safe before that.
func SyncDirs(dirs ...string) error {
	synced := make(chan error)
	for _, dir := range dirs { // at once: the file system commits all of them together
		go func() { synced <- Sync(dir) }()
	}
	var err error
	for range dirs {
		err = errors.Join(err, <-synced)
	}
	return err
}

// Sync waits until the disk has what is in a file, or which names are in a directory.
func Sync(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(fsync(file), file.Close())
}

// SyncTree waits until the disk has everything below dir, and whatever else its file system has.
// That takes one call, however many files there are: see syncfs(2).
func SyncTree(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}

// Steps that a test watches.
var (
	fsync  = (*os.File).Sync
	rename = os.Rename
)

// Parse reads a record into value. version points to the field of value that says the record's
// version, and known is the newest one that this program knows. The error says what is wrong.
func Parse(data []byte, value any, version *int, known int) error {
	if len(data) == 0 {
		return errors.New("it is empty")
	}
	err := json.Unmarshal(data, value)
	switch {
	case *version > known: // whatever else that version changes
		return NewerError{Version: *version, Known: known}
	case err != nil:
		return err
	case *version < 1: // as of {} and null
		return errors.New("it has no version")
	}
	if mayHaveBytes(data) {
		whole := reflect.ValueOf(value).Elem()
		whole.Set(mapStrings(whole, unescapeBytes))
	}
	return nil
}

// NewerError says that a later version of this program wrote the record.
type NewerError struct{ Version, Known int }

func (e NewerError) Error() string {
	return fmt.Sprintf("it is of version %d, and this program knows %d", e.Version, e.Known)
}

// DamagedError says that the record of a thing cannot be used: it is damaged, missing, or newer
// than this program.
type DamagedError struct {
	What   string // the thing, as in "network web"
	Reason error
	Next   string // what to do about it, as in `"mydocker network rm web" removes it`
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("reading the record of %s: %v (%s)", e.What, e.Reason, e.Next)
}

func (e *DamagedError) Unwrap() error { return e.Reason }

// ErrMissing is the reason if there is no record where one must be.
var ErrMissing = errors.New("it is missing")

// IsDamaged reports whether err says that a record cannot be used.
func IsDamaged(err error) bool { return errors.As(err, new(*DamagedError)) }

// IsNewer reports whether err says that a later version of this program wrote the record.
func IsNewer(err error) bool { return errors.As(err, &NewerError{}) }
