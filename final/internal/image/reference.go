// Package image keeps images: their layers, each unpacked once and shared by all who have it,
// their configurations, and their names.
//
// A store is a directory. Everything in it that is addressed by a digest is made in a temporary
// place, renamed when it is whole, and never changed again:
//
//	images/NAME.tar                  archives of files put in by hand, imported when first used
//	images/names/NAME                a symlink to the image's ID, with % for /
//	images/sha256/ID/config.json     the configuration whose digest the ID is
//	layers/sha256/DIFFID/fs          a layer's files, whiteouts as overlayfs has them
//	layers/sha256/DIFFID/layer.json  what is known about the layer
//
// Nothing here knows of containers: what they use, the caller says.
package image

import (
	"fmt"
	"strings"

	"github.com/lixd/mydocker/final/internal/oci"
)

const (
	defaultTag    = "latest"
	defaultDomain = "docker.io"
	officialPath  = "library/"
	maxName       = 255 // bytes: a name is a file's name too, see path_resolution(7)
)

// reference is what people call an image, taken apart.
type reference struct {
	repository string // as people write it: without docker.io/ and library/
	tag        string // empty with a digest
	digest     string // sha256:..., or empty
}

// name is what the store files the image under.
func (r reference) name() string { return r.repository + ":" + r.tag }

// full is the name with all that goes without saying.
func (r reference) full() string {
	domain, _, found := strings.Cut(r.repository, "/")
	switch {
	case !found:
		return defaultDomain + "/" + officialPath + r.name()
	case !isHost(domain):
		return defaultDomain + "/" + r.name()
	default:
		return r.name()
	}
}

// isHost says whether what is before the first slash is a host, not a part of the path.
func isHost(s string) bool {
	return strings.ContainsAny(s, ".:") || s == "localhost" || strings.ToLower(s) != s
}

// parseReference takes [HOST[:PORT]/]PATH[:TAG][@DIGEST] apart, by the grammar of
// github.com/distribution/reference. That package itself spends 0.7 ms on compiling patterns
// whenever a program starts that links it.
func parseReference(s string) (reference, error) {
	rest, digest, digested := strings.Cut(s, "@")
	repository, tag := rest, ""
	if colon := strings.LastIndexByte(rest, ':'); colon > strings.LastIndexByte(rest, '/') {
		repository, tag = rest[:colon], rest[colon+1:]
		if !isTag(tag) {
			return reference{}, fmt.Errorf("invalid reference format: %q is no tag", tag)
		}
	}
	if digested && !isDigest(digest) {
		return reference{}, fmt.Errorf("invalid reference format: %q is no digest", digest)
	}
	repository, err := familiar(repository)
	if err != nil {
		return reference{}, fmt.Errorf("invalid reference format: %q: %w", s, err)
	}
	if tag == "" && !digested {
		tag = defaultTag
	}
	r := reference{repository: repository, tag: tag, digest: digest}
	if len(r.name()) > maxName {
		return reference{}, fmt.Errorf("invalid reference format: %q has more than %d bytes", s, maxName)
	}
	return r, nil
}

// familiar checks a repository's name, and leaves out of it what goes without saying.
func familiar(repository string) (string, error) {
	domain, path, found := strings.Cut(repository, "/")
	if !found || !isHost(domain) {
		domain, path = defaultDomain, repository
	}
	if domain == "index.docker.io" {
		domain = defaultDomain
	}
	if strings.ToLower(path) != path {
		return "", fmt.Errorf("repository name %s must be lowercase", path)
	}
	if !isDomain(domain) {
		return "", fmt.Errorf("%q is no host", domain)
	}
	for component := range strings.SplitSeq(path, "/") {
		if !isPathComponent(component) {
			return "", fmt.Errorf("%q is no part of a repository's name", component)
		}
	}
	if domain != defaultDomain {
		return domain + "/" + path, nil
	}
	if short := strings.TrimPrefix(path, officialPath); !strings.Contains(short, "/") {
		return short, nil
	}
	return path, nil
}

const (
	digits  = "0123456789"
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// only says whether s is at least one byte long and has no bytes but these.
func only(s, bytes string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(bytes, r) })
}

func isTag(s string) bool {
	return only(s, letters+digits+"_.-") && len(s) <= 128 && !strings.ContainsAny(s[:1], ".-")
}

func isDomain(s string) bool {
	host, port, found := strings.Cut(s, ":")
	if found && !only(port, digits) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !only(label, letters+digits+"-") || strings.Trim(label, "-") != label {
			return false
		}
	}
	return true
}

// isPathComponent says whether s is words of letters and digits with one separator between
// any two: a dot, one or two underscores, or any number of dashes.
func isPathComponent(s string) bool {
	isSeparator := func(r rune) bool { return strings.ContainsRune("._-", r) }
	if !only(s, lower+digits+"._-") || strings.TrimFunc(s, isSeparator) != s {
		return false
	}
	for separator := range strings.FieldsFuncSeq(s, func(r rune) bool { return !isSeparator(r) }) {
		if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
			return false
		}
	}
	return true
}

func isDigest(s string) bool {
	hex, found := strings.CutPrefix(s, oci.DigestPrefix)
	return found && isHex(hex) && len(hex) == 64
}

func isHex(s string) bool { return only(s, digits+"abcdef") }
