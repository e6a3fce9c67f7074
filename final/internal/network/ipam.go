//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/record"
)

// Step 2: addresses and routes. The bridge has the gateway's address, so the host is on the
// network too. A container leases another one for as long as it runs.

// pools are what subnets are taken from for networks that come without one.
var pools = []netip.Prefix{
	netip.MustParsePrefix("10.83.0.0/16"),
	netip.MustParsePrefix("10.84.0.0/14"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// subnetSizes returns the sizes that a network's subnet may have, in bits, the best first. The
// default network has room for more containers than a bridge has ports, if the host has such a
// range left.
func subnetSizes(name string) []int {
	if name == Default {
		return []int{16, 20, 24}
	}
	return []int{24}
}

// chooseSubnet returns the subnet and the gateway for a new network. Those that are not given are
// chosen.
func (s *Store) chooseSubnet(name, subnet, gateway string) (chosen netip.Prefix, _ netip.Addr, err error) {
	if subnet == "" {
		chosen, err = s.freeSubnet(subnetSizes(name))
	} else {
		chosen, err = parseSubnet(subnet)
	}
	if err != nil {
		return chosen, netip.Addr{}, err
	}
	first := chosen.Addr().Next()
	if gateway == "" {
		return chosen, first, nil
	}
	addr, err := netip.ParseAddr(gateway)
	if err != nil || !chosen.Contains(addr) || addr.Less(first) || !chosen.Contains(addr.Next()) {
		return chosen, addr, fmt.Errorf("no matching subnet for gateway %s: it is not an address for a host in %s", gateway, chosen)
	}
	return chosen, addr, nil
}

// parseSubnet reads a subnet that has room for a gateway and a container.
func parseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return subnet, fmt.Errorf("invalid subnet %s: it should be like 10.1.2.0/24", text)
	case !subnet.Addr().Is4():
		return subnet, fmt.Errorf("invalid subnet %s: networks have IPv4 addresses here", text)
	case subnet != subnet.Masked():
		return subnet, fmt.Errorf("invalid subnet %s: it should be %s", text, subnet.Masked())
	case subnet.Bits() > 30:
		return subnet, fmt.Errorf("invalid subnet %s: there is no room for a container, as there is in a /30", text)
	case subnet.Bits() < 8 || subnet.Addr().IsLoopback() || subnet.Addr().IsMulticast():
		return subnet, fmt.Errorf("invalid subnet %s: these are not addresses for a network of yours", text)
	}
	return subnet, nil
}

