//go:build linux

package network

import (
	"io"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePorts(t *testing.T) {
	all, one := netip.Addr{}, netip.MustParseAddr("192.0.2.1")
	for spec, want := range map[string][]Port{
		"80":                  {{all, 0, 80, "tcp", 0}},
		"80/UDP":              {{all, 0, 80, "udp", 0}},
		":80":                 {{all, 0, 80, "tcp", 0}},
		"8080:80":             {{all, 8080, 80, "tcp", 8080}},
		"192.0.2.1::80":       {{one, 0, 80, "tcp", 0}},
		"192.0.2.1:8080:80":   {{one, 8080, 80, "tcp", 8080}},
		"8080-8081:80-81/tcp": {{all, 8080, 80, "tcp", 8080}, {all, 8081, 81, "tcp", 8081}},
		"8080-8085:80":        {{all, 8080, 80, "tcp", 8085}},
		"80-81":               {{all, 0, 80, "tcp", 0}, {all, 0, 81, "tcp", 0}},
		"65535:65535":         {{all, 65535, 65535, "tcp", 65535}},
	} {
		got, err := ParsePorts([]string{spec})
		require.NoError(t, err, spec)
		assert.Equal(t, want, got, spec)
	}
	for spec, want := range map[string]string{
		"":               "invalid containerPort: ",
		"8080:":          "invalid containerPort: ",
		"8080:0":         "invalid containerPort: 0",
		"8080:80-79":     "invalid containerPort: 80-79",
		"8080:65536":     "invalid containerPort: 65536",
		"a:80":           "invalid hostPort: a",
		"0-1:80":         "invalid hostPort: 0-1",
		"8080-8082:1-2":  "invalid ranges specified for container and host Ports: 1-2 and 8080-8082",
		"8080:80/sctp":   "invalid proto: sctp",
		"8080:80/":       "invalid proto: ",
		"host:8080:80":   "invalid IP address: host",
		"::1:8080:80":    "invalid IP address: ::1",
		"[1.2.3.4]:8:80": "invalid IP address: [1.2.3.4]",
		"[::1:8080:80":   "invalid IP address: [::1",
		"1.2.3:8080:80":  "invalid IP address: 1.2.3",
		"1:1.2.3.4:8:80": "invalid IP address: 1:1.2.3.4",
	} {
		_, err := ParsePorts([]string{spec})
		assert.EqualError(t, err, want, spec)
	}
}

func FuzzParsePort(f *testing.F) {
	for _, spec := range []string{"80", "8080:80/udp", "1.2.3.4::80", "1-3:4-6", "65535", "::", "a:b:c", "1-65535:1-65535"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		ports, err := parsePort(spec)
		if err != nil {
			return
		}
		if len(ports) == 0 {
			t.Errorf("%q is no port", spec)
		}
		for _, p := range ports {
			if p.Container == 0 || p.Host > p.Last || p.Protocol != "tcp" && p.Protocol != "udp" {
				t.Errorf("%q gives %+v", spec, p)
			}
		}
	})
}

func TestPortsInPS(t *testing.T) {
	for want, specs := range map[string][]string{
		"":                     nil,
		"0.0.0.0:8080->80/tcp": {"8080:80"},
		"0.0.0.0:80-82->80-82/tcp, 0.0.0.0:80->80/udp":   {"82:82", "80-81:80-81", "80:80/udp"},
		"0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp":     {"8080-8081:80-81"},
		"0.0.0.0:80->80/tcp, 192.0.2.1:80-81->80-81/tcp": {"192.0.2.1:80-81:80-81", "80:80"},
		"0.0.0.0:65534-65535->65534-65535/tcp":           {"65534-65535:65534-65535"},
		"0.0.0.0:80->80/tcp, 0.0.0.0:82->82/tcp":         {"80:80", "82:82"},
		"0.0.0.0:1-3->1-3/tcp, 0.0.0.0:5->5/tcp":         {"1-3:1-3", "5:5"},
		"0.0.0.0:1->1/tcp, 0.0.0.0:2->1/tcp":             {"1:1", "2:1"},
		"0.0.0.0:53->53/udp, 127.0.0.1:80->80/tcp":       {"53:53/udp", "127.0.0.1:80:80"},
		"0.0.0.0:90->80/tcp, 0.0.0.0:81-82->81-82/tcp":   {"90:80", "81-82:81-82"},
		"0.0.0.0:1-2->1-2/tcp, 0.0.0.0:1-2->1-2/udp":     {"1-2:1-2", "1-2:1-2/udp"},
		"0.0.0.0:1->1/tcp, 192.0.2.1:1->1/tcp":           {"192.0.2.1:1:1", "1:1"},
	} {
		ports, err := ParsePorts(specs)
		require.NoError(t, err)
		for i := range ports {
			ports[i].Last = 0 // as they are when they are reserved
			if !ports[i].IP.IsValid() {
				ports[i].IP = netip.IPv4Unspecified()
			}
		}
		assert.Equal(t, want, Format(ports))
	}
}

func TestElements(t *testing.T) {
	ports, err := ParsePorts([]string{"0.0.0.0:8080:80", "[::]:8080:80", "192.0.2.1:53:5353/udp"})
	require.NoError(t, err)
	e := Endpoint{Address: netip.MustParseAddr("10.1.2.3"), Ports: ports}
	assert.Equal(t, []element{
		{set: "ports", key: []byte{6, 0, 0, 0, 0x1f, 0x90, 0, 0}, data: []byte{10, 1, 2, 3, 0, 80, 0, 0}},
		{set: "addresses", key: []byte{192, 0, 2, 1, 17, 0, 0, 0, 0, 53, 0, 0}, data: []byte{10, 1, 2, 3, 0x14, 0xe9, 0, 0}},
	}, e.elements())
}

func TestTheKernelSaysWhetherAPortIsTaken(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		ports, sockets, err := Port{Protocol: protocol}.reserve()
		require.NoError(t, err)
		defer closeAll(sockets)
		require.NotEmpty(t, ports)
		taken := ports[0].Host
		assert.NotZero(t, taken)
		for _, addr := range []string{"0.0.0.0", "127.0.0.1", "::1"} {
			again := Port{IP: netip.MustParseAddr(addr), Host: taken, Protocol: protocol, Last: taken}
			_, _, err = again.reserve()
			if addr != "::1" || len(ports) > 1 {
				assert.ErrorContains(t, err, "port is already allocated")
			}
		}
		next, others, err := Port{Host: taken, Protocol: protocol, Last: taken + 50}.reserve()
		require.NoError(t, err)
		defer closeAll(others)
		assert.Greater(t, next[0].Host, taken)
	}
}

func closeAll(sockets []io.Closer) {
	for _, socket := range sockets {
		socket.Close()
	}
}
