//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/lixd/mydocker/final/internal/container"
	"github.com/lixd/mydocker/final/internal/network"
)

func networks() *network.Store { return network.Open(stateDir()) }

func newNetworkCommand() *cli.Command {
	var driver, subnet, gateway, format string
	var force bool
	return &cli.Command{
		Name:            "network",
		Usage:           "make, list and remove networks",
		HideHelpCommand: true,
		Before:          requireRoot,
		Action:          helpOnly,
		Commands: []*cli.Command{{
			Name:      "create",
			Usage:     "make a network, and print its ID",
			ArgsUsage: "NAME",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "bridge", Usage: "bridge is the only one", Destination: &driver},
				&cli.StringFlag{Name: "subnet", Usage: "the network's addresses, as in 10.1.2.0/24", Destination: &subnet},
				&cli.StringFlag{Name: "gateway", Usage: "the host's address among them, else the first", Destination: &gateway},
			},
			Action: needArgs(1, 1, func(_ context.Context, cmd *cli.Command) error {
				if driver != "bridge" {
					return fmt.Errorf("unknown network driver: %s", driver)
				}
				n, err := networks().Create(container.NewID(), cmd.Args().First(), subnet, gateway)
				if err != nil {
					return err
				}
				fmt.Println(n.ID)
				return nil
			}),
		}, newNetworkListCommand(), {
			Name:      "rm",
			Aliases:   []string{"remove"},
			Usage:     "remove networks",
			ArgsUsage: "NAME...",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also one of a newer mydocker; that one is not there is no error", Destination: &force},
			},
			Action: needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error {
				return each(cmd, func(name string) error {
					err := networks().Remove(name, force)
					if errors.As(err, &network.NotFoundError{}) && force {
						return nil
					}
					if err == nil {
						fmt.Println(name)
					}
					return err
				})
			}),
		}, {
			Name:      "inspect",
			Usage:     "print what is known about networks",
			ArgsUsage: "NAME...",
			Flags:     []cli.Flag{formatFlag(&format)},
			Action:    needArgs(1, orMore, func(_ context.Context, cmd *cli.Command) error { return inspectNetworks(cmd, format) }),
		}},
	}
}

// inspectNetworks prints those that it finds also if others are missing.
func inspectNetworks(cmd *cli.Command, format string) error {
	found := []any{}
	err := each(cmd, func(name string) error {
		n, err := networks().Find(name)
		if err == nil {
			found = append(found, describeNetwork(n))
		}
		return err
	})
	return errors.Join(printObjects(format, found), err)
}

func describeNetwork(n *network.Network) any {
	type endpoint struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }
	on := map[string]endpoint{}
	for _, e := range n.Endpoints() {
		on[e.ContainerID] = endpoint{Name: e.Name, MacAddress: e.HardwareAddr().String(), IPv4Address: fmt.Sprintf("%s/%d", e.Address, n.Subnet.Bits())}
	}
	return map[string]any{
		"Name": n.Name, "Id": n.ID, "Created": n.Created, "Scope": scope, "Driver": n.Driver, "Interface": n.Interface(),
		"IPAM":     map[string]any{"Driver": "default", "Options": map[string]string{}, "Config": []map[string]string{{"Subnet": n.Subnet.String(), "Gateway": n.Gateway.String()}}},
		"Internal": false, "EnableIPv6": false, "Attachable": false, "Ingress": false, "ConfigOnly": false, "Options": map[string]string{}, "Labels": map[string]string{},
		"Containers": on,
	}
}
