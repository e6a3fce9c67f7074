//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"text/template"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/image"
	"github.com/lixd/mydocker/final/internal/network"
	"github.com/lixd/mydocker/final/internal/oci"
)

// statusBadTemplate is the exit status for a template that cannot be parsed, as docker has it. One that
// asks for a missing field fails with the status 1, like an object that is not found.
const statusBadTemplate = 64

func newInspectCommand() *cli.Command {
	var format string
	return &cli.Command{
		Name:      "inspect",
		Usage:     "print what is known about containers, images, networks and volumes",
		ArgsUsage: "NAME|ID...",
		Flags:     []cli.Flag{formatFlag(&format)},
		Before:    requireRoot,
		Action: needArgs(1, orMore, func(ctx context.Context, cmd *cli.Command) error {
			found := []any{}
			err := each(cmd, func(given string) error {
				object, err := describe(ctx, given)
				if err == nil {
					found = append(found, object)
				}
				return err
			})
			return errors.Join(printObjects(format, found), err)
		}),
	}
}

// describe finds what somebody calls so: a container, or else an image, a network, or a volume.
func describe(ctx context.Context, given string) (any, error) {
	c, err := containers().Find(given)
	if err == nil {
		return describeContainer(c), nil
	}
	if !errors.As(err, &container.NotFoundError{}) {
		return nil, err
	}
	img, err := images().Find(ctx, given)
	if err == nil {
		return describeImage(img)
	}
	if n, err := networks().Find(given); err == nil {
		return describeNetwork(n), nil
	}
	if v, err := containers().FindVolume(given); err == nil {
		return describeVolume(v), nil
	}
	return nil, fmt.Errorf("error: no such object: %s", given)
}

// describeContainer has the names of docker's.
func describeContainer(c *container.Container) map[string]any {
	state := c.State()
	command, entrypoint := c.Command, c.Config.Entrypoint
	exposed := map[string]struct{}{}
	for _, port := range c.Config.Exposed {
		exposed[port] = struct{}{}
	}
	volumes := map[string]struct{}{}
	for _, m := range c.Config.Mounts {
		if m.Anonymous {
			volumes[m.Target] = struct{}{}
		}
	}
	tmpfs := map[string]string{}
	for _, t := range c.Config.Tmpfs {
		tmpfs[t.Target] = t.Options
	}
	described := map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "Created": c.Created, "Image": c.ImageID,
		"RestartCount": 0, "Driver": "overlay2", "Platform": "linux", "MountLabel": "", "ProcessLabel": "", "AppArmorProfile": "",
		"ExecIDs": nil, "HostnamePath": c.HostFile("hostname"), "HostsPath": c.HostFile("hosts"), "ResolvConfPath": c.HostFile("resolv.conf"),
		"GraphDriver": map[string]any{"Name": "overlay2", "Data": map[string]string{"UpperDir": c.Upper()}},
		"Path":        command[0], "Args": command[1:], "LogPath": c.LogPath(),
		"State": map[string]any{
			"Status": state, "Running": c.IsRunning(), "Paused": state == container.Paused, "Dead": state == container.Dead,
			"Restarting": false, "Health": nil,
			"OOMKilled": c.OOM, "Pid": 0, "ExitCode": c.Status, "Error": c.Error, "StartedAt": c.Started, "FinishedAt": c.Finished,
		},
		"Config": map[string]any{
			"Image": c.Image, "Env": c.Config.Env, "WorkingDir": c.Config.Dir, "User": c.Config.User, "Hostname": c.Config.Hostname,
			"Tty": c.Config.Terminal, "OpenStdin": c.Config.Interactive, "Labels": c.Config.Labels, "StopSignal": c.Config.StopSignal,
			"Entrypoint": entrypoint, "Cmd": command[len(entrypoint):], "ExposedPorts": exposed,
			"Domainname": "", "AttachStdin": c.Config.Interactive, "AttachStdout": true, "AttachStderr": true, "StdinOnce": c.Config.Interactive,
			"Volumes": volumes, "OnBuild": nil, "Healthcheck": nil, "StopTimeout": c.Config.StopTimeout,
		},
		"HostConfig": map[string]any{
			"AutoRemove": c.Config.AutoRemove, "ReadonlyRootfs": c.Config.ReadOnly, "NetworkMode": c.Config.Network, "Init": c.Config.Init,
			"Memory": c.Config.Limits.Memory, "NanoCpus": int64(c.Config.Limits.CPUs * 1e9), "CpusetCpus": c.Config.Limits.CPUSet, "PidsLimit": c.Config.Limits.PIDs,
			"Binds": describeBinds(c), "PortBindings": describePorts(c.Config.Ports, nil), "Tmpfs": tmpfs, "PublishAllPorts": false,
			"RestartPolicy": map[string]any{"Name": "no", "MaximumRetryCount": 0}, "Privileged": false, "ContainerIDFile": "",
			"VolumeDriver": "", "VolumesFrom": nil, "CapAdd": nil, "CapDrop": nil, "Dns": []string{}, "DnsSearch": []string{}, "ExtraHosts": nil,
			"GroupAdd": nil, "Links": nil, "SecurityOpt": nil, "IpcMode": "private", "PidMode": "", "UTSMode": "", "UsernsMode": "", "CgroupParent": "",
			"ShmSize": 64 << 20, "CpuShares": 0, "CpuPeriod": 0, "CpuQuota": 0, "Devices": []string{}, "Ulimits": nil,
			"LogConfig": map[string]any{"Type": "json-file", "Config": map[string]string{}}, "Runtime": "mydocker",
		},
		"Mounts":          describeMounts(c),
		"NetworkSettings": describeEndpoint(c),
	}
	if c.IsRunning() {
		described["State"].(map[string]any)["Pid"] = c.PID
	}
	return described
}

