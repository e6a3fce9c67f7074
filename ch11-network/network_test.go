//go:build linux

package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testNetwork is a network that only its record and its leases exist of.
func testNetwork(t *testing.T, subnet string) *network {
	t.Helper()
	t.Setenv("MYDOCKER_ROOT", t.TempDir())
	prefix := netip.MustParsePrefix(subnet)
	n := &network{ID: newID(), Name: "net", Subnet: prefix, Gateway: prefix.Addr().Next()}
	require.NoError(t, os.MkdirAll(n.leases(), 0o700))
	require.NoError(t, n.save())
	return n
}

// holdContainer makes a directory of a container's that is locked, as by a mydocker that lives.
func holdContainer(t *testing.T, id string) {
	t.Helper()
	dir := filepath.Join(containersDir(), id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	lock, err := lockDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { lock.Close() })
}

func TestLeasesOfASmallNetwork(t *testing.T) {
	n := testNetwork(t, "10.1.2.4/30")
	holdContainer(t, "alive")
	addr, err := n.lease("alive")
	require.NoError(t, err)
	assert.Equal(t, "10.1.2.6", addr.String(), ".4 is the network's, .5 the gateway's and .7 for broadcasts")
	assert.Equal(t, addr, n.leaseOf("alive"))
	_, err = n.lease("other")
	assert.EqualError(t, err, "leasing an address on network net (10.1.2.4/30): no address is left (make a larger network: mydocker network create --subnet 10.90.0.0/16 NAME)")
	require.NoError(t, n.release(addr))
	addr, err = n.lease("dead")
	require.NoError(t, err)
	again, err := n.lease("other")
	require.NoError(t, err)
	assert.Equal(t, addr, again, "who had it is dead")
}

func TestLeasesGoRound(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	seen := map[netip.Addr]int{}
	for range 300 {
		addr, err := n.lease("one")
		require.NoError(t, err)
		require.NoError(t, n.release(addr))
		seen[addr]++
	}
	assert.Len(t, seen, 253)
	for _, reserved := range []string{"10.1.2.0", "10.1.2.1", "10.1.2.255"} {
		assert.NotContains(t, seen, netip.MustParseAddr(reserved))
	}
	kept, err := readNetwork("net")
	require.NoError(t, err)
	assert.Equal(t, n.Last, kept.Last)
}

func TestLeasesOfALargeNetwork(t *testing.T) {
	n := testNetwork(t, "10.1.0.0/16")
	n.Last = netip.MustParseAddr("10.1.0.255")
	addr, err := n.lease("one")
	require.NoError(t, err)
	assert.Equal(t, "10.1.1.0", addr.String())
	n.Last = netip.MustParseAddr("10.1.255.254")
	addr, err = n.lease("two")
	require.NoError(t, err)
	assert.Equal(t, "10.1.0.2", addr.String())
}

func TestAnAddressIsLeasedOnce(t *testing.T) {
	n := testNetwork(t, "10.1.2.0/24")
	var together sync.WaitGroup
	for range 50 {
		together.Go(func() {
			lock, err := lockNetworks()
			assert.NoError(t, err)
			defer lock.Close()
			other, err := readNetwork("net") // as another process does
			assert.NoError(t, err)
			_, err = other.leaseFree(newID())
			assert.NoError(t, err)
		})
	}
	together.Wait()
	assert.Len(t, n.leased(), 50)
}

func TestParseSubnet(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.0/30":  "",
		"172.16.0.0/8": "invalid subnet 172.16.0.0/8: it should be 172.0.0.0/8",
		"10.0.0.1/24":  "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24",
		"10.0.0.0/31":  "invalid subnet 10.0.0.0/31: there is no room for a container, as there is in a /30",
		"0.0.0.0/0":    "invalid subnet 0.0.0.0/0: these are not addresses for a network of yours",
		"127.1.0.0/16": "invalid subnet 127.1.0.0/16: these are not addresses for a network of yours",
		"fd00::/64":    "invalid subnet fd00::/64: networks have IPv4 addresses here",
		"10.0.0.0":     "invalid subnet 10.0.0.0: it should be like 10.1.2.0/24",
		"":             "invalid subnet : it should be like 10.1.2.0/24",
	} {
		_, err := parseSubnet(text)
		if want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
	}
}

func TestGateways(t *testing.T) {
	for gateway, good := range map[string]bool{
		"": true, "10.1.2.5": true, "10.1.2.254": true,
		"10.1.2.0": false, "10.1.2.255": false, "10.1.3.1": false, "x": false, "::1": false,
	} {
		_, addr, err := chooseSubnet("mine", "10.1.2.0/24", gateway)
		assert.Equal(t, good, err == nil, "%s: %v", gateway, err)
		if gateway == "" {
			assert.Equal(t, "10.1.2.1", addr.String())
		}
	}
}

func TestNamesOfInterfaces(t *testing.T) {
	long := network{Name: strings.Repeat("a", 200)}
	other := network{Name: strings.Repeat("a", 201)}
	assert.LessOrEqual(t, len(long.bridge()), 15)
	assert.NotEqual(t, long.bridge(), other.bridge())
	assert.LessOrEqual(t, len(vethName(newID())), 15)
}

func TestRulesOfOthers(t *testing.T) {
	chain := func(family, table, name, hook, policy string) string {
		return `{"chain": {"family": "` + family + `", "table": "` + table + `", "name": "` + name + `", "hook": "` + hook + `", "policy": "` + policy + `"}}`
	}
	objects := []string{
		chain("ip", "filter", "FORWARD", "forward", "drop"), // Docker's: its users have a chain there
		chain("ip", "filter", "DOCKER-USER", "", ""),
		chain("ip6", "filter", "FORWARD", "forward", "drop"),
		chain("inet", "strict", "fwd", "forward", "drop"),
		chain("inet", "lax", "fwd", "forward", "accept"),
		chain("inet", "strict", "in", "input", "drop"),
		`{"rule": {"family": "inet", "table": "strict", "chain": "fwd", "handle": 7, "comment": "mydocker", "expr": []}}`,
		`{"rule": {"family": "inet", "table": "strict", "chain": "fwd", "handle": 8, "expr": [{"xt": null}]}}`,
	}
	r, err := parseRuleset([]byte(`{"nftables": [{"metainfo": {}}, ` + strings.Join(objects, ", ") + `]}`))
	require.NoError(t, err)
	assert.Equal(t, `insert rule ip filter DOCKER-USER iifname "md-*" counter accept comment "mydocker"
insert rule ip filter DOCKER-USER oifname "md-*" counter accept comment "mydocker"
insert rule inet strict fwd iifname "md-*" counter accept comment "mydocker"
insert rule inet strict fwd oifname "md-*" counter accept comment "mydocker"
`, r.openForward())
	assert.Equal(t, "delete rule inet strict fwd handle 7\n", r.closeForward())
	assert.False(t, r.hasTable())
}

func TestServersOfTheHostsOwn(t *testing.T) {
	assert.Equal(t, "search example.org\nnameserver 192.0.2.53\noptions edns0\n",
		reachable("search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver ::1\noptions edns0\n"))
}

func TestVolumesInThePlaceOfHostFiles(t *testing.T) {
	volumes := []volume{{Target: "/etc/hosts"}, {Target: "/etc/host"}}
	assert.True(t, covered("/etc/hosts", volumes))
	assert.False(t, covered("/etc/hostname", volumes))
	assert.True(t, covered("/etc/hostname", []volume{{Target: "/etc"}}))
}
