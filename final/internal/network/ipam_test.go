//go:build linux

package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testNetwork is a network that only its record and its leases exist of.
func testNetwork(t *testing.T, subnet string) *Network {
	t.Helper()
	prefix := netip.MustParsePrefix(subnet)
	n := &Network{Version: version, ID: "id", Name: "net", Subnet: prefix, Gateway: prefix.Addr().Next(), store: Open(t.TempDir())}
	require.NoError(t, os.MkdirAll(n.store.dir(), 0o700))
	require.NoError(t, n.record())
	return n
}

// alive is an endpoint of a container whose directory is locked.
func alive(t *testing.T, id string) *Endpoint {
	t.Helper()
	dir := filepath.Join(t.TempDir(), id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	lock, err := lockDir(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { lock.Close() })
	return &Endpoint{ContainerID: id, Dir: dir}
}

func TestLeasesOfASmallNetwork(t *testing.T) {
	n := testNetwork(t, "10.1.2.4/30")
	holder := alive(t, "alive")
	require.NoError(t, n.lease(holder))
	assert.Equal(t, "10.1.2.6", holder.Address.String(), ".4 is the network's, .5 the gateway's and .7 for broadcasts")
	other := &Endpoint{ContainerID: "other"}
	assert.EqualError(t, n.lease(other), "leasing an address on network net (10.1.2.4/30): no address is left (make a larger network: mydocker network create --subnet 10.90.0.0/16 NAME)")
	assert.False(t, other.Address.IsValid())

	held, err := n.readLease(holder.Address)
	require.NoError(t, err)
	assert.Equal(t, "alive", held.ContainerID)
	require.NoError(t, n.release(holder.Address))
	require.NoError(t, n.lease(other))
	assert.Equal(t, "10.1.2.6", other.Address.String())
}

func TestLeasesGoRound(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	seen := map[netip.Addr]int{}
	for range 300 {
		e := &Endpoint{ContainerID: "one"}
		require.NoError(t, n.lease(e))
		require.NoError(t, n.release(e.Address))
		seen[e.Address]++
	}
	assert.Len(t, seen, 253, "all but the network's, the gateway's and that for broadcasts")
}

func TestLeasesOfALargeNetwork(t *testing.T) {
	n := testNetwork(t, "10.1.0.0/16")
	require.NoError(t, n.setLastLeased(netip.MustParseAddr("10.1.0.255")))
	e := &Endpoint{ContainerID: "one"}
	require.NoError(t, n.lease(e))
	assert.Equal(t, "10.1.1.0", e.Address.String(), "an address like any other")
}

func TestTheDefaultNetworkHasRoomForAFullBridge(t *testing.T) {
	s := Open(t.TempDir())
	chosen, _, err := s.chooseSubnet(Default, "", "")
	require.NoError(t, err)
	assert.LessOrEqual(t, chosen.Bits(), 16)
	assert.Equal(t, "10.84.0.0/16", behind(netip.MustParsePrefix("10.83.0.0/16")).String())
	assert.Equal(t, "10.84.0.0/24", behind(netip.MustParsePrefix("10.83.255.0/24")).String())
}

func TestAnAddressIsLeasedOnce(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	var wait sync.WaitGroup
	var mu sync.Mutex
	owners := map[netip.Addr]string{}
	for i := range 20 {
		wait.Go(func() {
			lock, err := n.store.lock()
			assert.NoError(t, err)
			defer lock.Close()
			e := &Endpoint{ContainerID: strconv.Itoa(i)}
			assert.NoError(t, n.lease(e))
			mu.Lock()
			defer mu.Unlock()
			assert.Empty(t, owners[e.Address])
			owners[e.Address] = e.ContainerID
		})
	}
	wait.Wait()
	assert.Len(t, n.Endpoints(), 20)
}
