//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/cgroup"
	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/network"
	containerruntime "github.com/lixd/mydocker/final/internal/runtime"
)

// createOptions is what the command line of create, or run, says of a container.
type createOptions struct {
	config      container.Config
	name        string
	limits      cgroup.Limits
	memory      string
	percent     float64
	entrypoint  string
	stopTimeout int
	cidfile     string
}

// createFlags are the flags that create and run have in common.
func createFlags(o *createOptions) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "give the command our standard input", Destination: &o.config.Interactive},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal", Destination: &o.config.Terminal},
		&cli.BoolFlag{Name: "rm", Usage: "remove the container when it has ended", Destination: &o.config.AutoRemove},
		&cli.StringFlag{Name: "name", Usage: "give the container a name", Destination: &o.name},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set a variable of the environment, as in K=V, or pass on our K"},
		&cli.StringSliceFlag{Name: "env-file", Usage: "read variables from a file, one a line"},
		&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "begin in this directory", Destination: &o.config.Dir},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "run as NAME, UID, NAME:GROUP or UID:GID", Destination: &o.config.User},
		&cli.StringFlag{Name: "hostname", Aliases: []string{"h"}, Usage: "the container's host name, else the beginning of its ID", Destination: &o.config.Hostname},
		&cli.StringFlag{Name: "entrypoint", Usage: "run this in place of the image's entrypoint", Destination: &o.entrypoint},
		&cli.BoolFlag{Name: "read-only", Usage: "nothing but volumes may be written to", Destination: &o.config.ReadOnly},
		&cli.StringSliceFlag{Name: "tmpfs", Usage: "mount a file system in memory, as in /run or /run:size=64m"},
		&cli.StringSliceFlag{Name: "volume", Aliases: []string{"v"}, Usage: "mount the host's SRC, or a volume, as in SRC:DST, NAME:DST:ro or DST"},
		&cli.StringFlag{Name: "memory", Aliases: []string{"m", "mem"}, Usage: "limit memory to so many bytes, or with k, m or g behind", Destination: &o.memory},
		&cli.Float64Flag{Name: "cpus", Usage: "limit processor time, as in 1.5 for one and a half processors' worth", Destination: &o.limits.CPUs},
		&cli.Float64Flag{Name: "cpu", Usage: "limit processor time to so many percent of one processor", Destination: &o.percent},
		&cli.StringFlag{Name: "cpuset-cpus", Aliases: []string{"cpuset"}, Usage: "run on these processors only, as in 0-2,4", Destination: &o.limits.CPUSet},
		&cli.Int64Flag{Name: "pids-limit", Usage: "limit the number of processes and threads", Destination: &o.limits.PIDs},
		&cli.StringFlag{Name: "network", Aliases: []string{"net"}, Value: network.Default, Usage: "join a network, or none, or use that of the host, or of container:NAME", Destination: &o.config.Network},
		&cli.StringSliceFlag{Name: "publish", Aliases: []string{"p"}, Usage: "make a port reachable from outside, as in 8080:80, 127.0.0.1:8080:80/udp or 80"},
		&cli.BoolFlag{Name: "init", Usage: "run an init that passes signals on and buries orphans", Destination: &o.config.Init},
		&cli.StringFlag{Name: "stop-signal", Usage: "what stop sends first", Destination: &o.config.StopSignal},
		&cli.IntFlag{Name: "stop-timeout", Usage: "seconds after which stop kills", Destination: &o.stopTimeout},
		&cli.StringSliceFlag{Name: "label", Aliases: []string{"l"}, Usage: "set a label, as in K=V"},
		&cli.StringFlag{Name: "cidfile", Usage: "write the container's ID to this file", Destination: &o.cidfile},
	}
}

func newCreateCommand() *cli.Command {
	var opts createOptions
	return &cli.Command{
		Name:         "create",
		Usage:        "make a container, for start",
		ArgsUsage:    "IMAGE [COMMAND] [ARG...]",
		StopOnNthArg: new(1),
		HideHelp:     true, // -h is --hostname
		Flags:        append(createFlags(&opts), helpFlag()),
		Before:       requireRoot,
		Action: withHelp(needArgs(1, orMore, func(ctx context.Context, cmd *cli.Command) error {
			c, err := create(ctx, cmd, &opts)
			if err != nil {
				return runError(err)
			}
			fmt.Println(c.ID)
			return nil
		})),
	}
}

