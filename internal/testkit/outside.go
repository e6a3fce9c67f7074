//go:build linux

package testkit

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	for {
		text, err := askOnce(flag.Arg(0), flag.Arg(1))
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

func askOnce(network, address string) (string, error) {
	server, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		return "", err
	}
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(time.Second)) // it is open
	if _, err := fmt.Fprintln(server, "hello"); err != nil {
		return "", err
	}
	return bufio.NewReader(server).ReadString('\n')
}

// fatal ends a program of ours that failed.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
