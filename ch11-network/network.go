//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"
)

// What --network takes besides the name of a network. The default network is one like any
// other, but for being made when the first container needs it.
const (
	defaultNetwork = "bridge"
	hostNetwork    = "host" // no network namespace
	noNetwork      = "none" // one with nothing in it but lo
)

// network is what is kept about a network: enough to make it again, as the kernel forgets it
// when the machine is switched off.
type network struct {
	ID      string
	Name    string
	Driver  string
	Created time.Time
	Subnet  netip.Prefix
	Gateway netip.Addr // the bridge's address, and the containers' way to everywhere else
	Last    netip.Addr // that was leased
}

func newNetworkCommand() *cli.Command {
	var driver, subnet, gateway string
	network := &cli.Command{
		Name:            "network",
		Usage:           "make, list and remove networks",
		HideHelpCommand: true,
		Before:          requireRoot,
		Commands: []*cli.Command{{
			Name:      "create",
			Usage:     "make a network, and print its ID",
			ArgsUsage: "NAME",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "driver", Aliases: []string{"d"}, Value: "bridge", Usage: "bridge is the only one", Destination: &driver},
				&cli.StringFlag{Name: "subnet", Usage: "the network's addresses, as in 10.1.2.0/24", Destination: &subnet},
				&cli.StringFlag{Name: "gateway", Usage: "the host's address among them, else the first", Destination: &gateway},
			},
			Action: func(_ context.Context, cmd *cli.Command) error {
				if cmd.NArg() != 1 {
					return errors.New("network create needs a name (see mydocker network create --help)")
				}
				if driver != "bridge" {
					return fmt.Errorf("unknown network driver: %s", driver)
				}
				return createNetwork(cmd.Args().First(), subnet, gateway)
			},
		}, {
			Name:    "ls",
			Aliases: []string{"list"},
			Usage:   "list the networks",
			Action:  func(context.Context, *cli.Command) error { return listNetworks() },
		}, {
			Name:      "rm",
			Aliases:   []string{"remove"},
			Usage:     "remove networks",
			ArgsUsage: "NAME...",
			Action:    func(_ context.Context, cmd *cli.Command) error { return forEach(cmd, removeNetwork) },
		}, {
			Name:      "inspect",
			Usage:     "print what is known about networks",
			ArgsUsage: "NAME...",
			Action:    func(_ context.Context, cmd *cli.Command) error { return inspectNetworks(cmd) },
		}},
		Action: helpOnly,
	}
	for _, cmd := range network.Commands {
		cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
	}
	return network
}

// forEach does something to every network that the command line names, also behind one with
// which it fails.
func forEach(cmd *cli.Command, do func(name string) error) error {
	if !cmd.Args().Present() {
		return fmt.Errorf("network %s needs a name", cmd.Name)
	}
	var errs []error
	for _, name := range cmd.Args().Slice() {
		errs = append(errs, do(name))
	}
	return errors.Join(errs...)
}

