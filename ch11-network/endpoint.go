//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// endpoint is a container's place on a network.
type endpoint struct {
	Network string
	Address netip.Addr
	Ports   []port // that are published

	wanted  []port
	network *network    // nil on none and host
	sockets []io.Closer // see reserve
}

// networkConfig is what init is to make of the network namespace that it finds itself in.
type networkConfig struct {
	Shared  bool         // with the host: nothing
	Address netip.Prefix // of eth0, if there is one
	Gateway netip.Addr
}

// checkNetwork says so where ports cannot be published. It brings
// a network up that a shim is going to need: if we have to say something about it, a shim has
// nobody to say it to.
func checkNetwork(opts runOptions) error {
	isNetwork := opts.network != noNetwork && opts.network != hostNetwork
	if len(opts.ports) > 0 && !isNetwork {
		fmt.Fprintf(os.Stderr, "WARNING: published ports are discarded with --network %s\n", opts.network)
	}
	if !opts.detach || !isNetwork {
		return nil
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	_, err = openNetwork(opts.network)
	return err
}

// openNetwork finds a network and brings it up. The default network is made if there is none.
// The caller holds the lock.
func openNetwork(name string) (*network, error) {
	n, err := findNetwork(name)
	if err != nil && name == defaultNetwork {
		return newNetwork(defaultNetwork, "", "")
	}
	if err != nil {
		return nil, err
	}
	return n, n.up()
}

// joinNetwork finds the container its place on a network, and tells init what it is. The veth
// itself is made when there is a namespace to put its end into: see attach.
func (c *container) joinNetwork(init *exec.Cmd, config *initConfig) (err error) {
	switch e := &c.Endpoint; e.Network {
	case hostNetwork:
		init.SysProcAttr.Cloneflags &^= unix.CLONE_NEWNET
		config.Network.Shared = true
	case noNetwork:
	default:
		defer undoOnError(&err, c.leaveNetwork)
		if err := c.takeAddress(); err != nil {
			return err
		}
		config.Network.Address = netip.PrefixFrom(e.Address, e.network.Subnet.Bits())
		config.Network.Gateway = e.network.Gateway
		if err := c.publish(); err != nil {
			return err
		}
	}
	return c.showHostFiles(config)
}

// takeAddress leases an address on the network, and tells the others the container's name.
func (c *container) takeAddress() error {
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	e := &c.Endpoint
	if e.network, err = openNetwork(e.Network); err != nil {
		return err
	}
	e.Network = e.network.Name
	if e.Address, err = e.network.lease(c.ID); err != nil {
		return err
	}
	// Whoever clears up behind us should know of the address, and of the ports.
	return errors.Join(c.save(), e.network.writeHosts(""))
}

// leaveNetwork gives back what joinNetwork has taken. Also of a killed mydocker's container:
// then it is told by the lease that there is something to give back, and so it goes last.
func (c *container) leaveNetwork() error {
	e := &c.Endpoint
	n, err := readNetwork(e.Network)
	if err != nil {
		return nil // none, host, or gone
	}
	if !e.Address.IsValid() {
		e.Address = n.leaseOf(c.ID)
	}
	if owner, _ := os.Readlink(n.leaseFile(e.Address)); owner != c.ID { // nobody, if there is no such link
		return nil
	}
	if err := errors.Join(c.detach(), c.unpublish()); err != nil {
		return err
	}
	lock, err := lockNetworks()
	if err != nil {
		return err
	}
	defer lock.Close()
	return c.giveBackAddress(n)
}

// giveBackAddress undoes takeAddress. The caller holds the lock.
func (c *container) giveBackAddress(n *network) error {
	if err := n.writeHosts(c.ID); err != nil {
		return err
	}
	return n.release(c.Endpoint.Address)
}
