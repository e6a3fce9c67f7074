package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// prefix begins every name that we give, so that bench.sh finds what is left in the cgroups.
const prefix = "mydocker-bench"

// patience is how long any command may take.
const patience = time.Minute

// bench is one run of everything.
type bench struct {
	state  string
	peers  []*peer
	stderr *os.File // of the last commands
	named  int
	rows   []row
}

func newBench(state string) (*bench, error) {
	file, err := os.OpenFile(filepath.Join(state, "stderr"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &bench{state: state, stderr: file}, nil
}

func (b *bench) names() []string {
	var names []string
	for _, p := range b.peers {
		names = append(names, p.name)
	}
	return names
}

// name returns a name for a container.
func (b *bench) name() string {
	b.named++
	return fmt.Sprintf("%s-%d", prefix, b.named)
}

func (b *bench) complain(p *peer, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %s %s\n", p.name, fmt.Sprintf(format, args...))
}

// do runs a command. What it says on stderr goes to a file: at the end of a pipe we would wait
// for whoever still holds it, such as a shim.
func (b *bench) do(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = b.stderr
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(b.stderr.Name())
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said))
	}
	return b.stderr.Truncate(0)
}

// all runs commands one after the other, up to the first that fails.
func (b *bench) all(commands ...[]string) error {
	for _, args := range commands {
		if err := b.do(args); err != nil {
			return err
		}
	}
	return nil
}

// time returns how many milliseconds commands take, one after the other.
func (b *bench) time(commands ...[]string) (float64, error) {
	began := time.Now()
	err := b.all(commands...)
	return float64(time.Since(began).Microseconds()) / 1000, err
}

// ready returns those peers that could be prepared.
func (b *bench) ready(peers []*peer, prepare func(p *peer) error) []*peer {
	var ready []*peer
	for _, p := range peers {
		if err := prepare(p); err != nil {
			b.complain(p, "is left out here: %v", err)
			continue
		}
		ready = append(ready, p)
	}
	return ready
}

// withImages are those that know images, and so networks, logs and what else we do with them.
func (b *bench) withImages() []*peer {
	var peers []*peer
	for _, p := range b.peers {
		if p.bundles == "" {
			peers = append(peers, p)
		}
	}
	return peers
}

// compare measures something so many times, all peers taking turns. One that fails drops out. The
// order is another one each time: docker has still things to do when its command has ended, and it
// is not to be the same peer that they always hold up.
func (b *bench) compare(title, unit string, runs int, peers []*peer, sample func(p *peer) (float64, error)) {
	samples := map[*peer][]float64{}
	out := map[*peer]bool{}
	for range runs {
		for _, i := range rand.Perm(len(peers)) {
			p := peers[i]
			if out[p] {
				continue
			}
			value, err := sample(p)
			if err != nil {
				b.complain(p, "drops out of %q: %v", title, err)
				out[p] = true
				continue
			}
			samples[p] = append(samples[p], value)
		}
	}
	r := row{title: title, unit: unit, medians: map[string]float64{}}
	for _, p := range peers {
		if !out[p] {
			r.medians[p.name] = median(samples[p])
		}
	}
	b.rows = append(b.rows, r)
	fmt.Fprint(os.Stderr, line(b.names(), r))
}
