//go:build linux

package runtime

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// resolveTargets replaces those paths of the container that are made if they are missing: the
// targets of mounts and the working directory. The player follows links, but makes nothing at
// the end of a dangling one. So where links are on the way, their ends are found here, in a view
// of the container's root, and the player gets paths without links.
func (s *Spec) resolveTargets() error {
	s.Tmpfs, s.Volumes = slices.Clone(s.Tmpfs), slices.Clone(s.Volumes) // the caller's stay as they are
	var targets []*string                                               // in the order in which they are made
	for i := range s.Tmpfs {
		targets = append(targets, &s.Tmpfs[i].Target)
	}
	for i := range s.Volumes {
		targets = append(targets, &s.Volumes[i].Target)
	}
	targets = append(targets, &s.Dir)

	layers := append([]string{s.Root.Upper}, s.Root.Layers...)
	if !haveLinks(layers, targets) {
		return nil
	}
	return View(layers, s.Root.Target, "/", func(dir string) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		mounted := []string{"/proc", "/sys", "/dev"}
		for _, target := range targets {
			if *target, err = resolve(root, *target, mounted); err != nil {
				return err
			}
			mounted = append(mounted, *target)
		}
		return nil
	})
}

// haveLinks reports whether any layer has a link on the way to one of the paths. That is quick to
// see, and spares most starts a mount.
func haveLinks(layers []string, targets []*string) bool {
	seen := map[string]bool{}
	for _, target := range targets {
		for p := path.Clean("/" + *target); p != "/" && !seen[p]; p = path.Dir(p) {
			seen[p] = true
			for _, layer := range layers {
				var stat unix.Stat_t
				if unix.Lstat(filepath.Join(layer, p), &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
					return true
				}
			}
		}
	}
	return false
}

// resolve follows the links on the way to a path, of which the end may be missing. A way into
// what will be mounted is left to the player, which follows it when that is mounted.
func resolve(root *os.Root, target string, mounted []string) (string, error) {
	const mostLinks = 40 // as the kernel has it: see path_resolution(7)
	resolved, rest := "/", strings.Split(target, "/")
	for links := 0; len(rest) > 0 && !slices.Contains(mounted, resolved); {
		next := path.Join(resolved, rest[0])
		rest = rest[1:]
		link, err := root.Readlink("." + next)
		if err != nil { // it is no link, or it is missing
			resolved = next
			continue
		}
		if links++; links > mostLinks {
			return "", &os.PathError{Op: "following the links of", Path: target, Err: unix.ELOOP}
		}
		if path.IsAbs(link) {
			resolved = "/"
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	if len(rest) > 0 {
		return target, nil
	}
	return resolved, nil
}
