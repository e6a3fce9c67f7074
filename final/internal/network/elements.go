//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The program nft takes ten milliseconds, as long as the rest of a start. What changes with every
// start and every network are elements of our sets and maps, so we send these to the kernel
// ourselves, and ask it whether the rules have changed since we last looked at them. See
// netlink(7), and for the messages linux/netfilter/nf_tables.h.

// element is an element of a set or a map in our table. Each part of a key takes a multiple of four
// bytes.
type element struct {
	set       string
	key, data []byte
	flags     uint32
}

// elements returns the network's elements. A damaged network without a bridge has no addresses
// that are known.
func (n *Network) elements() []element {
	if !n.Subnet.IsValid() {
		return nil
	}
	bridge := make([]byte, unix.IFNAMSIZ)
	copy(bridge, n.bridge())
	return []element{
		{set: "networks", key: slices.Concat(bridge, bridge)},
		{set: "subnets", key: n.Subnet.Addr().AsSlice()},
		{set: "subnets", key: behind(n.Subnet).Addr().AsSlice(), flags: unix.NFT_SET_ELEM_INTERVAL_END},
	}
}

// elements returns the elements by which the container's ports are published.
func (e *Endpoint) elements() (elements []element) {
	for _, p := range e.Ports {
		if p.IP.Is6() {
			continue // see relay.go
		}
		protocol := byte(unix.IPPROTO_TCP)
		if p.Protocol == "udp" {
			protocol = unix.IPPROTO_UDP
		}
		to := element{set: "ports", key: slices.Concat([]byte{protocol, 0, 0, 0}, portBytes(p.Host)), data: slices.Concat(e.Address.AsSlice(), portBytes(p.Container))}
		if !p.IP.IsUnspecified() {
			to.set, to.key = "addresses", slices.Concat(p.IP.AsSlice(), to.key)
		}
		elements = append(elements, to)
	}
	return elements
}

func portBytes(port uint16) []byte { return []byte{byte(port >> 8), byte(port), 0, 0} }

// addElements adds elements, all at once. What is in the way of one is a dead container's, as the
// port is ours.
func (s *Store) addElements(elements []element) error {
	err := sendBatch(s.messages(unix.NFT_MSG_NEWSETELEM, elements)...)
	if !isClash(err) {
		return err
	}
	for _, e := range elements {
		one := []element{e}
		err := sendBatch(s.messages(unix.NFT_MSG_NEWSETELEM, one)...)
		if isClash(err) {
			err = sendBatch(slices.Concat(s.messages(unix.NFT_MSG_DELSETELEM, one), s.messages(unix.NFT_MSG_NEWSETELEM, one))...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteElements deletes those of the elements that are there. Each is added first: that does
// nothing if it is there, and fails if there is one of another container in its place. Without our
// table there is nothing to delete.
func (s *Store) deleteElements(elements []element) error {
	err := sendBatch(slices.Concat(s.messages(unix.NFT_MSG_NEWSETELEM, elements), s.messages(unix.NFT_MSG_DELSETELEM, elements))...)
	if errors.Is(err, unix.ENOENT) || isClash(err) && len(elements) == 1 {
		return nil
	}
	if !isClash(err) {
		return err
	}
	for _, e := range elements {
		if err := s.deleteElements([]element{e}); err != nil {
			return err
		}
	}
	return nil
}

func isClash(err error) bool { return errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) }

// atOnce is how many elements a message has at most: it has a length of 16 bits.
const atOnce = 500

// messages returns messages about elements, one for all of a set where it can.
func (s *Store) messages(kind int, elements []element) (messages []*nl.NetlinkRequest) {
	for len(elements) > 0 {
		set, count := elements[0].set, 1
		for count < min(len(elements), atOnce) && elements[count].set == set {
			count++
		}
		request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_ACK)
		if kind == unix.NFT_MSG_NEWSETELEM {
			request.Flags |= unix.NLM_F_CREATE
		}
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET})
		request.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, nl.ZeroTerminated(s.name)))
		request.AddData(nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, nl.ZeroTerminated(set)))
		list := nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, nil)
		for _, e := range elements[:count] {
			e.addTo(list)
		}
		request.AddData(list)
		messages = append(messages, request)
		elements = elements[count:]
	}
	return messages
}

