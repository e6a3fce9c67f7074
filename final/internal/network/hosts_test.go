//go:build linux

package network

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
