//go:build linux

package network

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// The networks have no IPv6, and the firewall cannot send what comes by IPv6 to an IPv4 address.
// So the process that waits for the container takes it, and passes it on.

// relay serves the reserved ports of IPv6 until their sockets are closed.
func (e *Endpoint) relay() {
	for i, p := range e.Ports {
		if !p.IP.Is6() {
			continue
		}
		to := netip.AddrPortFrom(e.Address, p.Container)
		switch socket := e.sockets[i].(type) {
		case *net.TCPListener:
			go relayTCP(socket, net.TCPAddrFromAddrPort(to))
		case *net.UDPConn:
			go relayUDP(socket, net.UDPAddrFromAddrPort(to))
		}
	}
}

func relayTCP(listener *net.TCPListener, to *net.TCPAddr) {
	for {
		client, err := listener.AcceptTCP()
		if err != nil {
			if isTemporary(err) {
				time.Sleep(100 * time.Millisecond) // out of descriptors, perhaps
				continue
			}
			return
		}
		go func() {
			defer client.Close()
			server, err := net.DialTCP("tcp4", nil, to)
			if err != nil {
				_ = client.SetLinger(0) // the client sees a reset, as from a port where nothing listens
				return
			}
			defer server.Close()
			done := make(chan struct{})
			go func() {
				copyAndClose(server, client)
				close(done)
			}()
			copyAndClose(client, server)
			<-done
		}()
	}
}

// copyAndClose copies until the end, and passes that on: the other direction may go on.
func copyAndClose(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from) // an error ends it as well
	_ = to.CloseWrite()
}

func isTemporary(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Temporary() //nolint:staticcheck // accept(2) is what it is still good for
}

// idle is how long an answer may take to a client of UDP: docker's time.
const idle = 90 * time.Second

// relayUDP has a socket to the container for each client, by which it knows whose the answers are.
func relayUDP(socket *net.UDPConn, to *net.UDPAddr) {
	var mutex sync.Mutex
	servers := map[netip.AddrPort]*net.UDPConn{}
	buffer := make([]byte, 1<<16)
	for {
		n, client, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		mutex.Lock()
		server := servers[client]
		if server == nil {
			server, err = net.DialUDP("udp4", nil, to)
			if err != nil {
				mutex.Unlock()
				continue
			}
			servers[client] = server
			go func() {
				answerUDP(socket, client, server)
				mutex.Lock()
				delete(servers, client)
				mutex.Unlock()
				server.Close()
			}()
		}
		mutex.Unlock()
		_ = server.SetReadDeadline(time.Now().Add(idle)) // it is open
		_, _ = server.Write(buffer[:n])                  // a packet may be lost
	}
}

func answerUDP(socket *net.UDPConn, client netip.AddrPort, server *net.UDPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		_ = server.SetReadDeadline(time.Now().Add(idle))
		_, _ = socket.WriteToUDPAddrPort(buffer[:n], client)
	}
}