func describeMounts(c *container.Container) []any {
	mounts := []any{}
	for _, m := range c.Config.Mounts {
		kind := "bind"
		if m.Name != "" {
			kind = "volume"
		}
		propagation := ""
		if kind == "bind" {
			propagation = cmp.Or(m.Propagation, "rprivate")
		}
		mounts = append(mounts, map[string]any{
			"Type": kind, "Name": m.Name, "Source": m.Source, "Destination": m.Target, "Driver": "local",
			"Mode": mountMode(m), "RW": !m.ReadOnly, "Propagation": propagation,
		})
	}
	return mounts
}

// mountMode returns the options of -v that make a difference.
func mountMode(m container.Mount) string {
	var options []string
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.NoCopy {
		options = append(options, "nocopy")
	}
	if m.Propagation != "" {
		options = append(options, m.Propagation)
	}
	return strings.Join(options, ",")
}

// describeBinds returns what was given to -v, but for anonymous volumes.
func describeBinds(c *container.Container) []string {
	binds := []string{}
	for _, m := range c.Config.Mounts {
		if !m.Anonymous {
			binds = append(binds, strings.TrimSuffix(cmp.Or(m.Name, m.Source)+":"+m.Target+":"+mountMode(m), ":"))
		}
	}
	return binds
}

// describePorts returns the ports in docker's form, by what the container serves, as in 80/tcp. The
// ports that the image exposes are there, too, if they are not published.
func describePorts(ports []network.Port, exposed []string) map[string][]map[string]string {
	described := map[string][]map[string]string{}
	for _, port := range exposed {
		described[port] = nil
	}
	for _, p := range ports {
		host := ""
		if p.Host != 0 {
			host = strconv.Itoa(int(p.Host))
		}
		described[p.Private()] = append(described[p.Private()], map[string]string{"HostIp": p.IP.String(), "HostPort": host})
	}
	return described
}

