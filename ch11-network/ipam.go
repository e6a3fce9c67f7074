//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
	if name == defaultNetwork {
		return []int{16, 20, 24}
	}
	return []int{24}
}

// chooseSubnet returns the subnet and the gateway for a new network. Those that are not given are
// chosen.
func chooseSubnet(name, subnet, gateway string) (chosen netip.Prefix, _ netip.Addr, err error) {
	if subnet == "" {
		chosen, err = freeSubnet(subnetSizes(name))
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
func freeSubnet(sizes []int) (netip.Prefix, error) {
	taken, err := (&network{}).takenByOthers()
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
func (n *network) checkSubnet() error {
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
func (n *network) takenByOthers() (all []taken, err error) {
	networks, err := readNetworks()
	if err != nil {
		return nil, err
	}
	for _, other := range networks {
		if other.Name != n.Name {
			all = append(all, taken{other.Subnet, fmt.Sprintf("network %s (%s)", other.Name, other.Subnet)})
		}
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("listing the host's routes: %w", err)
	}
	ours, _ := net.InterfaceByName(n.bridge()) // left over, or none
	for _, route := range routes {
		if route.Dst == nil || ours != nil && route.LinkIndex == ours.Index {
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

// ipNet is a prefix as netlink wants it.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}

// hardwareAddr derives a hardware address from the other one. When a container gets the address
// of one that is gone, its neighbours still know where it is.
func hardwareAddr(addr netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0x42}, addr.AsSlice()...)
}

// addGateway gives the bridge its address. The route to the subnet comes with it.
func (n *network) addGateway() error {
	bridge, err := netlink.LinkByName(n.bridge())
	if err == nil {
		err = netlink.AddrReplace(bridge, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(n.Gateway, n.Subnet.Bits()))})
	}
	if err != nil {
		return fmt.Errorf("giving the bridge its address: %w", err)
	}
	return nil
}

func (config networkConfig) setUpEth0() error {
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(config.Address)}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(eth0); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: config.Gateway.AsSlice()})
}

// leases is the directory of the network's leases: links from addresses to containers' IDs.
func (n *network) leases() string { return filepath.Join(n.dir(), "leases") }

func (n *network) leaseFile(addr netip.Addr) string {
	return filepath.Join(n.leases(), addr.String())
}

var errNoAddress = errors.New("no address is left (make a larger network: mydocker network create --subnet 10.90.0.0/16 NAME)")

// lease returns an address that is the container's alone. When there is none left, those of
// containers that are dead are taken back.
func (n *network) lease(id string) (netip.Addr, error) {
	addr, err := n.leaseFree(id)
	if errors.Is(err, errNoAddress) {
		err = n.reclaim()
		if err == nil {
			addr, err = n.leaseFree(id)
		}
	}
	if err != nil {
		return addr, fmt.Errorf("leasing an address on network %s (%s): %w", n.Name, n.Subnet, err)
	}
	return addr, nil
}

// leaseFree leases the next address that is free behind the last one that was, so that an
// address is not used again at once: somebody may still be talking to who had it.
func (n *network) leaseFree(id string) (netip.Addr, error) {
	addr := n.Last
	if !addr.IsValid() {
		addr = n.Subnet.Addr()
	}
	for range 1 << (32 - n.Subnet.Bits()) {
		addr = n.next(addr)
		if addr == n.Gateway {
			continue
		}
		// Of two who make the same link at once, the kernel tells one that it is there.
		err := os.Symlink(id, n.leaseFile(addr))
		if err == nil {
			n.Last = addr
			return addr, n.save()
		}
		if !errors.Is(err, fs.ErrExist) {
			return netip.Addr{}, err
		}
	}
	return netip.Addr{}, errNoAddress
}

// next returns the address behind one, or the first again. The first of all is the network's
// and the last one is for broadcasts: hosts have those between.
func (n *network) next(addr netip.Addr) netip.Addr {
	addr = addr.Next()
	if !n.Subnet.Contains(addr.Next()) {
		return n.Subnet.Addr().Next()
	}
	return addr
}

func (n *network) release(addr netip.Addr) error {
	if err := os.Remove(n.leaseFile(addr)); err != nil {
		return fmt.Errorf("giving back the address: %w", err)
	}
	return nil
}

// leased returns whose the addresses are.
func (n *network) leased() map[netip.Addr]string {
	entries, _ := os.ReadDir(n.leases()) // none, if the network is gone
	leased := map[netip.Addr]string{}
	for _, entry := range entries {
		addr, err := netip.ParseAddr(entry.Name())
		if err != nil {
			continue // not ours
		}
		if id, err := os.Readlink(n.leaseFile(addr)); err == nil {
			leased[addr] = id
		}
	}
	return leased
}

// leaseOf returns the container's address, or none.
func (n *network) leaseOf(id string) netip.Addr {
	for addr, owner := range n.leased() {
		if owner == id {
			return addr
		}
	}
	return netip.Addr{}
}

// reclaim takes back what dead containers hold. The caller holds the lock.
func (n *network) reclaim() error {
	var errs []error
	for addr, id := range n.leased() {
		if isLocked(filepath.Join(containersDir(), id)) {
			continue
		}
		c, err := readContainer(id)
		if err != nil {
			c = &container{ID: id} // its record is lost
		}
		c.Endpoint.Address = addr
		errs = append(errs, c.unpublish(), c.giveBackAddress(n))
	}
	return errors.Join(errs...)
}

// reclaimAll takes it back on all networks.
func reclaimAll() error {
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	networks, err := readNetworks()
	for _, n := range networks {
		err = errors.Join(err, n.reclaim())
	}
	return err
}
