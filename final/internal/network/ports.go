//go:build linux

package network

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

// Port is a port of a container that can be reached at one of the host's.
type Port struct {
	IP        netip.Addr // of the host; 0.0.0.0 and :: are all of a kind, and none is both
	Host      uint16
	Container uint16
	Protocol  string
	Last      uint16 `json:",omitempty"` // until it is reserved, any host port from Host to Last will do
}

// ParsePorts reads all that was given to -p.
func ParsePorts(specs []string) ([]Port, error) {
	var ports []Port
	for _, spec := range specs {
		parsed, err := parsePort(spec)
		if err != nil {
			return nil, err
		}
		ports = append(ports, parsed...)
	}
	return ports, nil
}

// parsePort reads [IP:][HOST:]CONTAINER[/tcp|udp], with an IPv6 address in brackets. HOST and CONTAINER may be ranges, as in 80-82.
func parsePort(spec string) ([]Port, error) {
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
	var addr netip.Addr
	if ip != "" {
		var err error
		inner, bracketed := strings.CutPrefix(strings.TrimSuffix(ip, "]"), "[")
		if addr, err = netip.ParseAddr(inner); err != nil || addr.Is6() != bracketed || bracketed != strings.HasSuffix(ip, "]") {
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
	var ports []Port
	for i := range last - first + 1 {
		p := Port{IP: addr, Host: hostFirst, Container: first + i, Protocol: protocol, Last: hostLast}
		if host != "" && first != last {
			p.Host += i
			p.Last = p.Host
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

// reserve takes the host's port from everybody else, for as long as the sockets are open: the
// kernel knows if it is taken, and which one is free. A port at both kinds of addresses is two.
// Nothing ever comes to a socket of IPv4, as the firewall sends it to the container before.
func (p Port) reserve() (reserved []Port, sockets []io.Closer, err error) {
	addr := p.IP
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	for last := p.Last; ; p.Host++ {
		p.Last = 0
		reserved, sockets, err = p.reserveAt(addr)
		if err == nil {
			return reserved, sockets, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, nil, fmt.Errorf("bind for %s failed: %w", netip.AddrPortFrom(addr, p.Host), err)
		}
		if p.Host >= last {
			return nil, nil, fmt.Errorf("bind for %s failed: port is already allocated", netip.AddrPortFrom(addr, p.Host))
		}
	}
}

// reserveAt reserves the port at an address and, if it is for all, at those of IPv6. A host without
// IPv6 has none.
func (p Port) reserveAt(addr netip.Addr) ([]Port, []io.Closer, error) {
	both := !p.IP.IsValid()
	p.IP = addr
	first, err := p.listen()
	if err != nil {
		return nil, nil, err
	}
	p.Host = portOf(first)
	if !both {
		return []Port{p}, []io.Closer{first}, nil
	}
	second := p
	second.IP = netip.IPv6Unspecified()
	other, err := second.listen()
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return []Port{p}, []io.Closer{first}, nil
	}
	if err != nil {
		first.Close()
		return nil, nil, err
	}
	return []Port{p, second}, []io.Closer{first, other}, nil
}

func (p Port) listen() (io.Closer, error) {
	at, version := netip.AddrPortFrom(p.IP, p.Host), "4"
	if p.IP.Is6() {
		version = "6"
	}
	if p.Protocol == "udp" {
		return net.ListenUDP("udp"+version, net.UDPAddrFromAddrPort(at))
	}
	return net.ListenTCP("tcp"+version, net.TCPAddrFromAddrPort(at))
}

func portOf(socket io.Closer) uint16 {
	if udp, ok := socket.(*net.UDPConn); ok {
		return uint16(udp.LocalAddr().(*net.UDPAddr).Port)
	}
	return uint16(socket.(*net.TCPListener).Addr().(*net.TCPAddr).Port)
}

// publish has the firewall send to the container what comes to its ports. The caller holds the lock.
func (s *Store) publish(e *Endpoint) error {
	if len(e.Ports) == 0 {
		return nil
	}
	if err := s.changeFirewall(false, func() error { return s.addElements(e.elements()) }); err != nil {
		return fmt.Errorf("publishing the ports: %w", err)
	}
	return e.forgetFlows()
}

// unpublish undoes publish. The caller holds the lock.
func (s *Store) unpublish(e *Endpoint) error {
	if err := s.changeFirewall(false, func() error { return s.deleteElements(e.elements()) }); err != nil {
		return fmt.Errorf("taking back the ports: %w", err)
	}
	return nil
}

// forgetFlows has the kernel look again where packets of UDP go. It remembers that for half a
// minute, and somebody who goes on sending would never be heard by a new container.
func (e *Endpoint) forgetFlows() error {
	for _, p := range e.Ports {
		if p.Protocol != "udp" || p.IP.Is6() {
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

// Private is the container's side of it, as in 80/tcp.
func (p Port) Private() string { return fmt.Sprintf("%d/%s", p.Container, p.Protocol) }

// Public is the host's side of it, as in 0.0.0.0:8080 or [::]:8080.
func (p Port) Public() string { return netip.AddrPortFrom(p.IP, p.Host).String() }

// hostIP is the address of the host, in brackets if it has colons of its own.
func (p Port) hostIP() string {
	if p.IP.Is6() {
		return "[" + p.IP.String() + "]"
	}
	return p.IP.String()
}

// Format returns published ports as docker's ps shows them: those that have the same number on
// both sides as ranges.
func Format(published []Port) string {
	ports := slices.Clone(published)
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Host, b.Host))
	})
	var texts []string
	for len(ports) > 0 {
		p, n := ports[0], 1
		for n < len(ports) && p.Host == p.Container && ports[n] == (Port{IP: p.IP, Host: p.Host + uint16(n), Container: p.Container + uint16(n), Protocol: p.Protocol}) {
			n++
		}
		host, container := strconv.Itoa(int(p.Host)), strconv.Itoa(int(p.Container))
		if n > 1 {
			host += fmt.Sprintf("-%d", p.Host+uint16(n-1))
			container += fmt.Sprintf("-%d", p.Container+uint16(n-1))
		}
		texts = append(texts, fmt.Sprintf("%s:%s->%s/%s", p.hostIP(), host, container, p.Protocol))
		ports = ports[n:]
	}
	return strings.Join(texts, ", ")
}
