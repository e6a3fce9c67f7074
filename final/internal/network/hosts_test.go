//go:build linux

package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHostsLine(t *testing.T) {
	assert.Equal(t, "10.1.2.3\ta.b.c a web\n", hostsLine("10.1.2.3", "a.b.c", "web"))
	assert.Equal(t, "10.1.2.3\tweb 0123\n", hostsLine("10.1.2.3", "web", "web", "0123"))
	assert.Equal(t, "10.1.2.3\tweb\n", hostsLine("10.1.2.3", "a\n10.0.0.1 evil", "web"), "of an old record")
}

func TestReachable(t *testing.T) {
	assert.Equal(t, "search a\nnameserver 192.0.2.53\n", reachable("search a\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\n"))
	assert.Equal(t, "\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n", reachable("nameserver ::1\n"))
}

func TestPlaceForLine(t *testing.T) {
	hosts := []byte("10.0.0.1\ta\n         \n10.0.0.3\tc\n")
	assert.EqualValues(t, 11, placeForLine(hosts, 9))
	assert.EqualValues(t, len(hosts), placeForLine(hosts, 11), "the blank line is too short")
	assert.EqualValues(t, 11, placeForLine(hosts[:21], 11), "at the end there is room")
}

// endpoint is the one with this number on a network.
func endpoint(n *Network, number int) *Endpoint {
	addr := netip.AddrFrom4([4]byte{10, 1, 2, byte(number)})
	return &Endpoint{ContainerID: fmt.Sprintf("%064d", number), Name: fmt.Sprint("name", number), Address: addr, network: n}
}

func TestAReaderAlwaysSeesItsOwnLine(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	require.NoError(t, n.makeHosts())
	reader := endpoint(n, 100)
	require.NoError(t, reader.writeHosts())
	stop, missing := make(chan struct{}), make(chan string)
	go func() {
		seen := ""
		for {
			select {
			case <-stop:
				missing <- seen
				return
			default:
			}
			if content, err := os.ReadFile(n.hostsFile()); err != nil || !bytes.Contains(content, []byte(reader.hostsLine())) {
				seen += fmt.Sprintf("%v %q\n", err, content)
			}
		}
	}()
	for i := range 50 {
		e := endpoint(n, 2+i)
		require.NoError(t, e.writeHosts())
		require.NoError(t, n.removeHosts(e))
	}
	close(stop)
	assert.Empty(t, <-missing)
}

func TestHostsAreMadeAnew(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	e := endpoint(n, 2)
	require.NoError(t, n.leaseFree(e))
	require.NoError(t, e.writeHosts(), "there is no file yet")
	content, err := os.ReadFile(n.hostsFile())
	require.NoError(t, err)
	assert.Equal(t, LocalHosts+e.hostsLine(), string(content))
}
