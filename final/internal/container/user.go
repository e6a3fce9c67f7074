//go:build linux

package container

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/lixd/mydocker/final/internal/runtime"
)

// FindUser returns who "name", "uid", "name:group" or "uid:gid" is, in the container's own
// files passwd and group, and the home directory. An empty text is root. A number need not be in
// the files. See passwd(5) and group(5).
func (c *Container) FindUser(text string) (user runtime.User, home string, err error) {
	name, group, hasGroup := strings.Cut(text, ":")
	if name == "" {
		name = "0"
	}
	home = "/"
	uid, numberErr := strconv.ParseUint(name, 10, 31)
	entry := c.lookUp("etc/passwd", name, 0, 2)
	switch {
	case len(entry) > 5:
		user.UID, user.GID, home = number(entry[2]), number(entry[3]), entry[5]
	case numberErr == nil:
		user.UID = uint32(uid)
		if uid == 0 {
			home = "/root"
		}
	default:
		return user, "", fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	}
	if !hasGroup {
		if entry != nil {
			user.Groups = c.groupsOf(entry[0])
		}
		return user, home, nil
	}
	gid, numberErr := strconv.ParseUint(group, 10, 31)
	entry = c.lookUp("etc/group", group, 0, 2)
	switch {
	case len(entry) > 2:
		user.GID = number(entry[2])
	case numberErr == nil:
		user.GID = uint32(gid)
	default:
		return user, "", fmt.Errorf("unable to find group %s: no matching entries in group file", group)
	}
	return user, home, nil
}

// number is for numbers of files that somebody else has written. What is none is nobody.
func number(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 65534
	}
	return uint32(n)
}

// lookUp returns the entry of a file of lines with colons that has a text in one of the columns.
func (c *Container) lookUp(file, text string, columns ...int) (found []string) {
	c.eachEntry(file, func(entry []string) {
		for _, column := range columns {
			if found == nil && column < len(entry) && entry[column] == text {
				found = entry
			}
		}
	})
	return found
}

// groupsOf returns the groups that name a user as a member.
func (c *Container) groupsOf(user string) (groups []uint32) {
	c.eachEntry("etc/group", func(entry []string) {
		if len(entry) > 3 && slices.Contains(strings.Split(entry[3], ","), user) {
			groups = append(groups, number(entry[2]))
		}
	})
	return groups
}

func (c *Container) eachEntry(file string, do func(entry []string)) {
	content, err := c.openFile(file)
	if err != nil {
		return // not every image has one
	}
	defer content.Close()
	for lines := bufio.NewScanner(content); lines.Scan(); {
		do(strings.Split(lines.Text(), ":"))
	}
}

// openFile opens a file of the container's by looking where overlayfs would: in its own layer,
// then in those of the image. No link leads out of a layer.
func (c *Container) openFile(name string) (*os.File, error) {
	for _, dir := range append([]string{c.Upper()}, c.layers()...) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		info, err := root.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			root.Close()
			continue
		}
		if err == nil && !info.Mode().IsRegular() { // a whiteout
			err = fs.ErrNotExist
		}
		var file *os.File
		if err == nil {
			file, err = root.Open(name)
		}
		root.Close()
		return file, err
	}
	return nil, fs.ErrNotExist
}
