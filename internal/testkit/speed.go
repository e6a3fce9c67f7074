//go:build linux

package testkit

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// speed measures the way to another speed, which listens if there is no address to go to. It
// prints how many MB pass in a second, and how many microseconds the way there and back takes.
func speed() {
	if len(os.Args) < 2 {
		listener, err := net.Listen("tcp4", ":5001")
		fatal(err)
		for {
			client, err := listener.Accept()
			fatal(err)
			go func() {
				defer client.Close()
				_, _ = io.Copy(io.Discard, client) // until it is closed, or its process has ended
			}()
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := net.DialTimeout("tcp4", os.Args[1], time.Second); err == nil {
			break
		} else if time.Now().After(deadline) {
			fatal(err)
		}
	}
	var ways []time.Duration
	for range 200 {
		start := time.Now()
		server, err := net.Dial("tcp4", os.Args[1])
		fatal(err)
		ways = append(ways, time.Since(start))
		server.Close()
	}
	slices.Sort(ways)
	server, err := net.Dial("tcp4", os.Args[1])
	fatal(err)
	sent, start, block := 0, time.Now(), make([]byte, 1<<20)
	for time.Since(start) < 500*time.Millisecond {
		n, err := server.Write(block)
		fatal(err)
		sent += n
	}
	rate := float64(sent) / time.Since(start).Seconds()
	// A connection that is not closed on both sides keeps its namespace, and the veth in there.
	fatal(server.(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, server) // until the other side has closed it too
	fmt.Println(int(rate/1e6), ways[len(ways)/2].Microseconds())
}