// helpFlag is --help alone, where -h means something else.
func helpFlag() cli.Flag { return &cli.BoolFlag{Name: "help", Usage: "show help"} }

func withHelp(action cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if cmd.Bool("help") {
			return cli.ShowSubcommandHelp(cmd)
		}
		return action(ctx, cmd)
	}
}

// create makes the container that the command line describes. Whatever is wrong with that is
// said before anything is made.
func create(ctx context.Context, cmd *cli.Command, opts *createOptions) (*container.Container, error) {
	if err := opts.parse(cmd); err != nil {
		return nil, err
	}
	if opts.cidfile != "" {
		if _, err := os.Stat(opts.cidfile); err == nil {
			return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", opts.cidfile)
		}
	}
	store := images()
	if err := unpack(ctx, store, cmd.Args().First()); err != nil {
		return nil, err
	}
	release, err := store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	img, err := store.Find(ctx, cmd.Args().First())
	if err != nil {
		return nil, err
	}
	c, err := opts.container(cmd, img)
	if err != nil {
		return nil, err
	}
	if err := containers().Interruptible(ctx).Create(c); err != nil {
		return nil, err
	}
	if opts.cidfile != "" {
		if err := os.WriteFile(opts.cidfile, []byte(c.ID), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("writing the container's ID: %w", err), c.Remove(false, true))
		}
	}
	return c, nil
}

// unpack has an archive unpacked that was put into the store by hand, if the image is only there as
// that. A signal ends it early.
func unpack(ctx context.Context, store *image.Store, name string) error {
	if !store.IsPacked(name) {
		return nil // and to listen for signals takes longer than to look
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	return store.Unpack(ctx, name)
}

// parse reads those flags that have to be read.
func (o *createOptions) parse(cmd *cli.Command) (err error) {
	if cmd.IsSet("memory") {
		if o.limits.Memory, err = parseMemory(o.memory); err != nil {
			return err
		}
	}
	if cmd.IsSet("cpu") {
		if cmd.IsSet("cpus") {
			return errors.New("--cpu and --cpus set the same limit: give one of them")
		}
		o.limits.CPUs = o.percent / 100
	}
	if o.limits.PIDs == -1 {
		o.limits.PIDs = 0 // which is no limit either
	}
	if err := o.limits.Check(); err != nil {
		return err
	}
	o.config.Limits = o.limits
	if o.config.Mounts, err = parseMounts(cmd.StringSlice("volume")); err != nil {
		return err
	}
	if o.config.Tmpfs, err = parseTmpfs(cmd.StringSlice("tmpfs")); err != nil {
		return err
	}
	for _, t := range o.config.Tmpfs {
		if slices.ContainsFunc(o.config.Mounts, func(m container.Mount) bool { return m.Target == t.Target }) {
			return fmt.Errorf("duplicate mount point: %s", t.Target)
		}
	}
	if o.config.Ports, err = network.ParsePorts(cmd.StringSlice("publish")); err != nil {
		return err
	}
	if err := o.checkNetwork(); err != nil {
		return err
	}
	if o.config.Env, err = parseEnv(cmd.StringSlice("env-file"), cmd.StringSlice("env")); err != nil {
		return err
	}
	if o.config.Labels, err = parseLabels(cmd.StringSlice("label")); err != nil {
		return err
	}
	if o.config.StopSignal != "" {
		if _, err := container.ParseSignal(o.config.StopSignal); err != nil {
			return err
		}
	}
	if cmd.IsSet("stop-timeout") {
		o.config.StopTimeout = &o.stopTimeout
	}
	if dir := o.config.Dir; dir != "" && !path.IsAbs(dir) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", dir)
	}
	return container.CheckName(o.name)
}

