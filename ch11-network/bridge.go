//go:build linux

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Step 1: a bridge, which is a switch in the kernel, and for each container a veth, which is
// a cable: one end in the switch, the other, as eth0, in the container's network namespace.

// Our interfaces begin with these, which is how the firewall's rules know them.
const (
	bridgePrefix = "md-"
	vethPrefix   = "mdv"
)

// bridge returns the name of the network's bridge. A name may have 15 bytes, and the host has
// interfaces of its own: so it is not the network's.
func (n *network) bridge() string {
	return fmt.Sprintf("%s%.6x", bridgePrefix, sha256.Sum256([]byte(n.Name)))
}

func vethName(id string) string {
	return vethPrefix + shortID(id)
}

func bridgeIsUp(name string) bool {
	link, err := netlink.LinkByName(name)
	return err == nil && link.Type() == "bridge" && link.Attrs().Flags&net.FlagUp != 0
}

// anyBridge tells whether there is a bridge of any network.
func anyBridge() bool {
	links, err := net.Interfaces()
	return err != nil || slices.ContainsFunc(links, func(link net.Interface) bool { return strings.HasPrefix(link.Name, bridgePrefix) })
}

// makeBridge makes the network's bridge, if it is not there.
func (n *network) makeBridge() error {
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

func (n *network) removeBridge() error {
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

func (n *network) switchOn() error {
	link, err := netlink.LinkByName(n.bridge())
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("switching the bridge on: %w", err)
	}
	return nil
}

// attach makes the veth. Its inner end is born in init's namespace: no thread of ours ever has
// to go there, and none can be left there by mistake.
func (c *container) attach(pid int) error {
	n := c.Endpoint.network
	if n == nil {
		return nil
	}
	bridge, err := netlink.LinkByName(n.bridge())
	if err != nil {
		return fmt.Errorf("finding the bridge: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = vethName(c.ID)
	attrs.MasterIndex = bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = "eth0"
	veth.PeerNamespace = netlink.NsPid(pid)
	veth.PeerHardwareAddr = hardwareAddr(c.Endpoint.Address)
	err = netlink.LinkAdd(veth)
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("network %s is full: a bridge has at most 1023 ports (make another network: mydocker network create NAME)", n.Name)
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
	return c.allowHairpin(veth)
}

// detach switches the veth off, for the address will be somebody else's. It ends with the
// container's namespace. To remove it is slow, and the namespace may live on for a while, when
// there are connections to be closed.
func (c *container) detach() error {
	veth, err := netlink.LinkByName(vethName(c.ID))
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
func (c *container) allowHairpin(veth netlink.Link) error {
	inBridges, _ := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables") // not there without br_netfilter
	if len(c.Endpoint.Ports) == 0 || !strings.HasPrefix(string(inBridges), "1") {
		return nil
	}
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("letting the container reach itself: %w", err)
	}
	return nil
}

// setUp is init's part: addresses and routes, in the namespace that is the container's own.
func (config networkConfig) setUp() error {
	if config.Shared {
		return nil
	}
	if err := bringUpLoopback(); err != nil {
		return fmt.Errorf("bringing lo up: %w", err)
	}
	if !config.Address.IsValid() {
		return nil
	}
	if err := config.setUpEth0(); err != nil {
		return fmt.Errorf("setting up eth0: %w", err)
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
