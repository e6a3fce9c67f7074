//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/network"
)

// psOptions is what the command line of ps asks for.
type psOptions struct {
	all     bool
	quiet   bool
	noTrunc bool
	latest  bool
	last    int
	format  string
	filters []string
}

func newPsCommand() *cli.Command {
	var opts psOptions
	return &cli.Command{
		Name:  "ps",
		Usage: "list the containers that run",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "list those too that do not run", Destination: &opts.all},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print IDs only", Destination: &opts.quiet},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not shorten IDs and commands", Destination: &opts.noTrunc},
			&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "list the one that was made last", Destination: &opts.latest},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Value: -1, Usage: "list so many that were made last", Destination: &opts.last},
			&cli.StringFlag{Name: "format", Usage: "table, json, or a template of Go's", Destination: &opts.format},
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "list those with id, name, label, status, exited, ancestor, before, since, volume, network, publish or expose, as in status=exited"},
		},
		Before: requireRoot,
		Action: needArgs(0, 0, func(_ context.Context, cmd *cli.Command) error {
			opts.filters = cmd.StringSlice("filter")
			return opts.list()
		}),
	}
}

// list prints what is known of the containers, the newest first. Those whose records are damaged
// are listed too.
func (o *psOptions) list() error {
	all, err := containers().List()
	filter, filterErr := newFilter(o.filters, checkContainerFilter)
	if filterErr != nil {
		return filterErr
	}
	for _, value := range filter["network"] {
		if n, err := networks().Find(value); err == nil { // by its ID, perhaps
			filter["network"] = append(filter["network"], n.Name)
		}
	}
	if o.latest {
		o.last = 1
	}
	anyState := o.all || o.last >= 0 || filter["status"] != nil
	var rows []psRow
	for _, c := range all {
		if o.last >= 0 && len(rows) == o.last {
			break
		}
		warn(c.Damage())
		matchesOne := func(key, value string) bool { return matchesContainer(c, key, value) }
		if (anyState || c.IsRunning()) && filter.matches(matchesOne) {
			rows = append(rows, newRow(c, o.noTrunc))
		}
	}
	return errors.Join(err, o.print(rows))
}

func (o *psOptions) print(rows []psRow) error {
	if o.quiet {
		return printIDs(o.format, rows, func(row psRow) string { return row.ID })
	}
	return printRows(o.format, "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}", psHeading, rows)
}

// printIDs is for -q.
func printIDs[row any](format string, rows []row, id func(row) string) error {
	if format != "" {
		fmt.Fprintln(os.Stderr, "WARNING: Ignoring custom format, because both --format and --quiet are set.")
	}
	for _, r := range rows {
		fmt.Println(id(r))
	}
	return nil
}

// printRows prints rows as --format says: as a table, each in JSON, or each by a template.
func printRows[row any](format, table string, heading any, rows []row) error {
	switch {
	case format == "" || format == "table":
		format = table
	case format == "json":
		format = "{{json .}}"
	}
	columns, isTable := strings.CutPrefix(format, "table ")
	columns = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(columns)
	parsed, err := template.New("format").Funcs(functions).Parse(columns)
	if err != nil {
		return fmt.Errorf("template parsing error: %w", err)
	}
	var out bytes.Buffer
	if isTable {
		if err := parsed.Execute(&out, heading); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		out.WriteString("\n")
	}
	for _, r := range rows {
		if err := parsed.Execute(&out, r); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		out.WriteString("\n")
	}
	if !isTable {
		_, err := os.Stdout.Write(out.Bytes())
		return err
	}
	whole := bufio.NewWriter(os.Stdout) // a tabwriter writes cell by cell
	writer := tabwriter.NewWriter(whole, 10, 1, 3, ' ', 0)
	if _, err := writer.Write(out.Bytes()); err != nil {
		return err
	}
	return errors.Join(writer.Flush(), whole.Flush())
}

