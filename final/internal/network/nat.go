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
	"strings"
	"syscall"

	log "github.com/sirupsen/logrus"
)

// Step 3: the way out, and back in. The kernel forwards packets between our bridges and the
// other interfaces, and rewrites their addresses on the way.

// firewall is a table of our own with all of our rules, in the language of nft(8). They are
// the same for any number of networks, containers and ports, which are in its sets and maps. The
// flush takes the rules away, not what is in those, so that they may be set again at any time.
// With another state directory the table and the bridges have other names.
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

// openFirewall sets our rules, lets the network's packets through those of others, and adds the
// network to our sets. If no rules have changed since, only the last is to be done.
func (n *Network) openFirewall() error {
	s := n.store
	// Packets from the host's 127.0.0.1 leave by the bridge, which the kernel else forbids.
	if err := setSysctl("conf/"+n.bridge()+"/route_localnet", "1"); err != nil {
		return fmt.Errorf("allowing 127.0.0.1 on the bridge: %w", err)
	}
	if s.haveFirewall() {
		return s.changeFirewall(false, func() error { return s.setElements(n.elements()) })
	}
	warnOfLegacyTables()
	return s.changeFirewall(true, s.setRules, func() error { return s.setElements(n.allElements()) })
}

func (s *Store) setRules() error {
	ruleset, err := readRuleset()
	if err != nil {
		return err
	}
	script := strings.NewReplacer("mydocker", s.name, "md-", s.bridgePrefix()).Replace(firewall)
	return runNFT(script + ruleset.closeForward(s.name) + ruleset.openForward(s.name, s.bridgePrefix()))
}

func (s *Store) setElements(elements []element) error {
	if err := s.addElements(elements); err != nil {
		return fmt.Errorf("setting the firewall's elements: %w", err)
	}
	return nil
}

// allElements returns what belongs into the sets and maps when the network is up: the table may be
// new, or flushed.
func (n *Network) allElements() (elements []element) {
	networks, _ := n.store.List() // n at least would have been an error before
	for _, other := range networks {
		if other.Name != n.Name && !bridgeIsUp(other.bridge()) {
			continue
		}
		elements = append(elements, other.elements()...)
		for _, e := range other.Endpoints() {
			if e.isAlive() {
				elements = append(elements, e.elements()...)
			}
		}
	}
	return elements
}

// closeFirewall undoes openFirewall. The table itself goes with the last network.
func (n *Network) closeFirewall(last bool) error {
	s := n.store
	if !last {
		return s.changeFirewall(false, func() error { return s.deleteElements(n.elements()) })
	}
	ruleset, err := readRuleset()
	if errors.Is(err, errNoNFT) {
		return nil // there is nothing to close
	}
	if err == nil {
		err = os.RemoveAll(s.generationFile())
	}
	if err != nil {
		return err
	}
	return runNFT(ruleset.closeForward(s.name) + "table inet " + s.name + "\ndelete table inet " + s.name + "\n")
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

// openForward returns commands that let our packets through the chains of others that drop what
// they do not know, as Docker's and ufw's do: to drop a packet, one chain is enough. Docker has
// a chain for what others have to say.
func (r ruleset) openForward(comment, bridgePrefix string) string {
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
			fmt.Fprintf(&script, "insert rule %s %s %s \"%s*\" counter accept comment %q\n", table, c.Name, match, bridgePrefix, comment)
		}
	}
	return script.String()
}

// closeForward returns commands that remove what those of openForward have made.
func (r ruleset) closeForward(comment string) string {
	var script strings.Builder
	for _, object := range r {
		if rule := object.Rule; rule != nil && rule.Comment == comment {
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

// runDir is what the mydockers of all state directories share. It is in memory.
const runDir = "/run/mydocker"

// lockForwarding keeps all others from switching forwarding on or off, those of other state
// directories too. It returns a file that says, while it is there, that it is on because of us, in
// this network namespace.
func (s *Store) lockForwarding() (lock *os.File, mark string, err error) {
	namespace, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, "", err
	}
	lock, err = lockDir(s.Context, runDir)
	return lock, fmt.Sprintf("%s/ip_forward-%d", runDir, namespace.Sys().(*syscall.Stat_t).Ino), err
}

// enableForwarding makes a router of the host, if it is none: it hands on packets that are for
// others. That is a change to the whole machine, so we say it.
func (s *Store) enableForwarding() error {
	lock, mark, err := s.lockForwarding()
	if err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	defer lock.Close()
	value, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	if strings.TrimSpace(string(value)) != "0" {
		return nil
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	if err := setSysctl("ip_forward", "1"); err != nil {
		return fmt.Errorf("switching on forwarding: %w", err)
	}
	fmt.Fprintln(os.Stderr, "mydocker: net.ipv4.ip_forward is 1 now, until the last network is removed")
	return nil
}

// restoreForwarding switches it off if we have switched it on, unless networks of another state
// directory need it.
func (s *Store) restoreForwarding() error {
	lock, mark, err := s.lockForwarding()
	if err != nil {
		return fmt.Errorf("switching off forwarding: %w", err)
	}
	defer lock.Close()
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) || anyBridge() {
		return nil
	}
	if err := errors.Join(setSysctl("ip_forward", "0"), os.Remove(mark)); err != nil {
		return fmt.Errorf("switching off forwarding: %w", err)
	}
	return nil
}

func bootID() []byte {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // always there: see proc_sys_kernel(5)
	return id
}