// checkNetwork refuses, or drops with a warning, what the container's kind of network does not have.
func (o *createOptions) checkNetwork() error {
	config := &o.config
	if err := network.CheckHostname(config.Hostname); err != nil {
		return err
	}
	given, joins := strings.CutPrefix(config.Network, container.NetworkOf)
	switch {
	case joins && len(config.Ports) > 0:
		return errors.New("conflicting options: port publishing and the container type network mode")
	case joins && config.Hostname != "":
		return errors.New("conflicting options: hostname and the network mode")
	case joins:
		other, err := containers().Find(given)
		if err != nil {
			return err
		}
		config.Network, config.Hostname = container.NetworkOf+other.ID, other.Config.Hostname
	case config.Network == network.Host && config.Hostname == "":
		config.Hostname, _ = os.Hostname() // else it is the beginning of the container's ID
	}
	if (config.Network == network.Host || config.Network == network.None) && len(config.Ports) > 0 {
		fmt.Fprintf(os.Stderr, "WARNING: published ports are discarded with --network %s\n", config.Network)
		config.Ports = nil
	}
	return nil
}

// parseMemory reads a size in docker's notation. See units.RAMInBytes.
func parseMemory(size string) (int64, error) {
	bytes, err := units.RAMInBytes(size)
	if err == nil && bytes < 0 {
		return 0, fmt.Errorf("invalid size: '%s' is more than there can be", size)
	}
	return bytes, err
}

// container is what the options and the image make together: what is not said on the command
// line, the image says.
func (o *createOptions) container(cmd *cli.Command, img *image.Image) (*container.Container, error) {
	c := &container.Container{ID: container.NewID(), Name: o.name, Image: cmd.Args().First(), ImageID: string(img.ID), ImageConfig: img.Raw, Config: o.config}
	from := img.Config.Config
	entrypoint, command := []string(from.Entrypoint), cmd.Args().Tail()
	if cmd.IsSet("entrypoint") {
		entrypoint = nil
		if o.entrypoint != "" {
			entrypoint = []string{o.entrypoint}
		}
	} else if len(command) == 0 {
		command = from.Cmd
	}
	c.Command = slices.Concat(entrypoint, command)
	if len(c.Command) == 0 {
		return nil, errors.New("no command specified: the image names none either")
	}
	config := &c.Config
	config.Entrypoint = entrypoint
	config.Exposed = slices.Sorted(maps.Keys(from.ExposedPorts))
	config.Env = container.MergeEnv(from.Env, o.config.Env)
	config.Dir = o.config.Dir
	if config.Dir == "" && from.WorkingDir != "" {
		config.Dir = path.Join("/", from.WorkingDir) // old images have relative ones
	}
	config.User = cmp.Or(o.config.User, from.User)
	config.StopSignal = cmp.Or(o.config.StopSignal, from.StopSignal)
	config.Hostname = cmp.Or(o.config.Hostname, c.ShortID())
	if !network.IsPredefined(config.Network) && !strings.HasPrefix(config.Network, container.NetworkOf) {
		if n, err := networks().Find(config.Network); err == nil { // by its ID, perhaps
			config.Network = n.Name
		}
	}
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, o.config.Labels)
	config.Labels = labels
	for target := range from.Volumes {
		target = path.Join("/", target) // old images have relative ones
		if !slices.ContainsFunc(config.Mounts, func(m container.Mount) bool { return m.Target == target }) {
			config.Mounts = append(config.Mounts, container.Mount{Volume: containerruntime.Volume{Target: target}, Anonymous: true})
		}
	}
	slices.SortFunc(config.Mounts, func(a, b container.Mount) int { return strings.Compare(a.Target, b.Target) })
	for _, layer := range img.Layers() {
		config.Layers = append(config.Layers, strings.TrimPrefix(layer, stateDir()+"/"))
	}
	return c, nil
}

