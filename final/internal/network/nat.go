//go:build linux

package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	log "github.com/sirupsen/logrus"
)

// Step 3: the way out, and back in. The kernel forwards packets between our bridges and the
// other interfaces, and rewrites their addresses on the way.

// firewall is a table of our own with all of our rules, in the language of nft(8). They are
// the same for any number of networks, containers and ports, which are in its set and maps. The
// flush takes the rules away, not what is in those, so that they may be set again at any time.
const firewall = `
table inet mydocker
flush table inet mydocker
table inet mydocker {
	# The networks' addresses; and from where to where the containers of one reach each other.
	set subnets { type ipv4_addr; flags interval; }
	set networks { type ifname . ifname; }

	# Published ports: where to find what the host is asked for, at all of its addresses or one.
	map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
	map addresses { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }

	chain publish {
		dnat ip to ip daddr . meta l4proto . th dport map @addresses
		dnat ip to meta l4proto . th dport map @ports
	}
	# What comes from other machines, and from containers.
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local jump publish
	}
	# What comes from the host itself.
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump publish
	}

	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		# Nobody outside knows the way to a container: the answers have to come to the host.
		ip saddr @subnets oifname != "md-*" masquerade
		# A container that talks to itself, or to a neighbour, by the host's address must get
		# its answer from there.
		ip saddr @subnets oifname "md-*" ct status dnat masquerade
		# To a container 127.0.0.1 is itself.
		ip saddr 127.0.0.0/8 oifname "md-*" masquerade
	}

	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname != "md-*" oifname != "md-*" accept
		ct state established,related accept
		ct status dnat accept
		iifname . oifname @networks accept
		iifname "md-*" oifname != "md-*" accept
		drop
	}

	# With route_localnet (see openFirewall) the kernel takes these from the wire.
	chain martians {
		type filter hook prerouting priority -300; policy accept;
		iifname != "lo" ip daddr 127.0.0.0/8 drop
		iifname "md-*" ip saddr 127.0.0.0/8 drop
	}
}
`

// elements returns commands that add the network to the sets, or delete it. A damaged network
// without a bridge has no addresses that are known.
func (n *Network) elements(verb string) string {
	if !n.Subnet.IsValid() {
		return ""
	}
	return fmt.Sprintf("%[1]s element inet mydocker subnets { %[2]s }\n"+
		"%[1]s element inet mydocker networks { %[3]q . %[3]q }\n", verb, n.Subnet, n.bridge())
}

// openFirewall sets our rules, and lets the network's packets through those of others.
func (n *Network) openFirewall() error {
	return n.store.changeFirewall(true, n.setRules)
}

func (n *Network) setRules() error {
	// Packets from the host's 127.0.0.1 leave by the bridge, which the kernel else forbids.
	if err := setSysctl("conf/"+n.bridge()+"/route_localnet", "1"); err != nil {
		return fmt.Errorf("allowing 127.0.0.1 on the bridge: %w", err)
	}
	warnOfLegacyTables()
	ruleset, err := readRuleset()
	if err != nil {
		return err
	}
	script := firewall + n.elements("add")
	if !ruleset.hasTable() { // new, or flushed: the table has none of the other networks
		script += n.store.allElements()
	}
	return runNFT(script + ruleset.closeForward() + ruleset.openForward())
}

// allElements returns commands that add what belongs into the sets and maps by now.
func (s *Store) allElements() string {
	var script strings.Builder
	networks, _ := s.List() // n at least would have been an error before
	for _, n := range networks {
		if !bridgeIsUp(n.bridge()) {
			continue
		}
		script.WriteString(n.elements("add"))
		for _, e := range n.Endpoints() {
			if e.isAlive() {
				script.WriteString(e.elements("add"))
			}
		}
	}
	return script.String()
}

// closeFirewall undoes openFirewall. The table itself goes with the last network.
func (n *Network) closeFirewall(last bool) error {
	ruleset, err := readRuleset()
	if errors.Is(err, errNoNFT) {
		return nil // there is nothing to close
	}
	if err != nil || !ruleset.hasTable() && !last {
		return err
	}
	script := n.elements("add") + n.elements("delete") // added first, it is there to be deleted
	if last {
		script = ruleset.closeForward() + "table inet mydocker\ndelete table inet mydocker\n"
		if err := os.RemoveAll(n.store.generationFile()); err != nil {
			return err
		}
	}
	return n.store.changeFirewall(false, func() error { return runNFT(script) })
}

// ruleset is what nft prints as JSON: see libnftables-json(5).
type ruleset []struct {
	Table *struct{ Family, Name string }
	Chain *struct{ Family, Table, Name, Hook, Policy string }
	Rule  *struct {
		Family, Table, Chain, Comment string
		Handle                        int
	}
}

