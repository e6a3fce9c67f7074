// Package oci has the formats of the OCI image specification, as far as mydocker reads or writes
// them: see github.com/opencontainers/image-spec. The package there would have every command wait
// for a fifth of a millisecond, in which it compiles regular expressions, also when there is no
// image to look at.
package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Digest is what a content is known by: its algorithm, a colon, and its hash in hexadecimal digits.
type Digest string

// DigestPrefix is what all digests begin with that mydocker knows.
const DigestPrefix = "sha256:"

// NewDigest returns the digest for a hash of SHA-256.
func NewDigest(hash []byte) Digest { return Digest(DigestPrefix + hex.EncodeToString(hash)) }

// FromBytes returns the digest of a content.
func FromBytes(content []byte) Digest {
	hash := sha256.Sum256(content)
	return NewDigest(hash[:])
}

// Encoded returns the hexadecimal digits.
func (d Digest) Encoded() string { return strings.TrimPrefix(string(d), DigestPrefix) }

// The types of contents.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeImageConfig    = "application/vnd.oci.image.config.v1+json"
	MediaTypeImageLayer     = "application/vnd.oci.image.layer.v1.tar"
	MediaTypeImageLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Descriptor refers to a content. See "descriptor.md".
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"` // in bytes
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *Platform         `json:"platform,omitempty"`
}

// AnnotationRefName is the annotation with the name of an image.
const AnnotationRefName = "org.opencontainers.image.ref.name"

// Platform is the kind of machine that an image is for.
type Platform struct {
	Architecture string `json:"architecture"` // as in runtime.GOARCH
	OS           string `json:"os"`           // as in runtime.GOOS
	Variant      string `json:"variant,omitempty"`
}

// SchemaVersion is that of manifests and indexes.
const SchemaVersion = 2

// Manifest is an image for one platform. See "manifest.md".
type Manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"` // the lowest first
}

// Index is a list of manifests. See "image-index.md".
type Index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []Descriptor `json:"manifests"`
}

// The file by which an archive says that it is an image layout. See "image-layout.md".
const (
	ImageLayoutFile    = "oci-layout"
	ImageLayoutVersion = "1.0.0"
)

// ImageLayout is what is in there.
type ImageLayout struct {
	Version string `json:"imageLayoutVersion"`
}

// Image is an image's configuration, whose digest is the image's ID. See "config.md".
type Image struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	Platform
	Config  ImageConfig `json:"config,omitzero"`
	RootFS  RootFS      `json:"rootfs"`
	History []History   `json:"history,omitempty"`
}

// ImageConfig is what a container of the image begins with.
type ImageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   CommandLine         `json:"Entrypoint,omitempty"`
	Cmd          CommandLine         `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

// CommandLine is a program and its arguments. Old configurations have a string for one word.
type CommandLine []string

// UnmarshalJSON reads an array, a string or null.
func (c *CommandLine) UnmarshalJSON(data []byte) error {
	if !bytes.HasPrefix(data, []byte(`"`)) {
		return json.Unmarshal(data, (*[]string)(c))
	}
	*c = make(CommandLine, 1)
	return json.Unmarshal(data, &(*c)[0])
}

// RootFS names an image's layers, the lowest first.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []Digest `json:"diff_ids"` // of the layers as uncompressed archives
}

// History is a step of those that made an image.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"` // it made no layer
}
