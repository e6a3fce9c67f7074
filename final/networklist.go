//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fvbommel/sortorder"
	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/network"
)

func newNetworkListCommand() *cli.Command {
	var quiet, noTrunc bool
	var format string
	return &cli.Command{
		Name:    "ls",
		Aliases: []string{"list"},
		Usage:   "list the networks",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print IDs only", Destination: &quiet},
			&cli.BoolFlag{Name: "no-trunc", Usage: "do not shorten IDs", Destination: &noTrunc},
			&cli.StringFlag{Name: "format", Usage: "table, json, or a template of Go's", Destination: &format},
			&cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "list those with driver, id, name, scope or type, as in type=custom"},
		},
		Action: needArgs(0, 0, func(_ context.Context, cmd *cli.Command) error {
			filter, err := newFilter(cmd.StringSlice("filter"), checkNetworkFilter)
			if err != nil {
				return err
			}
			all, err := networks().List()
			if err != nil {
				return err
			}
			slices.SortFunc(all, func(a, b *network.Network) int { return sortorder.NaturalCompare(a.Name, b.Name) })
			var rows []networkRow
			for _, n := range all {
				warn(n.Damage())
				if filter.matches(func(key, value string) bool { return matchesNetwork(n, key, value) }) {
					rows = append(rows, newNetworkRow(n, noTrunc))
				}
			}
			if quiet {
				return printIDs(format, rows, func(row networkRow) string { return row.ID })
			}
			return printRows(format, "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", networkHeading, rows)
		}),
	}
}

// networkRow is what network ls prints of a network, and what a format may name.
type networkRow struct {
	CreatedAt string
	Driver    string
	ID        string
	Name      string
	Scope     string
	Subnet    string
}

var networkHeading = map[string]string{
	"CreatedAt": "CREATED AT", "Driver": "DRIVER", "ID": "NETWORK ID", "Name": "NAME", "Scope": "SCOPE", "Subnet": "SUBNET",
}

// scope is that of all networks: there is only this machine.
const scope = "local"

func newNetworkRow(n *network.Network, whole bool) networkRow {
	id := n.ID
	if !whole {
		id = container.ShortID(id)
	}
	return networkRow{
		ID: id, Name: n.Name, Driver: n.Driver, Scope: scope, Subnet: n.Subnet.String(),
		CreatedAt: n.Created.Format(createdAt),
	}
}

func checkNetworkFilter(key, value string) error {
	switch key {
	case "driver", "id", "name", "scope":
		return nil
	case "type":
		if value == "builtin" || value == "custom" {
			return nil
		}
		return fmt.Errorf("invalid filter 'type=%s'", value)
	default:
		return fmt.Errorf("invalid filter '%s'", key)
	}
}

func matchesNetwork(n *network.Network, key, value string) bool {
	switch key {
	case "driver":
		return n.Driver == value
	case "id":
		return strings.Contains(n.ID, value)
	case "name":
		return strings.Contains(n.Name, value)
	case "scope":
		return value == scope
	default: // type
		return (value == "builtin") == (n.Name == network.Default)
	}
}