func createNetwork(name, subnet, gateway string) error {
	if name == defaultNetwork || name == hostNetwork || name == noNetwork {
		return fmt.Errorf("operation is not permitted on predefined %s network", name)
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	n, err := newNetwork(name, subnet, gateway)
	if err != nil {
		return err
	}
	fmt.Println(n.ID)
	return nil
}

// newNetwork writes down a network and makes it. The caller holds the lock.
func newNetwork(name, subnet, gateway string) (_ *network, err error) {
	if !containerName.MatchString(name) {
		return nil, fmt.Errorf("invalid network name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if _, err := readNetwork(name); err == nil {
		return nil, fmt.Errorf("network with name %s already exists", name)
	}
	n := &network{ID: newID(), Name: name, Driver: "bridge", Created: time.Now()}
	if n.Subnet, n.Gateway, err = chooseSubnet(name, subnet, gateway); err != nil {
		return nil, err
	}
	if err := n.checkSubnet(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(n.leases(), 0o700); err != nil {
		return nil, fmt.Errorf("making network %s: %w", name, err)
	}
	defer undoOnError(&err, n.remove)
	if err := n.save(); err != nil {
		return nil, err
	}
	return n, n.up()
}

// up makes of the record what the kernel has to have. The bridge is switched on when all the
// rest is there: one that is up is complete, and there is nothing to do, unless somebody has
// flushed all rules since. So this also ends what a killed mydocker has begun, and brings a
// network back after a reboot.
func (n *network) up() error {
	if bridgeIsUp(n.bridge()) && haveFirewall() {
		return nil
	}
	if err := n.checkSubnet(); err != nil {
		return err
	}
	if err := n.makeBridge(); err != nil {
		return err
	}
	if err := forbidIPv6(n.bridge()); err != nil {
		return err
	}
	if err := n.addGateway(); err != nil {
		return err
	}
	if err := n.openFirewall(); err != nil {
		return err
	}
	if err := enableForwarding(); err != nil {
		return err
	}
	return n.switchOn()
}

// remove undoes up, and forgets the network last. With the last bridge goes the firewall's table,
// and what else we have changed in the kernel.
func (n *network) remove() error {
	if err := n.removeBridge(); err != nil {
		return err
	}
	last := !anyBridge()
	if err := n.closeFirewall(last); err != nil {
		return err
	}
	if last {
		if err := restoreForwarding(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(n.dir()); err != nil {
		return fmt.Errorf("removing network %s: %w", n.Name, err)
	}
	return nil
}

func removeNetwork(name string) error {
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	if name == hostNetwork || name == noNetwork {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed", name)
	}
	n, err := findNetwork(name)
	if err != nil {
		return err
	}
	if err := n.reclaim(); err != nil {
		return err
	}
	for _, id := range n.leased() {
		name := ""
		if c, err := readContainer(id); err == nil {
			name = c.Name
		}
		return fmt.Errorf("error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, name, shortID(id))
	}
	if err := n.remove(); err != nil {
		return err
	}
	fmt.Println(name)
	return nil
}

func listNetworks() error {
	networks, err := readNetworks()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 10, 1, 3, ' ', 0)
	fmt.Fprintln(table, "NETWORK ID\tNAME\tDRIVER\tSUBNET")
	for _, n := range networks {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", shortID(n.ID), n.Name, n.Driver, n.Subnet)
	}
	return table.Flush()
}

// inspectNetworks prints an array, as docker does, also of those that it finds if others are missing.
func inspectNetworks(cmd *cli.Command) error {
	type endpoint struct{ Name, IPv4Address string }
	type description struct {
		Name, ID, Driver, Interface string
		Created                     time.Time
		IPAM                        struct{ Config []map[string]string }
		Containers                  map[string]endpoint
	}
	found := []description{}
	err := forEach(cmd, func(name string) error {
		n, err := findNetwork(name)
		if err != nil {
			return err
		}
		shown := description{Name: n.Name, ID: n.ID, Driver: n.Driver, Interface: n.bridge(), Created: n.Created, Containers: map[string]endpoint{}}
		shown.IPAM.Config = []map[string]string{{"Subnet": n.Subnet.String(), "Gateway": n.Gateway.String()}}
		for addr, id := range n.leased() {
			c, err := readContainer(id)
			if err != nil {
				continue // gone in this moment
			}
			shown.Containers[id] = endpoint{Name: c.Name, IPv4Address: fmt.Sprintf("%s/%d", addr, n.Subnet.Bits())}
		}
		found = append(found, shown)
		return nil
	})
	data, jsonErr := json.MarshalIndent(found, "", "    ")
	fmt.Println(string(data))
	return errors.Join(err, jsonErr)
}

func networksDir() string {
	return filepath.Join(stateDir(), "networks")
}

// lockNetworks keeps all others from changing networks until the returned file is closed.
func lockNetworks() (*os.File, error) {
	if err := os.MkdirAll(networksDir(), 0o700); err != nil {
		return nil, fmt.Errorf("making the networks' directory: %w", err)
	}
	return lockDir(networksDir())
}

func (n *network) dir() string  { return filepath.Join(networksDir(), n.Name) }
func (n *network) file() string { return filepath.Join(n.dir(), "network.json") }

// save writes the record.
func (n *network) save() error {
	data, err := json.MarshalIndent(n, "", "\t")
	if err == nil {
		err = replaceFile(n.file(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("recording network %s: %w", n.Name, err)
	}
	return nil
}

func readNetwork(name string) (*network, error) {
	n := &network{Name: name}
	if !containerName.MatchString(name) {
		return nil, fmt.Errorf("network %s not found", name)
	}
	data, err := os.ReadFile(n.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network %s not found", name)
	}
	if err == nil {
		err = json.Unmarshal(data, n)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of network %s: %w", name, err)
	}
	return n, nil
}

// readNetworks returns all networks, by name.
func readNetworks() ([]*network, error) {
	files, err := filepath.Glob(filepath.Join(networksDir(), "*", "network.json"))
	if err != nil {
		return nil, fmt.Errorf("looking for networks: %w", err)
	}
	var networks []*network
	for _, file := range files {
		n, err := readNetwork(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		networks = append(networks, n)
	}
	return networks, nil
}

// findNetwork finds a network by its name or by the first digits of its ID.
func findNetwork(given string) (*network, error) {
	n, nameErr := readNetwork(given)
	if nameErr == nil {
		return n, nil
	}
	networks, err := readNetworks()
	if err != nil {
		return nil, err
	}
	for _, other := range networks {
		if given != "" && strings.HasPrefix(other.ID, given) {
			if n != nil {
				return nil, fmt.Errorf("network %s is ambiguous", given)
			}
			n = other
		}
	}
	if n == nil {
		return nil, nameErr
	}
	return n, nil
}
