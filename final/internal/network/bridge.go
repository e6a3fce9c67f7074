//go:build linux

package network

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Step 1: a bridge, which is a switch in the kernel, and for each container a veth, which is
// a cable: one end in the switch, the other, as eth0, in the container's network namespace.

const vethPrefix = "mdv"

// bridgePrefix is what the names of all bridges begin with, md- or md12345-, which is how the
// firewall's rules know them.
func (s *Store) bridgePrefix() string {
	_, digits, _ := strings.Cut(s.name, "-")
	return "md" + digits + "-"
}

// bridge returns the name of the network's bridge. A name may have 15 bytes, and the host has
// interfaces of its own: so it is not the network's.
func (n *Network) bridge() string {
	name := n.store.bridgePrefix() + fmt.Sprintf("%x", sha256.Sum256([]byte(n.Name)))
	return name[:unix.IFNAMSIZ-1]
}

func vethName(id string) string {
	return vethPrefix + id[:12]
}

func bridgeIsUp(name string) bool {
	link, err := netlink.LinkByName(name)
	return err == nil && link.Type() == "bridge" && link.Attrs().Flags&net.FlagUp != 0
}

// hasBridge tells whether one of the networks has a bridge.
func (s *Store) hasBridge() bool {
	names, err := os.ReadDir(s.dir())
	return err != nil || slices.ContainsFunc(names, func(name fs.DirEntry) bool {
		_, err := netlink.LinkByName((&Network{Name: name.Name(), store: s}).bridge())
		return !errors.As(err, &netlink.LinkNotFoundError{})
	})
}

// anyBridge tells whether there is a bridge of any network of any state directory.
func anyBridge() bool {
	links, err := netlink.LinkList()
	return err != nil || slices.ContainsFunc(links, func(link netlink.Link) bool {
		return link.Type() == "bridge" && isBridge().MatchString(link.Attrs().Name)
	})
}

// isBridge is compiled when it is needed: with the last network.
var isBridge = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^md[0-9a-f]*-`) })

// bridgeAddress returns the subnet and the address of a bridge, or nothing if there is none.
func bridgeAddress(name string) (subnet netip.Prefix, addr netip.Addr) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return subnet, addr
	}
	addrs, _ := link.Addrs() // none, if it goes in this moment
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
			return prefix.Masked(), prefix.Addr()
		}
	}
	return subnet, addr
}

// makeBridge makes the network's bridge, if it is not there.
func (n *Network) makeBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.bridge()
	// Else a bridge has the lowest of its ports' addresses, and when a container comes or goes,
	// the others look for their gateway where it was before.
	attrs.HardwareAddr = hardwareAddr(n.Gateway)
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if errors.Is(err, fs.ErrExist) {
		link, err := netlink.LinkByName(attrs.Name)
		if err == nil && link.Type() != "bridge" {
			return fmt.Errorf("making the bridge: there is an interface %s, which is a %s", attrs.Name, link.Type())
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("making the bridge: %w", err)
	}
	return nil
}

// forbidIPv6 switches IPv6 off on an interface of the host that containers send to. A container
// could otherwise announce itself as a router, and the host would send its packets there: see
// CVE-2020-13401. The interface must still be down, so that nothing arrives before.
func forbidIPv6(link string) error {
	for _, setting := range [][2]string{{"accept_ra", "0"}, {"autoconf", "0"}, {"disable_ipv6", "1"}} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/"+setting[0], []byte(setting[1]), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6 has no such file
			return fmt.Errorf("switching IPv6 off on %s: %w", link, err)
		}
	}
	return nil
}

func (n *Network) removeBridge() error {
	link, err := netlink.LinkByName(n.bridge())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil && link.Type() == "bridge" {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("removing the bridge: %w", err)
	}
	return nil
}

func (n *Network) switchOn() error {
	link, err := netlink.LinkByName(n.bridge())
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("switching the bridge on: %w", err)
	}
	return nil
}

// makeVeth makes the veth. Its inner end is born in the container's namespace.
func (e *Endpoint) makeVeth(pid int) error {
	bridge, err := netlink.LinkByName(e.network.bridge())
	if err != nil {
		return fmt.Errorf("finding the bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = vethName(e.ContainerID)
	attrs.MasterIndex = bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "eth0"
	veth.PeerNamespace = netlink.NsPid(pid)
	veth.PeerHardwareAddr = e.HardwareAddr()
	err = netlink.LinkAdd(veth)
	if errors.Is(err, fs.ErrExist) { // of the container's last run: its namespace has yet to go
		if old, findErr := netlink.LinkByName(attrs.Name); findErr == nil {
			_ = netlink.LinkDel(old) // it may go by itself in this moment
		}
		err = netlink.LinkAdd(veth)
	}
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("network %s is full: a bridge has at most 1023 ports (make another network: mydocker network create NAME)", e.Network)
	}
	if err != nil {
		return fmt.Errorf("making the veth: %w", err)
	}
	if err := forbidIPv6(attrs.Name); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("switching the veth on: %w", err)
	}
	return e.allowHairpin(veth)
}

// detach switches the veth off, for the address will be somebody else's. It ends with the
// container's namespace. To remove it is slow, and the namespace may live on for a while, when
// there are connections to be closed.
func (e *Endpoint) detach() error {
	veth, err := netlink.LinkByName(vethName(e.ContainerID))
	if err == nil {
		err = netlink.LinkSetDown(veth)
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("switching the veth off: %w", err)
	}
	return nil
}

// allowHairpin lets packets out where they have come in, which a switch does not do: when the
// container asks for its own published port. They pass through the host, so it is no matter,
// unless the firewall looks into bridges as well (br_netfilter, which Docker and Kubernetes
// load): then they are turned around on the spot.
func (e *Endpoint) allowHairpin(veth netlink.Link) error {
	inBridges, _ := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables") // not there without br_netfilter
	if len(e.Ports) == 0 || !strings.HasPrefix(string(inBridges), "1") {
		return nil
	}
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("letting the container reach itself: %w", err)
	}
	return nil
}

// setSysctl writes to a file below /proc/sys/net, which shows the network namespace of whoever
// looks.
func setSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0)
	if errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w (are we in a container ourselves?)", err)
	}
	return err
}
