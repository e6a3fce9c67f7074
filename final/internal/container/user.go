//go:build linux

package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/runtime"
)

// FindUser returns who "name", "uid", "name:group" or "uid:gid" is, in the container's own
// files passwd and group, and the home directory. An empty text is root. A number need not be in
// the files; without an entry, the group of a user is 0. See passwd(5) and group(5).
func (c *Container) FindUser(text string) (user runtime.User, home string, err error) {
	name, group, _ := strings.Cut(text, ":")
	if name == "" {
		name = "0"
	}
	home = "/"
	uid, isNumber := parseID(name)
	entry := c.lookUp("passwd", name, isNumber)
	switch {
	case len(entry) > 5:
		user.UID, user.GID, home = number(entry[2]), number(entry[3]), entry[5]
	case isNumber:
		user.UID = uid
		if uid == 0 {
			home = "/root"
		}
	default:
		return user, "", fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	if group != "" {
		if user.GID, err = c.findGroup(group); err != nil {
			return user, "", err
		}
		entry = nil // a group that is given is the only one
	}
	// The group of the user is among the others too, or the user could drop it and with it what
	// the group may not do: see CVE-2022-36109.
	user.Groups = []uint32{user.GID}
	if len(entry) > 0 {
		user.Groups = append(user.Groups, c.groupsOf(entry[0])...)
		slices.Sort(user.Groups)
		user.Groups = slices.Compact(user.Groups)
	}
	return user, home, nil
}

func (c *Container) findGroup(name string) (uint32, error) {
	gid, isNumber := parseID(name)
	entry := c.lookUp("group", name, isNumber)
	switch {
	case len(entry) > 2:
		return number(entry[2]), nil
	case isNumber:
		return gid, nil
	default:
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
	}
}

func parseID(text string) (id uint32, isNumber bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err == nil
}

// number parses an ID of a file of the container's. A malformed one becomes 65534, which is nobody.
func number(text string) uint32 {
	if id, isNumber := parseID(text); isNumber {
		return id
	}
	return 65534
}

// lookUp returns the first entry of passwd or group that has a name, or an ID. Both have the ID in
// the third column.
func (c *Container) lookUp(file, text string, isNumber bool) (found []string) {
	column := 0
	if isNumber {
		column = 2
	}
	for entry := range c.entries(file, "") {
		if column < len(entry) && entry[column] == text {
			return slices.Clone(entry)
		}
	}
	return nil
}

// groupsOf returns the groups that name a user as a member.
func (c *Container) groupsOf(user string) (groups []uint32) {
	for entry, isMember := range c.entries("group", user) {
		if isMember {
			groups = append(groups, number(entry[2]))
		}
	}
	return groups
}

// entries is readEntries for a file of the container's. Not every image has one.
func (c *Container) entries(name, member string) iter.Seq2[[]string, bool] {
	return func(yield func([]string, bool) bool) {
		if file, err := c.openUserFile(name); err == nil {
			defer file.Close()
			readEntries(file, member)(yield)
		}
	}
}

const (
	maxUserFile   = 16 << 20 // bytes: what is behind them is not read
	maxField      = 4 << 10  // bytes: a longer field is cut, and so is no name that anybody looks for
	maxColumns    = 7
	membersColumn = 3 // of group; that of passwd is a number
)

// readEntries yields the columns of every line of a file like passwd, and whether the list of members
// in the fourth one has the given name. The container may have written the file: it is never in
// memory as a whole, and neither is a line, which may have any number of members.
func readEntries(file io.Reader, member string) iter.Seq2[[]string, bool] {
	return func(yield func(entry []string, isMember bool) bool) {
		in := bufio.NewReader(io.LimitReader(file, maxUserFile))
		var entry []string
		var field []byte
		isMember := false
		for {
			b, err := in.ReadByte()
			inMembers := len(entry) == membersColumn
			if err == nil && b != ':' && b != '\n' && !(b == ',' && inMembers) {
				if len(field) <= maxField {
					field = append(field, b)
				}
				continue
			}
			text := strings.TrimSpace(string(field))
			field = field[:0]
			isMember = isMember || inMembers && member != "" && text == member
			if err == nil && b == ',' {
				continue
			}
			if len(entry) < maxColumns {
				entry = append(entry, text)
			}
			if err == nil && b == ':' {
				continue
			}
			if !yield(entry, isMember) || err != nil {
				return
			}
			entry, isMember = entry[:0], false
		}
	}
}

// openUserFile opens a file of /etc, as the container sees it without its volumes.
func (c *Container) openUserFile(name string) (*os.File, error) {
	if c.IsRunning() {
		root, err := c.Target().OpenRoot()
		if err == nil {
			defer root.Close()
			return runtime.OpenRegular(root, "etc/"+name)
		}
	}
	layers := append([]string{c.Upper()}, c.layers()...)
	if file, err := openPlain(layers, name); !errors.Is(err, errNotPlain) {
		return file, err
	}
	var file *os.File
	err := runtime.View(layers, c.Dir(), "/", func(dir string) error {
		root, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		file, err = runtime.OpenRegular(root, "etc/"+name)
		return err
	})
	return file, err
}

// errNotPlain says that only overlayfs itself can say what a name means.
var errNotPlain = errors.New("links or marks of overlayfs are on the way")

// openPlain opens a file of /etc in the topmost layer that has it. That spares most starts a mount.
func openPlain(layers []string, name string) (*os.File, error) {
	for _, layer := range layers {
		etc := filepath.Join(layer, "etc")
		info, err := os.Lstat(etc)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.IsDir() {
			return nil, errors.Join(errNotPlain, err)
		}
		file := filepath.Join(etc, name)
		info, err = os.Lstat(file)
		if err == nil && info.Mode().IsRegular() {
			return os.Open(file)
		}
		if _, markErr := unix.Lgetxattr(etc, "trusted.overlay.opaque", nil); markErr == nil || !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(errNotPlain, err)
		}
	}
	return nil, fs.ErrNotExist
}
