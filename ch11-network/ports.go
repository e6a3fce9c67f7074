//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is a port of a container that can be reached at one of the host's.
type port struct {
	IP        netip.Addr // of the host, 0.0.0.0 for all that it has
	Host      uint16
	Container uint16
	Protocol  string

	last uint16 // until it is reserved, any host port from Host to last will do
}

// parsePorts reads all that was given to -p.
func parsePorts(specs []string) ([]port, error) {
	var ports []port
	for _, spec := range specs {
		parsed, err := parsePort(spec)
		if err != nil {
			return nil, err
		}
		ports = append(ports, parsed...)
	}
	return ports, nil
}

// parsePort reads [IP:][HOST:]CONTAINER[/tcp|udp]. HOST and CONTAINER may be ranges, as in 80-82.
func parsePort(spec string) ([]port, error) {
	rest, protocol, given := strings.Cut(spec, "/")
	protocol = strings.ToLower(protocol)
	if !given {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return nil, fmt.Errorf("invalid proto: %s", protocol)
	}
	rest, container := cutLast(rest)
	ip, host := cutLast(rest)
	addr := netip.IPv4Unspecified()
	if ip != "" {
		var err error
		if addr, err = netip.ParseAddr(ip); err != nil || !addr.Is4() {
			return nil, fmt.Errorf("invalid IP address: %s", ip)
		}
	}
	first, last, ok := parseRange(container)
	if !ok {
		return nil, fmt.Errorf("invalid containerPort: %s", container)
	}
	var hostFirst, hostLast uint16
	if host == "0" {
		host = "" // any that is free
	}
	if host != "" {
		if hostFirst, hostLast, ok = parseRange(host); !ok {
			return nil, fmt.Errorf("invalid hostPort: %s", host)
		}
		if first != last && hostLast-hostFirst != last-first {
			return nil, fmt.Errorf("invalid ranges specified for container and host Ports: %s and %s", container, host)
		}
	}
	var ports []port
	for i := range last - first + 1 {
		p := port{IP: addr, Host: hostFirst, Container: first + i, Protocol: protocol, last: hostLast}
		if host != "" && first != last {
			p.Host += i
			p.last = p.Host
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// cutLast cuts a text at its last colon. Without one all of it is behind it.
func cutLast(text string) (before, after string) {
	i := strings.LastIndex(text, ":")
	return text[:max(i, 0)], text[i+1:]
}

// parseRange reads 80 or 80-82.
func parseRange(text string) (first, last uint16, ok bool) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	from, err1 := strconv.ParseUint(low, 10, 16)
	to, err2 := strconv.ParseUint(high, 10, 16)
	return uint16(from), uint16(to), err1 == nil && err2 == nil && 0 < from && from <= to
}

// reserve takes the host's port from everybody else, for as long as the socket is open: the
// kernel knows if it is taken, and which one is free. Nothing ever comes to this socket, as the
// firewall sends it to the container before.
func (p *port) reserve() (io.Closer, error) {
	for ; ; p.Host++ {
		socket, number, err := p.listen()
		if err == nil {
			p.Host, p.last = number, 0
			return socket, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("bind for %s:%d failed: %w", p.IP, p.Host, err)
		}
		if p.Host >= p.last {
			return nil, fmt.Errorf("bind for %s:%d failed: port is already allocated", p.IP, p.Host)
		}
	}
}

func (p *port) listen() (io.Closer, uint16, error) {
	at := netip.AddrPortFrom(p.IP, p.Host)
	if p.Protocol == "udp" {
		socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, 0, err
		}
		return socket, uint16(socket.LocalAddr().(*net.UDPAddr).Port), nil
	}
	socket, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, 0, err
	}
	return socket, uint16(socket.Addr().(*net.TCPAddr).Port), nil
}