// parseMounts reads all that was given to -v.
func parseMounts(specs []string) ([]container.Mount, error) {
	var mounts []container.Mount
	for _, spec := range specs {
		m, err := parseMount(spec)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(mounts, func(other container.Mount) bool { return other.Target == m.Target }) {
			return nil, fmt.Errorf("duplicate mount point: %s", m.Target)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// mountOptions are the options of -v, by kind: an option excludes the others of its kind.
var mountOptions = map[string]string{
	"ro": "access", "rw": "access", "nocopy": "copy",
	"z": "label", "Z": "label", // for SELinux, which sets no labels here
	"consistent": "consistency", "cached": "consistency", "delegated": "consistency", // for macOS
	"private": "propagation", "rprivate": "propagation", "slave": "propagation", "rslave": "propagation",
	"shared": "propagation", "rshared": "propagation",
}

// parseMountOptions parses the options of -v. A bind mount has no copy, and a volume no propagation.
func parseMountOptions(m *container.Mount, options string) error {
	kinds := map[string]bool{}
	for _, option := range strings.Split(options, ",") {
		kind, isKnown := mountOptions[option]
		isForOther := kind == "copy" && m.Source != "" || kind == "propagation" && m.Source == ""
		if !isKnown || kinds[kind] || isForOther {
			return fmt.Errorf("invalid mode: %s", options)
		}
		kinds[kind] = true
		switch {
		case option == "ro":
			m.ReadOnly = true
		case kind == "copy":
			m.NoCopy = true
		case kind == "propagation":
			m.Propagation = option
		}
	}
	return nil
}

// parseMount parses [SRC:]DST[:OPTION,...]. A source that begins with a slash or a dot is a path on
// the host, any other the name of a volume. Without a source the container gets a volume of its own.
func parseMount(spec string) (container.Mount, error) {
	sections := strings.Split(spec, ":")
	if slices.Contains(sections, "") {
		return container.Mount{}, fmt.Errorf("invalid spec: %s: empty section between colons", spec)
	}
	var m container.Mount
	if len(sections) > 3 {
		return m, fmt.Errorf("invalid spec: %s: SRC:DST or SRC:DST:ro is wanted", spec)
	}
	switch {
	case len(sections) == 1:
		sections = []string{"", spec}
		m.Anonymous = true
	case path.IsAbs(sections[0]):
		m.Source = path.Clean(sections[0])
	case strings.HasPrefix(sections[0], "."):
		source, err := filepath.Abs(sections[0])
		if err != nil {
			return m, fmt.Errorf("invalid spec: %s: %w", spec, err)
		}
		m.Source = source
	case strings.ContainsAny(sections[0], "/~"):
		return m, fmt.Errorf("invalid spec: %s: write a path on the host with / or ./ before it", spec)
	default:
		m.Name = sections[0]
	}
	if !path.IsAbs(sections[1]) {
		return m, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", sections[1])
	}
	m.Target = path.Clean(sections[1])
	if m.Target == "/" {
		return m, fmt.Errorf("invalid spec: %s: destination can't be '/'", spec)
	}
	if len(sections) == 3 {
		return m, parseMountOptions(&m, sections[2])
	}
	return m, nil
}

// tmpfsFlags are the options of --tmpfs that are flags of mount(2); the others are tmpfs's own.
var tmpfsFlags = map[string]uintptr{"ro": unix.MS_RDONLY, "noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "rw": 0}

// parseTmpfs reads PATH[:OPTION,...]. Without options it is as docker has it.
func parseTmpfs(specs []string) ([]containerruntime.Tmpfs, error) {
	var mounts []containerruntime.Tmpfs
	for _, spec := range specs {
		target, options, _ := strings.Cut(spec, ":")
		if !path.IsAbs(target) {
			return nil, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", target)
		}
		t := containerruntime.Tmpfs{Target: path.Clean(target), Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}
		var own []string
		for _, option := range strings.Split(options, ",") {
			switch flag, known := tmpfsFlags[option]; {
			case option == "exec":
				t.Flags &^= unix.MS_NOEXEC
			case known:
				t.Flags |= flag
			case option != "":
				own = append(own, option)
			}
		}
		t.Options = strings.Join(own, ",")
		mounts = append(mounts, t)
	}
	return mounts, nil
}

func parseLabels(given []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, label := range given {
		key, value, _ := strings.Cut(label, "=")
		if key == "" {
			return nil, fmt.Errorf("invalid label: %s", label)
		}
		labels[key] = value
	}
	return labels, nil
}
