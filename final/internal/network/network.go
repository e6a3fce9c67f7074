//go:build linux

// Package network connects containers: bridges, leases of addresses, endpoints, published ports.
// All that it knows is in files below the state directory, so that a machine that was switched off
// has the same networks afterwards: the next container on one brings it up again.
package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lixd/mydocker/final/internal/fault"
	"github.com/lixd/mydocker/final/internal/instance"
	"github.com/lixd/mydocker/final/internal/record"
)

// What a container's network may be called besides the name of one that was made. The default
// network is one like any other, but for being made when the first container needs it.
const (
	Default = "bridge"
	Host    = "host" // no network namespace
	None    = "none" // one with nothing in it but lo
)

// Store is all networks, in the state directory.
type Store struct {
	Context context.Context // ends every wait for a lock

	root string
	name string // of what is ours in the kernel
}

// Open returns the networks below the state directory root.
func Open(root string) *Store {
	return &Store{Context: context.Background(), root: root, name: instance.Name(root)}
}

// Network is what is kept about a network: enough to make it again, as the kernel forgets it
// when the machine is switched off.
type Network struct {
	Version int
	ID      string
	Name    string
	Driver  string
	Created time.Time
	Subnet  netip.Prefix
	Gateway netip.Addr // the bridge's address, and the containers' way to everywhere else

	store  *Store
	damage error // why the record cannot be used, or nil
}

// Damage returns why the record of the network cannot be used, or nil.
func (n *Network) Damage() error { return n.damage }

const version = 1

// validName is compiled when it is needed: few commands are given a new name.
var validName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
})

// IsPredefined tells whether nobody has to make a network of this name.
func IsPredefined(name string) bool { return name == Default || name == Host || name == None }

// Create makes a network. An empty subnet or gateway is chosen. The ID is the caller's choice.
func (s *Store) Create(id, name, subnet, gateway string) (*Network, error) {
	if IsPredefined(name) {
		return nil, fmt.Errorf("operation is not permitted on predefined %s network", name)
	}
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	return s.create(id, name, subnet, gateway)
}

// create writes down a network and makes it. The caller holds the lock.
func (s *Store) create(id, name, subnet, gateway string) (_ *Network, err error) {
	if !validName().MatchString(name) {
		return nil, fmt.Errorf("invalid network name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if len(name) > 255 { // it is a file's
		return nil, fmt.Errorf("invalid network name (%.20s...): it has %d characters, and 255 are allowed", name, len(name))
	}
	if _, err := s.read(name); err == nil {
		return nil, fmt.Errorf("network with name %s already exists", name)
	} else if record.IsDamaged(err) {
		return nil, err
	}
	n := &Network{Version: version, ID: id, Name: name, Driver: "bridge", Created: time.Now(), store: s}
	if n.Subnet, n.Gateway, err = s.chooseSubnet(name, subnet, gateway); err != nil {
		return nil, err
	}
	if subnet != "" { // one that was chosen is free
		if err := n.checkSubnet(); err != nil {
			return nil, err
		}
	}
	if err := n.record(); err != nil {
		return nil, fmt.Errorf("recording network %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.remove())
		}
	}()
	fault.Point("network-recorded")
	return n, n.build()
}

// up makes of the record what the kernel has to have. The bridge is switched on when all the
// rest is there: one that is up is complete, and there is nothing to do, unless somebody has
// changed the firewall since. So this also ends what a killed mydocker has begun, and brings a
// network back after a reboot.
func (n *Network) up() error {
	if bridgeIsUp(n.bridge()) && n.store.haveFirewall() {
		return nil
	}
	if err := n.reclaim(); err != nil { // of before a reboot
		return err
	}
	if err := n.checkSubnet(); err != nil {
		return err
	}
	return n.build()
}

// build makes all that a network has in the kernel.
func (n *Network) build() error {
	if !bridgeIsUp(n.bridge()) { // for a new network, and after a reboot
		if err := n.makeHosts(); err != nil {
			return err
		}
	}
	if err := n.makeBridge(); err != nil {
		return err
	}
	fault.Point("network-bridge")
	if err := forbidIPv6(n.bridge()); err != nil {
		return err
	}
	if err := n.addGateway(); err != nil {
		return err
	}
	if err := n.openFirewall(); err != nil {
		return err
	}
	if err := n.store.enableForwarding(); err != nil {
		return err
	}
	fault.Point("network-forwards")
	return n.switchOn()
}

// remove undoes up, and forgets the network last. With the last bridge goes the firewall's table,
// and what else we have changed in the kernel.
func (n *Network) remove() error {
	if err := n.removeBridge(); err != nil {
		return err
	}
	fault.Point("network-unplugged")
	last := !n.store.hasBridge()
	if err := n.closeFirewall(last); err != nil {
		return err
	}
	if last {
		if err := n.store.restoreForwarding(); err != nil {
			return err
		}
	}
	fault.Point("network-undone")
	// In one step: a directory without a record is a damaged network.
	gone := filepath.Join(n.store.dir(), removing)
	if err := errors.Join(os.RemoveAll(gone), os.Rename(n.dir(), gone), record.SyncDirs(n.store.dir()), os.RemoveAll(gone)); err != nil {
		return fmt.Errorf("removing network %s: %w", n.Name, err)
	}
	return nil
}

// Remove removes a network that no container is on, also one whose record is damaged. One that a
// newer mydocker has made is removed by force only.
func (s *Store) Remove(name string, force bool) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if name == Host || name == None {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed", name)
	}
	n, err := s.Find(name)
	if err != nil && (!record.IsDamaged(err) || record.IsNewer(err) && !force) {
		return err
	}
	if err := n.reclaim(); err != nil {
		return err
	}
	for _, e := range n.Endpoints() {
		return fmt.Errorf("error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, e.Name, e.ContainerID[:12])
	}
	return n.remove()
}

func (s *Store) dir() string { return filepath.Join(s.root, "networks") }

// lock keeps all others from changing networks until the returned file is closed.
func (s *Store) lock() (*os.File, error) {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return nil, fmt.Errorf("making the networks' directory: %w", err)
	}
	return lockDir(s.Context, s.dir())
}

