//go:build linux

package testkit

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// outsideScript makes another machine: a network namespace, as long as this process lives,
// behind a veth. The sandbox is 192.0.2.1 there, and it is 192.0.2.2.
const outsideScript = `
holder=$$
(
	until [ "$(readlink /proc/$holder/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
	ip link add outer type veth
	ip link set veth0 netns $holder
	ip addr add 192.0.2.1/24 dev outer
	ip link set outer up
	nsenter -n/proc/$holder/ns/net sh -c '
		ip link set lo up
		ip addr add 192.0.2.2/24 dev veth0
		ip link set veth0 up'
	echo $holder >"$WORK/outside.pid"
	echo ready
) &
exec unshare -n sleep 1000
`

// outside is the other machine, or runs a command on it.
func outside() {
	sh := filepath.Join(appletsDir, "sh")
	args := []string{"sh", "-c", outsideScript}
	if len(os.Args) > 1 {
		args = append([]string{"sh", "-c", `exec nsenter -n/proc/$(cat "$WORK/outside.pid")/ns/net "$@"`, "sh"}, os.Args[1:]...)
	}
	fatal(unix.Exec(sh, args, os.Environ()))
}

// serve answers whoever comes to a port, for ever: with a text, and with who that is.
func serve() {
	if len(os.Args) != 4 {
		fatal(fmt.Errorf("usage: serve tcp|udp PORT TEXT"))
	}
	address, text := ":"+os.Args[2], os.Args[3]
	if os.Args[1] == "udp" {
		socket, err := net.ListenPacket("udp4", address)
		fatal(err)
		for buffer := make([]byte, 100); ; {
			_, client, err := socket.ReadFrom(buffer)
			fatal(err)
			fmt.Println(client)
			_, err = socket.WriteTo([]byte(answer(text, client)), client)
			fatal(err)
		}
	}
	listener, err := net.Listen("tcp4", address)
	fatal(err)
	for {
		client, err := listener.Accept()
		fatal(err)
		fmt.Fprint(client, answer(text, client.RemoteAddr()))
		client.Close()
	}
}

func answer(text string, client net.Addr) string {
	return fmt.Sprintf("%s to %s\n", text, client.String()[:strings.LastIndex(client.String(), ":")])
}

// ask prints what a server answers, which it tries until there is an answer or the time is up.
func ask() {
	wait := flag.Duration("wait", patience, "for an answer")
	flag.Parse()
	if flag.NArg() != 2 {
		fatal(fmt.Errorf("usage: ask [-wait TIME] tcp|udp ADDRESS:PORT"))
	}
	deadline := time.Now().Add(*wait)
	var server net.Conn // for UDP, the same all the time: the kernel remembers where it sends to
	for {
		text, err := askOnce(&server, flag.Arg(0), flag.Arg(1))
		if err == nil {
			fmt.Print(text)
			return
		}
		if time.Now().After(deadline) {
			fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func askOnce(server *net.Conn, network, address string) (text string, err error) {
	if *server == nil {
		if *server, err = net.DialTimeout(network, address, time.Second); err != nil {
			*server = nil
			return "", err
		}
	}
	if network == "tcp" {
		defer func() {
			(*server).Close()
			*server = nil
		}()
	}
	_ = (*server).SetDeadline(time.Now().Add(time.Second)) // it is open
	if _, err := fmt.Fprintln(*server, "hello"); err != nil {
		return "", err
	}
	return bufio.NewReader(*server).ReadString('\n')
}

// fatal ends a program of ours that failed.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// advertise tells all neighbours behind eth0, once, that the way to everywhere leads through us:
// an IPv6 router advertisement. See RFC 4861, section 4.2.
func advertise() {
	eth0, err := net.InterfaceByName("eth0")
	fatal(err)
	frame := slices.Concat[[]byte](
		[]byte{0x33, 0x33, 0, 0, 0, 1}, []byte(eth0.HardwareAddr), []byte{0x86, 0xdd}, // Ethernet: to all, IPv6
		[]byte{0x60, 0, 0, 0, 0, 16, 58, 255},          // IPv6: 16 bytes of ICMPv6, hop limit 255
		net.ParseIP("fe80::1"), net.ParseIP("ff02::1"), // from, to all nodes
		[]byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}) // a router, for 1800 seconds
	sum := uint32(58 + 16) // of the pseudo-header, the addresses and the message
	for i := 22; i < len(frame); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	binary.BigEndian.PutUint16(frame[56:], ^uint16(sum+sum>>16))
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	fatal(err)
	fatal(unix.Sendto(socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index}))
}