// freeSubnet returns the first part of the pools that is free, of the best size that is left.
func (s *Store) freeSubnet(sizes []int) (netip.Prefix, error) {
	taken, err := (&Network{store: s}).takenByOthers()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, bits := range sizes {
		for _, pool := range pools {
			for subnet := netip.PrefixFrom(pool.Addr(), bits); pool.Contains(subnet.Addr()); subnet = behind(subnet) {
				if findOverlap(subnet, taken) == nil {
					return subnet, nil
				}
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("no subnet is free in %v (make a network of other addresses: mydocker network create --subnet SUBNET NAME)", pools)
}

// behind returns the subnet of the same size that comes next.
func behind(subnet netip.Prefix) netip.Prefix {
	bytes := subnet.Addr().As4()
	next := binary.BigEndian.Uint32(bytes[:]) + 1<<(32-subnet.Bits())
	binary.BigEndian.PutUint32(bytes[:], next)
	return netip.PrefixFrom(netip.AddrFrom4(bytes), subnet.Bits())
}

// checkSubnet refuses the addresses of another network, and those that the host has a route
// to: it would not reach them any more.
func (n *Network) checkSubnet() error {
	taken, err := n.takenByOthers()
	if err != nil {
		return err
	}
	return findOverlap(n.Subnet, taken)
}

// taken is a range of addresses that a network cannot have, and who has it.
type taken struct {
	subnet netip.Prefix
	owner  string
}

// findOverlap returns an error if the subnet has addresses of one that is taken.
func findOverlap(subnet netip.Prefix, all []taken) error {
	for _, t := range all {
		if t.subnet.Overlaps(subnet) {
			return fmt.Errorf("invalid pool request: subnet %s overlaps with %s", subnet, t.owner)
		}
	}
	return nil
}

// takenByOthers returns the addresses of all other networks, and those that the host has a
// route to.
func (n *Network) takenByOthers() (all []taken, err error) {
	names, err := n.store.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name != n.Name {
			subnet := n.store.subnetOf(name)
			all = append(all, taken{subnet, fmt.Sprintf("network %s (%s)", name, subnet)})
		}
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("listing the host's routes: %w", err)
	}
	ours, _ := netlink.LinkByName(n.bridge()) // left over, or none
	for _, route := range routes {
		if route.Dst == nil || ours != nil && route.LinkIndex == ours.Attrs().Index {
			continue
		}
		ip, _ := netip.AddrFromSlice(route.Dst.IP.To4())
		bits, _ := route.Dst.Mask.Size()
		if bits > 0 {
			to := netip.PrefixFrom(ip, bits)
			all = append(all, taken{to, fmt.Sprintf("the host's route to %s", to)})
		}
	}
	return all, nil
}

// subnetOf returns the subnet of the network of this name.
func (s *Store) subnetOf(name string) netip.Prefix {
	text, _ := os.Readlink(filepath.Join(s.dir(), name, subnetName))
	subnet, err := netip.ParsePrefix(text)
	if err == nil {
		return subnet
	}
	n, _ := s.read(name) // an earlier mydocker made it
	if n == nil {
		return netip.Prefix{}
	}
	return n.Subnet
}

// ipNet is a prefix as netlink wants it.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}

// HardwareAddr is the one of the container's interface.
func (e *Endpoint) HardwareAddr() net.HardwareAddr { return hardwareAddr(e.Address) }

// hardwareAddr derives a hardware address from the other one. When a container gets the address
// of one that is gone, its neighbours still know where it is.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x42}, addr.AsSlice()...)
}

// addGateway gives the bridge its address. The route to the subnet comes with it.
func (n *Network) addGateway() error {
	bridge, err := netlink.LinkByName(n.bridge())
	if err == nil {
		err = netlink.AddrReplace(bridge, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(n.Gateway, n.Subnet.Bits()))})
	}
	if err != nil {
		return fmt.Errorf("giving the bridge its address: %w", err)
	}
	return nil
}

func (e *Endpoint) setUpEth0() error {
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(e.Address, e.network.Subnet.Bits()))}); err != nil {
		return err
	}
	// With an IPv6 address, each new container would announce itself to all others on the bridge.
	err = netlink.LinkSetIP6AddrGenMode(eth0, nl.IN6_ADDR_GEN_MODE_NONE)
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // of a kernel without IPv6
		return err
	}
	if err := netlink.LinkSetUp(eth0); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: e.network.Gateway.AsSlice()})
}

// leases is the directory of the network's leases: for each address the endpoint that has it.
func (n *Network) leases() string { return filepath.Join(n.dir(), "leases") }

func (n *Network) leaseFile(addr netip.Addr) string {
	return filepath.Join(n.leases(), addr.String())
}

var errNoAddress = errors.New("no address is left (make a larger network: mydocker network create --subnet 10.90.0.0/16 NAME)")

// lease gives the endpoint an address that is its alone. When there is none left, those of
// containers that are dead are taken back.
func (n *Network) lease(e *Endpoint) error {
	err := n.leaseFree(e)
	if errors.Is(err, errNoAddress) {
		err = n.reclaim()
		if err == nil {
			err = n.leaseFree(e)
		}
	}
	if err != nil {
		err = errors.Join(err, n.unlinkEndpoint(e.ContainerID))
		return fmt.Errorf("leasing an address on network %s (%s): %w", n.Name, n.Subnet, err)
	}
	return nil
}