// describeEndpoint describes the container's place on its network, which is empty while it does not run.
func describeEndpoint(c *container.Container) map[string]any {
	id, ports := "", map[string][]map[string]string{}
	place := map[string]any{
		"EndpointID": "", "IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "",
		"GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": "",
	}
	n, err := networks().Find(c.Config.Network)
	if err == nil {
		id = n.ID
	}
	if e := c.Endpoint; e != nil && c.IsRunning() {
		place["IPAddress"], place["MacAddress"] = e.Address.String(), e.HardwareAddr().String()
		if err == nil {
			place["Gateway"], place["IPPrefixLen"] = n.Gateway.String(), n.Subnet.Bits()
		}
		ports = describePorts(e.Ports, c.Config.Exposed)
	}
	settings := maps.Clone(place)
	maps.Copy(settings, map[string]any{"Bridge": "", "SandboxID": "", "SandboxKey": "", "Ports": ports, "Networks": map[string]any{}})
	if c.IsRunning() {
		settings["SandboxKey"] = fmt.Sprintf("/proc/%d/ns/net", c.PID)
	}
	if !strings.HasPrefix(c.Config.Network, container.NetworkOf) {
		maps.Copy(place, map[string]any{"NetworkID": id, "Aliases": nil, "Links": nil, "IPAMConfig": nil, "DriverOpts": nil})
		settings["Networks"] = map[string]any{c.Config.Network: place}
	}
	return settings
}

// describeImage has the names of docker's.
func describeImage(img *image.Image) (map[string]any, error) {
	names, err := img.Names()
	if err != nil {
		return nil, err
	}
	var raw struct {
		Comment       string
		DockerVersion string `json:"docker_version"`
		Config        map[string]any
	}
	if err := json.Unmarshal(img.Raw, &raw); err != nil {
		return nil, err
	}
	if history := img.Config.History; raw.Comment == "" && len(history) > 0 {
		raw.Comment = history[len(history)-1].Comment
	}
	size, _ := img.Size() // 0 for one whose layers are damaged
	return map[string]any{
		"Id": img.ID, "RepoTags": names, "RepoDigests": []string{}, "Parent": "", "Comment": raw.Comment,
		"Created": img.Config.Created, "DockerVersion": raw.DockerVersion, "Author": img.Config.Author,
		"Config": describeImageConfig(img.Config.Config, raw.Config), "Architecture": img.Config.Architecture, "Variant": img.Config.Variant,
		"Os": img.Config.OS, "Size": size, "VirtualSize": size,
		"RootFS": map[string]any{"Type": "layers", "Layers": img.Config.RootFS.DiffIDs},
	}, nil
}

// describeImageConfig has all of raw, such as Healthcheck, and what a template may ask for.
func describeImageConfig(c oci.ImageConfig, raw map[string]any) map[string]any {
	described := map[string]any{
		"Hostname": "", "Domainname": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "Tty": false,
		"OpenStdin": false, "StdinOnce": false, "Image": "", "OnBuild": nil, "Healthcheck": nil, "Shell": nil, "ArgsEscaped": false,
	}
	maps.Copy(described, raw)
	maps.Copy(described, map[string]any{
		"User": c.User, "ExposedPorts": c.ExposedPorts, "Env": c.Env, "Entrypoint": []string(c.Entrypoint), "Cmd": []string(c.Cmd),
		"Volumes": c.Volumes, "WorkingDir": c.WorkingDir, "Labels": c.Labels, "StopSignal": c.StopSignal,
	})
	return described
}

// formatFlag is the flag of commands that inspect.
func formatFlag(format *string) cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "json, or a template of Go's", Destination: format}
}

// printObjects prints all of them, or of each what a template says.
func printObjects(format string, objects []any) error {
	if format == "" || format == "json" {
		return printJSON(objects)
	}
	return printEach(format, objects)
}

// printJSON prints an array as docker does.
func printJSON(objects []any) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "    ")
	if err := encoder.Encode(objects); err != nil {
		return err
	}
	_, err := os.Stdout.Write(out.Bytes())
	return err
}

func printEach(format string, objects []any) error {
	parsed, err := template.New("format").Option("missingkey=error").Funcs(functions).Parse(format)
	if err != nil {
		return exitError{status: statusBadTemplate, err: fmt.Errorf("template parsing error: %w", err)}
	}
	for _, object := range objects {
		var out bytes.Buffer
		if err := parsed.Execute(&out, object); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		fmt.Println(out.String())
	}
	return nil
}