func (e element) addTo(list *nl.RtAttr) {
	elem := list.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
	elem.AddRtAttr(unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED, nil).AddRtAttr(unix.NFTA_DATA_VALUE, e.key)
	if e.data != nil {
		elem.AddRtAttr(unix.NFTA_SET_ELEM_DATA|unix.NLA_F_NESTED, nil).AddRtAttr(unix.NFTA_DATA_VALUE, e.data)
	}
	if e.flags != 0 {
		elem.AddRtAttr(unix.NFTA_SET_ELEM_FLAGS, binary.BigEndian.AppendUint32(nil, e.flags))
	}
}

// sendBatch sends messages that the kernel obeys all, or none. It returns the first error.
func sendBatch(messages ...*nl.NetlinkRequest) (err error) {
	if len(messages) == 0 {
		return nil
	}
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	_ = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20) // else a long batch is an error
	batch := batchMessage(unix.NFNL_MSG_BATCH_BEGIN)
	for _, m := range messages {
		batch = append(batch, m.Serialize()...)
	}
	batch = append(batch, batchMessage(unix.NFNL_MSG_BATCH_END)...)
	if err := unix.Sendto(socket, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 1<<16)
	for answers := 0; answers < len(messages); {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if err != nil {
			return err
		}
		replies, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, reply := range replies {
			answers++
			if code := int32(binary.NativeEndian.Uint32(reply.Data)); reply.Header.Type == unix.NLMSG_ERROR && code != 0 {
				return unix.Errno(-code)
			}
		}
	}
	return nil
}

func batchMessage(kind int) []byte {
	request := nl.NewNetlinkRequest(kind, 0)
	request.AddData(&nl.Nfgenmsg{ResId: nl.Swap16(unix.NFNL_SUBSYS_NFTABLES)})
	return request.Serialize()
}

// generation returns a number that the kernel counts up with every change to any rules.
func generation() (uint32, error) {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddData(&nl.Nfgenmsg{})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(messages) == 0 {
		return 0, fmt.Errorf("asking for the firewall's generation: %w", err)
	}
	attrs, err := nl.ParseRouteAttr(messages[0][4:])
	if err != nil || len(attrs) == 0 {
		return 0, fmt.Errorf("asking for the firewall's generation: %w", err)
	}
	return binary.BigEndian.Uint32(attrs[0].Value), nil
}

// generationFile says of which boot and generation the rules are that we have seen, or set.
func (s *Store) generationFile() string { return filepath.Join(s.dir(), ".generation") }

// haveFirewall tells whether nothing has changed since our rules were set. A flush has, and so has
// a firewall that was started since, which may drop our packets.
func (s *Store) haveFirewall() bool {
	now, err := generation()
	seen, _ := os.ReadFile(s.generationFile()) // not there before the first network
	return err == nil && string(seen) == generationMark(now)
}

func generationMark(generation uint32) string { return fmt.Sprintf("%s%d\n", bootID(), generation) }

// changeFirewall makes changes to the rules, and remembers the generation that they make, if they
// set all of ours, or if these were set before. With another's change in between, the next one to
// need the rules looks at them again. The kernel counts each of the changes, or does not if it
// finds all as it should be. The caller holds the lock.
func (s *Store) changeFirewall(all bool, changes ...func() error) error {
	before, beforeErr := generation()
	all = all || s.haveFirewall()
	for _, change := range changes {
		if err := change(); err != nil {
			return err
		}
	}
	after, afterErr := generation()
	if !all || beforeErr != nil || afterErr != nil || after-before > uint32(len(changes)) {
		return nil //nolint:nilerr // without the numbers the next one to need the rules looks at them, too
	}
	return os.WriteFile(s.generationFile(), []byte(generationMark(after)), 0o600)
}
