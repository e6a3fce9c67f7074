package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// peer is a container runtime. Ours, podman and docker have the same command line. Those that
// know no images, crun and runc, are given bundles.
type peer struct {
	name    string   // with its version
	command []string // the program, with the flags that it is always given
	run     []string // flags for run and create
	rm      []string // flags for rm, besides --force
	bundles string   // the directory of the bundles, or ""
}

// with returns a command line.
func (p *peer) with(args ...string) []string {
	return append(append([]string{}, p.command...), args...)
}

// container returns the command line of run or create, for a container of busybox.
func (p *peer) container(verb string, flags []string, command ...string) []string {
	args := append(append([]string{verb}, p.run...), flags...)
	return p.with(append(append(args, "busybox"), command...)...)
}

// once starts a container for true, and removes it.
func (p *peer) once(name string) []string {
	if p.bundles != "" {
		return p.with("run", "--bundle", filepath.Join(p.bundles, "true"), name)
	}
	return p.container("run", []string{"--rm", "--network", "none"}, "true")
}

// detached starts a container that stays.
func (p *peer) detached(name string) []string {
	if p.bundles != "" {
		return p.with("run", "--detach", "--bundle", filepath.Join(p.bundles, "sleep"), name)
	}
	return p.container("run", []string{"--detach", "--network", "none", "--name", name}, "sleep", "1000")
}

// made makes a container that is there. A bundle's has to run for that.
func (p *peer) made(name string) []string {
	if p.bundles != "" {
		return p.detached(name)
	}
	return p.container("create", []string{"--network", "none", "--name", name}, "true")
}

func (p *peer) list() []string {
	if p.bundles != "" {
		return p.with("list")
	}
	return p.with("ps", "--all")
}

func (p *peer) remove(name string) []string {
	if p.bundles != "" {
		return p.with("delete", "--force", name)
	}
	return p.with(append(append([]string{"rm", "--force"}, p.rm...), name)...)
}

// findPeers gets ready those that are there, and says of the others why they are not.
func (b *bench) findPeers(image string) {
	in := func(dir string) string { return filepath.Join(b.state, dir) }
	os.Setenv("MYDOCKER_ROOT", in("mydocker"))
	os.Setenv("HOME", in("home"))

	docker := &peer{name: "docker", command: []string{"docker", "--host", "unix://" + in("docker.sock")}}
	b.add(&peer{name: "mydocker", command: []string{in("final")}}, b.importer(image))
	b.add(&peer{name: "crun", command: []string{"crun"}, bundles: in("bundles-crun")}, b.bundler(image))
	b.add(&peer{name: "runc", command: []string{"runc"}, bundles: in("bundles-runc")}, b.bundler(image))
	b.add(&peer{
		name:    "podman",
		command: []string{"podman", "--root", in("podman"), "--cgroup-manager", "cgroupfs"},
		run:     []string{"--cgroup-parent", "/" + prefix},
		rm:      []string{"--time", "0"}, // else it asks kindly first, and waits
	}, b.importer(image))
	b.add(docker, func(p *peer) error {
		if err := b.startDockerd(); err != nil {
			return err
		}
		return b.importer(image)(p)
	})
}

var version = regexp.MustCompile(`\d+\.[\d.]*\d`)

// add takes a peer in, if it is installed and can be prepared.
func (b *bench) add(p *peer, prepare func(p *peer) error) {
	if _, err := exec.LookPath(p.command[0]); err != nil {
		b.complain(p, "is left out: it is not installed")
		return
	}
	if err := prepare(p); err != nil {
		b.complain(p, "is left out: %v", err)
		return
	}
	if p.name != "mydocker" {
		told, _ := exec.Command(p.command[0], "--version").Output()
		p.name += " " + version.FindString(string(told))
	}
	b.peers = append(b.peers, p)
}

// importer gives the image to a peer that knows images.
func (b *bench) importer(image string) func(p *peer) error {
	return func(p *peer) error { return b.do(p.with("import", image, "busybox")) }
}

// bundler writes the bundles for a peer that does not: what its own spec says, with the image's
// files, and in a cgroup namespace.
func (b *bench) bundler(image string) func(p *peer) error {
	return func(p *peer) error {
		rootfs := filepath.Join(p.bundles, "rootfs")
		if err := os.MkdirAll(rootfs, 0o700); err != nil {
			return err
		}
		if err := b.do([]string{"tar", "-C", rootfs, "-xf", image}); err != nil {
			return err
		}
		if err := b.do([]string{p.command[0], "spec", "--bundle", p.bundles}); err != nil {
			return err
		}
		spec, err := os.ReadFile(filepath.Join(p.bundles, "config.json"))
		if err != nil {
			return err
		}
		for name, args := range map[string][]string{"true": {"true"}, "sleep": {"sleep", "1000"}} {
			config, err := configure(spec, rootfs, args)
			if err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(p.bundles, name), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(p.bundles, name, "config.json"), config, 0o600); err != nil {
				return err
			}
		}
		return nil
	}
}

func configure(spec []byte, rootfs string, args []string) ([]byte, error) {
	var config struct {
		Version  string           `json:"ociVersion"`
		Process  map[string]any   `json:"process"`
		Root     map[string]any   `json:"root"`
		Hostname string           `json:"hostname"`
		Mounts   []map[string]any `json:"mounts"`
		Linux    map[string]any   `json:"linux"`
	}
	if err := json.Unmarshal(spec, &config); err != nil {
		return nil, fmt.Errorf("reading the spec: %w", err)
	}
	config.Process["terminal"] = false
	config.Process["args"] = args
	config.Root = map[string]any{"path": rootfs}
	var namespaces []map[string]string
	for _, kind := range []string{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		namespaces = append(namespaces, map[string]string{"type": kind})
	}
	config.Linux["namespaces"] = namespaces
	return json.Marshal(config)
}

// startDockerd starts a daemon of our own. It ends with the sandbox.
func (b *bench) startDockerd() error {
	in := func(dir string) string { return filepath.Join(b.state, dir) }
	log, err := os.Create(in("dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	daemon := exec.Command("dockerd", "--data-root", in("docker"), "--pidfile", in("docker.pid"),
		"--host", "unix://"+in("docker.sock"), "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/"+prefix)
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := b.do([]string{"docker", "--host", "unix://" + in("docker.sock"), "version"})
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