func readRuleset() (ruleset, error) {
	output, err := nft("", "-j", "-t", "list", "ruleset")
	if err != nil {
		return nil, fmt.Errorf("reading the firewall's rules: %w", err)
	}
	return parseRuleset(output)
}

func parseRuleset(output []byte) (ruleset, error) {
	var read struct{ Nftables ruleset }
	if err := json.Unmarshal(output, &read); err != nil {
		return nil, fmt.Errorf("reading the firewall's rules: %w", err)
	}
	return read.Nftables, nil
}

func (r ruleset) hasTable() bool {
	for _, object := range r {
		if t := object.Table; t != nil && t.Family == "inet" && t.Name == "mydocker" {
			return true
		}
	}
	return false
}

// openForward returns commands that let our packets through the chains of others that drop what
// they do not know, as Docker's and ufw's do: to drop a packet, one chain is enough. Docker has
// a chain for what others have to say.
func (r ruleset) openForward() string {
	users := map[string]bool{} // tables with that chain
	for _, object := range r {
		if c := object.Chain; c != nil && c.Name == "DOCKER-USER" {
			users[c.Family+" "+c.Table] = true
		}
	}
	var script strings.Builder
	for _, object := range r {
		c := object.Chain
		if c == nil || c.Family != "ip" && c.Family != "inet" {
			continue
		}
		table := c.Family + " " + c.Table
		drops := c.Hook == "forward" && c.Policy == "drop" && !users[table]
		if c.Name != "DOCKER-USER" && !drops {
			continue
		}
		for _, match := range []string{"iifname", "oifname"} {
			fmt.Fprintf(&script, "insert rule %s %s %s \"md-*\" counter accept comment \"mydocker\"\n", table, c.Name, match)
		}
	}
	return script.String()
}

// closeForward returns commands that remove what those of openForward have made.
func (r ruleset) closeForward() string {
	var script strings.Builder
	for _, object := range r {
		if rule := object.Rule; rule != nil && rule.Comment == "mydocker" {
			fmt.Fprintf(&script, "delete rule %s %s %s handle %d\n", rule.Family, rule.Table, rule.Chain, rule.Handle)
		}
	}
	return script.String()
}

// warnOfLegacyTables says what we cannot help: nft does not see the rules of iptables-legacy.
func warnOfLegacyTables() {
	tables, _ := os.ReadFile("/proc/net/ip_tables_names") // not there without that part of the kernel
	if strings.Contains(string(tables), "filter") {
		log.Warn("this host has rules of iptables-legacy; if they drop what containers send: " +
			"iptables-legacy -I FORWARD -i md-+ -j ACCEPT; iptables-legacy -I FORWARD -o md-+ -j ACCEPT")
	}
}

// runNFT has nft do all of the commands or, if one fails, none.
func runNFT(script string) error {
	if _, err := nft(script, "-f", "-"); err != nil {
		return fmt.Errorf("setting the firewall's rules: %w", err)
	}
	return nil
}

var errNoNFT = errors.New("nft is not installed (Debian's package nftables): without it only --network none and host work")

func nft(input string, args ...string) ([]byte, error) {
	path, err := exec.LookPath("nft")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nft") // which not every user has in the PATH
	}
	if err != nil {
		return nil, errNoNFT
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	var output, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &errors
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(errors.String()))
	}
	return output.Bytes(), nil
}

// forwardingMark is a file that says since which boot ip_forward is on because of us.
func (s *Store) forwardingMark() string { return filepath.Join(s.dir(), ".ip_forward") }

// enableForwarding makes a router of the host, if it is none: it hands on packets that are for
// others. That is a change to the whole machine, so we say it.
func (s *Store) enableForwarding() error {
	value, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	if strings.TrimSpace(string(value)) != "0" {
		return nil
	}
	if err := os.WriteFile(s.forwardingMark(), bootID(), 0o600); err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	if err := setSysctl("ip_forward", "1"); err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	fmt.Fprintln(os.Stderr, "mydocker: net.ipv4.ip_forward is 1 now, until the last network is removed")
	return nil
}

// restoreForwarding switches it off if we have switched it on, and not before a reboot: who has
// done it since is somebody else.
func (s *Store) restoreForwarding() error {
	mark, err := os.ReadFile(s.forwardingMark())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && bytes.Equal(mark, bootID()) {
		err = setSysctl("ip_forward", "0")
	}
	if err == nil {
		err = os.Remove(s.forwardingMark())
	}
	if err != nil {
		return fmt.Errorf("switching off forwarding: %w", err)
	}
	return nil
}

func bootID() []byte {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // always there: see proc_sys_kernel(5)
	return id
}