func (n *Network) dir() string  { return filepath.Join(n.store.dir(), n.Name) }
func (n *Network) file() string { return filepath.Join(n.dir(), "network.json") }

// Where networks are made and removed, one at a time. No network can have such a name.
const (
	making   = ".making"
	removing = ".removing"
)

// subnetName is that of a link in the network's directory to its subnet, which is faster to read
// than the record: a new network looks at those of all others.
const subnetName = "subnet"

// record writes down a new network, which appears among the others when it is whole.
func (n *Network) record() error {
	dir := filepath.Join(n.store.dir(), making)
	if err := os.RemoveAll(dir); err != nil { // of a process that was killed
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "leases"), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(n.Subnet.String(), filepath.Join(dir, subnetName)); err != nil {
		return err
	}
	if err := record.Write(filepath.Join(dir, "network.json"), n); err != nil {
		return err
	}
	if err := os.Rename(dir, n.dir()); err != nil {
		return err
	}
	return record.SyncDirs(n.store.dir())
}

// NotFoundError says that there is no such network.
type NotFoundError struct{ Name string }

func (e NotFoundError) Error() string { return "network " + e.Name + " not found" }

// read returns the network of this name. With an error that its record is damaged it also returns
// what can be found of the network, to be removed.
func (s *Store) read(name string) (*Network, error) {
	n := &Network{Name: name, store: s}
	if !validName().MatchString(name) {
		return nil, NotFoundError{name}
	}
	if info, err := os.Stat(n.dir()); err != nil || !info.IsDir() {
		return nil, NotFoundError{name}
	}
	data, err := os.ReadFile(n.file())
	if errors.Is(err, fs.ErrNotExist) {
		err = record.ErrMissing
	}
	if err == nil {
		err = record.Parse(data, n, &n.Version, version)
	}
	if err == nil {
		err = n.check(name)
	}
	if err != nil {
		n = &Network{ID: name, Name: name, store: s}
		n.Subnet, n.Gateway = bridgeAddress(n.bridge())
		n.damage = &record.DamagedError{What: "network " + name, Reason: err, Next: fmt.Sprintf("%q removes it", "mydocker network rm -f "+name)}
	}
	return n, n.damage
}

// check says what is wrong with a record that could be read.
func (n *Network) check(name string) error {
	switch {
	case n.Name != name:
		return fmt.Errorf("it is about another, %q", n.Name)
	case n.ID == "":
		return errors.New("it has no ID")
	case !n.Subnet.IsValid() || !n.Subnet.Addr().Is4():
		return errors.New("it has no subnet")
	case !n.Subnet.Contains(n.Gateway):
		return errors.New("its gateway is not in its subnet")
	default:
		return nil
	}
}

// List returns all networks, by name, those with a damaged record among them.
func (s *Store) List() ([]*Network, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var networks []*Network
	for _, name := range names {
		if n, _ := s.read(name); n != nil {
			networks = append(networks, n)
		}
	}
	return networks, nil
}

// names returns the names of all networks, in order.
func (s *Store) names() (names []string, err error) {
	entries, err := os.ReadDir(s.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for networks: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name()[0] != '.' { // those are ours
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Find finds a network by its ID, by its name, or by the first digits of its ID. Like read it also
// returns one that is damaged.
func (s *Store) Find(given string) (*Network, error) {
	n, nameErr := s.read(given)
	if n != nil && len(given) < 64 {
		return n, nameErr // any longer, it may be an ID
	}
	networks, err := s.List()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(networks, func(other *Network) bool { return other.ID == given }); i >= 0 {
		return networks[i], networks[i].damage
	}
	if n != nil {
		return n, nameErr
	}
	for _, other := range networks {
		if given != "" && other.damage == nil && strings.HasPrefix(other.ID, given) {
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

// Interface is the name of the network's bridge on the host.
func (n *Network) Interface() string { return n.bridge() }
