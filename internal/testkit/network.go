//go:build linux

package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

const forwarding = "/proc/sys/net/ipv4/ip_forward"

// removeDefaultNetwork removes the network that stays when its last container is gone, for the
// next one. From then on nothing may be left of it. Containers that are about to end use it a
// little longer.
func removeDefaultNetwork(env *testscript.Env) {
	program, err := lookPath(env.Getenv("PATH"), "mydocker")
	if err != nil {
		return // there was a failure before
	}
	// Scripts may have other state directories: in their own, or in a jail in there.
	for _, pattern := range []string{stateDir, env.WorkDir + "/*", env.WorkDir + "/*/*"} {
		networks, _ := filepath.Glob(filepath.Join(pattern, "networks", "bridge")) // the pattern is good
		for _, network := range networks {
			removeBridge(env, program, filepath.Dir(filepath.Dir(network)))
		}
	}
}

func removeBridge(env *testscript.Env, program, root string) {
	deadline := time.Now().Add(leakPatience)
	for {
		cmd := exec.Command(program, "network", "rm", "bridge")
		cmd.Env = append(os.Environ(), "MYDOCKER_ROOT="+root)
		output, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			env.T().Log("removing the default network: ", string(output))
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// removeNetworks leaves no interface but lo, and no firewall, after a script that failed.
func removeNetworks() {
	interfaces, _ := net.Interfaces() // whatever is there
	for _, link := range interfaces {
		if link.Name != "lo" {
			_ = exec.Command("ip", "link", "del", link.Name).Run() // it may have gone with another
		}
	}
	_ = exec.Command("nft", "flush", "ruleset").Run() // there need not be a nft
	_ = os.WriteFile(forwarding, []byte("1"), 0)      // it could be written before
}

// firewall lists the tables, and whether packets are forwarded.
func firewall() []string {
	value, _ := os.ReadFile(forwarding) // always there
	lines := []string{"ip_forward " + strings.TrimSpace(string(value))}
	tables, _ := exec.Command("nft", "list", "tables").Output() // there need not be a nft
	for line := range strings.Lines(string(tables)) {
		lines = append(lines, "firewall "+strings.TrimSpace(line))
	}
	return lines
}
