//go:build linux

package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

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

func TestHostsChange(t *testing.T) {
	hosts := []byte("10.0.0.1\ta\n         \n10.0.0.3\tc\n")
	assert.Equal(t, 11, placeForLine(hosts, 9))
	assert.Equal(t, len(hosts), placeForLine(hosts, 11), "the blank line is too short")
	assert.Equal(t, "10.0.0.1\ta\n1.1.1.1 b\n10.0.0.3\tc\n", string(hostsChange{hosts, 11, []byte("1.1.1.1 b\n")}.after()))
	assert.Equal(t, "10.0.0.1\ta\n1.1.1.1\n \n10.0.0.3\tc\n", string(hostsChange{hosts, 11, []byte("1.1.1.1\n")}.after()), "the rest stays blank")
	assert.Equal(t, string(hosts)+"x\n", string(hostsChange{hosts, len(hosts), []byte("x\n")}.after()))
}

// join gives an endpoint its file hosts, and the others its line.
func join(t *testing.T, n *Network, number int) *Endpoint {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{10, 1, 2, byte(number)})
	e := &Endpoint{ContainerID: fmt.Sprintf("%064d", number), Name: fmt.Sprint("name", number), Address: addr, network: n}
	require.NoError(t, e.writeHosts())
	return e
}

func TestAReaderAlwaysSeesItsOwnLine(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	reader := join(t, n, 100)
	file := n.store.HostsFile(n.Name, reader.ContainerID)
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
			if content, err := os.ReadFile(file); err != nil || !bytes.Contains(content, []byte(reader.hostsLine())) {
				seen += fmt.Sprintf("%v %q\n", err, content)
			}
		}
	}()
	for i := range 50 {
		require.NoError(t, os.WriteFile(n.changingFile(), nil, 0o600), "every other change is a whole one")
		e := join(t, n, 2+i)
		require.NoError(t, n.removeHosts(e))
	}
	close(stop)
	assert.Empty(t, <-missing)
}

func TestHostsAreMendedAfterAKill(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	file := n.store.HostsFile(n.Name, join(t, n, 2).ContainerID)

	// As a kill leaves them between the change of the file and that of its time.
	require.NoError(t, os.WriteFile(n.changingFile(), nil, 0o600))
	require.NoError(t, os.WriteFile(file, []byte(LocalHosts+"10.1."), 0o600))
	third := join(t, n, 3)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, LocalHosts+"10.1.2.2\tname2 000000000000\n"+third.hostsLine(), string(content))
	assert.NoFileExists(t, n.changingFile())

	// A container's own change is left to it.
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Now()))
	join(t, n, 4)
	again, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, content, again)
}