// functions are docker's for templates.
var functions = template.FuncMap{
	"json": toJSON, "split": strings.Split, "join": strings.Join,
	"upper": strings.ToUpper, "lower": strings.ToLower,
	"title": func(text string) string { return strings.ToUpper(text[:min(1, len(text))]) + text[min(1, len(text)):] },
	"pad": func(text string, before, after int) string {
		return strings.Repeat(" ", before) + text + strings.Repeat(" ", after)
	},
	"truncate": func(text string, length int) string { return text[:min(length, len(text))] },
}

func toJSON(value any) (string, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return strings.TrimSuffix(out.String(), "\n"), err
}

// psRow is what ps prints of a container, and what a format may name.
type psRow struct {
	Command      string
	CreatedAt    string
	ID           string
	Image        string
	Labels       string
	LocalVolumes string
	Mounts       string
	Names        string
	Networks     string
	Ports        string
	RunningFor   string
	Size         string
	State        string
	Status       string

	label func(name string) string
}

var psHeading = psRow{
	Command: "COMMAND", CreatedAt: "CREATED AT", ID: "CONTAINER ID", Image: "IMAGE", Labels: "LABELS",
	LocalVolumes: "LOCAL VOLUMES", Mounts: "MOUNTS", Names: "NAMES", Networks: "NETWORKS", Ports: "PORTS",
	RunningFor: "CREATED", Size: "SIZE", State: "STATE", Status: "STATUS",
	label: func(name string) string { return name },
}

func newRow(c *container.Container, whole bool) psRow {
	id, command := c.ID, strings.Join(c.Command, " ")
	if !whole {
		id, command = c.ShortID(), ellipsis(command, 20)
	}
	row := psRow{
		ID: id, Image: c.Image, Command: strconv.Quote(command), Names: c.Name, Networks: c.Config.Network,
		CreatedAt: c.Created.Format(createdAt), RunningFor: since(c.Created) + " ago",
		State: c.State(), Status: status(c), Size: "0B", label: func(name string) string { return c.Config.Labels[name] },
	}
	if c.Endpoint != nil && c.IsRunning() {
		row.Ports = formatPorts(c)
	}
	var labels, mounts []string
	for _, key := range slices.Sorted(maps.Keys(c.Config.Labels)) {
		labels = append(labels, key+"="+c.Config.Labels[key])
	}
	volumes := 0
	for _, mount := range c.Config.Mounts {
		mounts = append(mounts, cmp.Or(mount.Name, mount.Source))
		if mount.Name != "" {
			volumes++
		}
	}
	row.Labels, row.Mounts, row.LocalVolumes = strings.Join(labels, ","), strings.Join(mounts, ","), strconv.Itoa(volumes)
	return row
}

// formatPorts lists the ports that are published, and before these those that are not, though the
// image says that it serves them.
func formatPorts(c *container.Container) string {
	isPublished := func(exposed string) bool {
		return slices.ContainsFunc(c.Endpoint.Ports, func(p network.Port) bool { return p.Private() == exposed })
	}
	ports := slices.DeleteFunc(slices.Clone(c.Config.Exposed), isPublished)
	if len(c.Endpoint.Ports) > 0 {
		ports = append(ports, network.Format(c.Endpoint.Ports))
	}
	return strings.Join(ports, ", ")
}

// Label is for formats: the value of one label.
func (r psRow) Label(name string) string { return r.label(name) }

// ellipsis shortens a text to so many characters.
func ellipsis(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length-1]) + "…"
	}
	return text
}

// status says what has become of the container, in docker's words. Dead is one that ended when
// nobody was there to see how, because its shim had been killed.
func status(c *container.Container) string {
	switch c.State() {
	case container.Running:
		return "Up " + since(c.Started)
	case container.Paused:
		return "Up " + since(c.Started) + " (Paused)"
	case container.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.Status, since(c.Finished))
	case container.Created:
		return "Created"
	case container.Removing:
		return "Removal In Progress"
	default:
		return "Dead"
	}
}

// createdAt is how lists print a time.
const createdAt = "2006-01-02 15:04:05 -0700 MST"

// since says how long ago that was, as people do.
func since(t time.Time) string { return units.HumanDuration(time.Since(t)) }