// leaseFree leases the next address that is free behind the last one that was, so that an
// address is not used again at once: somebody may still be talking to who had it.
func (n *Network) leaseFree(e *Endpoint) error {
	addr := n.lastLeased()
	for range 1 << (32 - n.Subnet.Bits()) {
		addr = n.next(addr)
		if addr == n.Gateway {
			continue
		}
		e.Address = addr
		err := n.linkEndpoint(e) // first: it leads to the lease, however soon we are killed
		if err == nil {
			err = n.writeLease(e)
		}
		if err == nil {
			return n.setLastLeased(addr)
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	e.Address = netip.Addr{}
	return errNoAddress
}

// lastFile has the address that was leased last. It is a hint, so it is not worth a sync, and
// without one that can be used the search begins with the first address.
func (n *Network) lastFile() string { return filepath.Join(n.dir(), "last") }

func (n *Network) lastLeased() netip.Addr {
	data, _ := os.ReadFile(n.lastFile())
	addr, err := netip.ParseAddr(string(data))
	if err != nil || !n.Subnet.Contains(addr) {
		return n.Subnet.Addr()
	}
	return addr
}

func (n *Network) setLastLeased(addr netip.Addr) error {
	return os.WriteFile(n.lastFile(), []byte(addr.String()), 0o600)
}

// writeLease makes the lease's file, whole from its first moment on: of two who make a link of
// the same name at once, the kernel tells one that it is there.
func (n *Network) writeLease(e *Endpoint) error {
	e.Version = version
	data, err := record.Encode(e)
	if err != nil {
		return err
	}
	// Nobody else's, while we have the lock. A lease is not worth a sync: it ends with the machine.
	whole := filepath.Join(n.dir(), "lease.new")
	if err := os.WriteFile(whole, data, 0o600); err != nil {
		return err
	}
	defer os.Remove(whole)
	if err := os.MkdirAll(n.leases(), 0o700); err != nil {
		return err
	}
	return os.Link(whole, n.leaseFile(e.Address))
}

func (n *Network) readLease(addr netip.Addr) (*Endpoint, error) {
	data, err := os.ReadFile(n.leaseFile(addr))
	if err != nil {
		return nil, err
	}
	e := &Endpoint{network: n}
	err = record.Parse(data, e, &e.Version, version)
	if err == nil && (e.ContainerID == "" || e.Address != addr) {
		err = errors.New("it is about another address")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the lease of %s: %w", addr, err)
	}
	return e, nil
}

// next returns the address behind one, or the first again. The first of all is the network's
// and the last one is for broadcasts: hosts have those between.
func (n *Network) next(addr netip.Addr) netip.Addr {
	addr = addr.Next()
	if !n.Subnet.Contains(addr.Next()) {
		return n.Subnet.Addr().Next()
	}
	return addr
}

func (n *Network) release(addr netip.Addr) error {
	if err := os.Remove(n.leaseFile(addr)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("giving back the address: %w", err)
	}
	return nil
}

// Endpoints returns who is on the network, in no order.
func (n *Network) Endpoints() []*Endpoint {
	entries, _ := os.ReadDir(n.leases()) // none, if the network is gone
	var endpoints []*Endpoint
	for _, entry := range entries {
		addr, err := netip.ParseAddr(entry.Name())
		if err != nil {
			continue // not ours
		}
		e, err := n.readLease(addr)
		if err != nil {
			e = &Endpoint{Network: n.Name, ContainerID: strings.Repeat("?", 12), Address: addr, network: n} // damaged, so nobody's
		}
		endpoints = append(endpoints, e)
	}
	return endpoints
}

// reclaim takes back what dead containers hold. The caller holds the lock.
func (n *Network) reclaim() error {
	var errs []error
	for _, e := range n.Endpoints() {
		if !e.isAlive() {
			errs = append(errs, n.giveBack(e))
		}
	}
	return errors.Join(errs...)
}