// publish reserves the container's ports, and has the firewall send there what comes to them.
func (c *container) publish() error {
	e := &c.Endpoint
	if len(e.wanted) == 0 {
		return nil
	}
	for _, p := range e.wanted {
		socket, err := p.reserve()
		if err != nil {
			return err
		}
		e.Ports = append(e.Ports, p)
		e.sockets = append(e.sockets, socket)
	}
	if err := c.save(); err != nil { // so that whoever clears up behind us knows which they are
		return err
	}
	if err := runNFT(e.elements("add")); err != nil {
		// The ports are ours, so what is in the way is a dead container's.
		if err := errors.Join(reclaimAll(), e.replaceElements()); err != nil {
			return err
		}
	}
	return e.forgetFlows()
}

// unpublish undoes publish. Added first, the elements are there to be deleted; without our table,
// as after a reboot, there are none.
func (c *container) unpublish() (err error) {
	e := &c.Endpoint
	if len(e.Ports) == 0 {
		return nil
	}
	if haveFirewall() {
		err = runNFT(e.elements("add") + e.elements("delete"))
	}
	for _, socket := range e.sockets {
		socket.Close()
	}
	return err
}

// elements returns commands that add the ports to the firewall's maps, or delete them.
func (e *endpoint) elements(verb string) string {
	var script strings.Builder
	for _, p := range e.Ports {
		fmt.Fprintf(&script, "%s element inet mydocker %s : %s . %d }\n", verb, p.key(), e.Address, p.Container)
	}
	return script.String()
}

// key returns the map that the port is in, and the key there.
func (p port) key() string {
	if p.IP.IsUnspecified() {
		return fmt.Sprintf("ports { %s . %d", p.Protocol, p.Host)
	}
	return fmt.Sprintf("addresses { %s . %s . %d", p.IP, p.Protocol, p.Host)
}

// replaceElements adds the ports one by one, each in the place of an element whose container
// nothing is known of any more.
func (e *endpoint) replaceElements() error {
	for _, p := range e.Ports {
		one := endpoint{Address: e.Address, Ports: []port{p}}
		if runNFT(one.elements("add")) == nil {
			continue
		}
		if err := runNFT("delete element inet mydocker " + p.key() + " }\n" + one.elements("add")); err != nil {
			return err
		}
	}
	return nil
}

// forgetFlows has the kernel look again where packets of UDP go. It remembers that for half a
// minute, and somebody who goes on sending would never be heard by a new container.
func (e *endpoint) forgetFlows() error {
	for _, p := range e.Ports {
		if p.Protocol != "udp" {
			continue
		}
		filter := &netlink.ConntrackFilter{}
		err := errors.Join(filter.AddProtocol(unix.IPPROTO_UDP), filter.AddPort(netlink.ConntrackOrigDstPort, p.Host))
		if err == nil {
			_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
		}
		if err != nil {
			return fmt.Errorf("forgetting where port %d/udp was: %w", p.Host, err)
		}
	}
	return nil
}

// ports returns the ports that are published, as long as the container runs, as docker's ps
// shows them: those that have the same number on both sides as ranges.
func (c *container) ports() string {
	if !c.isRunning() {
		return ""
	}
	ports := slices.Clone(c.Endpoint.Ports)
	slices.SortFunc(ports, func(a, b port) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Host, b.Host))
	})
	var texts []string
	for len(ports) > 0 {
		p, n := ports[0], 1
		for n < len(ports) && p.Host == p.Container && ports[n] == (port{IP: p.IP, Host: p.Host + uint16(n), Container: p.Container + uint16(n), Protocol: p.Protocol}) {
			n++
		}
		host, container := strconv.Itoa(int(p.Host)), strconv.Itoa(int(p.Container))
		if n > 1 {
			host += fmt.Sprintf("-%d", p.Host+uint16(n-1))
			container += fmt.Sprintf("-%d", p.Container+uint16(n-1))
		}
		texts = append(texts, fmt.Sprintf("%s:%s->%s/%s", p.IP, host, container, p.Protocol))
		ports = ports[n:]
	}
	return strings.Join(texts, ", ")
}
