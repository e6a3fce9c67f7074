package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// idle is how long nothing happens before what is measured cold: as at a shell, where somebody types.
const idle = 200 * time.Millisecond

// rowLength is how many hot samples are taken back to back, behind one that is not counted.
const rowLength = 10

// inARow returns the mean of a row. So a runtime pays itself for what it leaves to the kernel to clear
// away: with one sample in turn, that is for the next one to wait for.
func inARow(sample func(p *peer) (float64, error)) func(p *peer) (float64, error) {
	return func(p *peer) (mean float64, err error) {
		if _, err := sample(p); err != nil {
			return 0, err
		}
		for range rowLength {
			one, err := sample(p)
			if err != nil {
				return 0, err
			}
			mean += one / rowLength
		}
		return mean, nil
	}
}

// start measures what it takes to run true in a container: that there is little else to it shows
// the cost of the container.
func (b *bench) start() {
	once := func(p *peer) (float64, error) { return b.time(p.once(b.name())) }
	b.compare("start to exit, hot", "ms", 10, b.peers, inARow(once))
	b.compare("start to exit, cold", "ms", 15, b.peers, func(p *peer) (float64, error) {
		time.Sleep(idle)
		return once(p)
	})
	b.compare("start detached", "ms", 15, b.peers, func(p *peer) (float64, error) {
		name := b.name()
		took, err := b.time(p.detached(name))
		return took, errors.Join(err, b.do(p.remove(name)))
	})
}

func (b *bench) network() {
	b.compare("start to exit, on a bridge", "ms", 10, b.withImages(), b.onBridge)
}

// onBridge starts a container on the default network.
func (b *bench) onBridge(p *peer) (float64, error) {
	return b.time(p.container("run", []string{"--rm", "--network", "bridge"}, "true"))
}

// parallel measures how many containers a second come and go when there are always eight.
func (b *bench) parallel() {
	const starts, workers = 100, 8
	b.compare("100 starts, 8 at a time", "/s", 3, b.peers, func(p *peer) (float64, error) {
		names := make(chan string, starts)
		for range starts {
			names <- b.name()
		}
		close(names)
		errs := make([]error, workers)
		var wait sync.WaitGroup
		began := time.Now()
		for i := range workers {
			wait.Go(func() {
				for name := range names {
					errs[i] = errors.Join(errs[i], b.do(p.once(name)))
				}
			})
		}
		wait.Wait()
		return starts / time.Since(began).Seconds(), errors.Join(errs...)
	})
}

func (b *bench) exec() {
	name := b.name()
	peers := b.ready(b.peers, func(p *peer) error { return b.do(p.detached(name)) })
	exec := func(p *peer) (float64, error) { return b.time(p.with("exec", name, "true")) }
	b.compare("exec, hot", "ms", 10, peers, inARow(exec))
	b.compare("exec, cold", "ms", 15, peers, func(p *peer) (float64, error) {
		time.Sleep(idle)
		return exec(p)
	})
	b.ready(peers, func(p *peer) error { return b.do(p.remove(name)) })
}

// stop measures the way of a signal to a container that ends at once, and of the news back.
func (b *bench) stop() {
	b.compare("stop", "ms", 10, b.withImages(), func(p *peer) (float64, error) {
		name := b.name()
		if err := b.do(p.container("run", []string{"--detach", "--network", "none", "--name", name},
			"sh", "-c", "trap exit TERM; sleep 1000 & wait")); err != nil {
			return 0, err
		}
		time.Sleep(idle) // until the shell has come to its trap
		took, err := b.time(p.with("stop", name))
		return took, errors.Join(err, b.do(p.remove(name)))
	})
}

// logs measures 200 MB in lines of 100 bytes, from the container to the log and from there to us.
func (b *bench) logs() {
	const runs = 3
	dir := filepath.Join(b.state, "lines")
	if err := writeLines(dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench: no logs:", err)
		return
	}
	last := map[*peer]string{}
	b.compare("log 200 MB of lines", "ms", runs, b.withImages(), func(p *peer) (float64, error) {
		if last[p] != "" {
			if err := b.do(p.remove(last[p])); err != nil {
				return 0, err
			}
		}
		last[p] = b.name()
		return b.time(
			p.container("run", []string{"--detach", "--network", "none", "--name", last[p], "--volume", dir + ":/in:ro"}, "cat", "/in/lines"),
			p.with("wait", last[p]))
	})
	b.compare("read that log", "ms", runs, b.withImages(), func(p *peer) (float64, error) {
		return b.time(p.with("logs", last[p]))
	})
	b.ready(b.withImages(), func(p *peer) error { return b.do(p.remove(last[p])) })
}

func writeLines(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(dir, "lines"))
	if err != nil {
		return err
	}
	defer file.Close()
	w := bufio.NewWriterSize(file, 1<<20)
	for i := range 2_000_000 {
		fmt.Fprintf(w, "%099d\n", i) // an error is Flush's too
	}
	return w.Flush()
}

// commit measures how a container with a file of 100 MB, which cannot be compressed, becomes an image.
func (b *bench) commit() {
	name := b.name()
	peers := b.ready(b.withImages(), func(p *peer) error { return b.fill(p, name, "/dev/urandom", 100) })
	b.compare("commit 100 MB", "ms", 5, peers, func(p *peer) (float64, error) {
		image := b.name()
		took, err := b.time(p.with("commit", name, image))
		return took, errors.Join(err, b.do(p.with("rmi", image)))
	})
	b.ready(peers, func(p *peer) error { return b.do(p.remove(name)) })
}

// fill leaves a container with a file of so many MB.
func (b *bench) fill(p *peer, name, source string, size int) error {
	return b.do(p.container("run", []string{"--network", "none", "--name", name},
		"dd", "if="+source, "of=/file", "bs=1M", "count="+strconv.Itoa(size)))
}

// bigImage shows whether the size of an image matters to who starts it.
func (b *bench) bigImage() {
	const big = prefix + "-big"
	peers := b.ready(b.withImages(), func(p *peer) error {
		name := b.name()
		return errors.Join(b.fill(p, name, "/dev/zero", 500), b.all(p.with("commit", name, big), p.remove(name)))
	})
	b.compare("start to exit, image of 500 MB", "ms", 15, peers, func(p *peer) (float64, error) {
		args := p.once("")
		args[len(args)-2] = big // in place of busybox
		return b.time(args)
	})
}

// list measures ps, and whether the number of containers matters to who starts another one. It
// leaves them all to the end of the sandbox.
func (b *bench) list() {
	peers, made := b.peers, 0
	for _, size := range []int{10, 100, 500} {
		peers = b.ready(peers, func(p *peer) error {
			for range size - made {
				if err := b.do(p.made(b.name())); err != nil {
					return err
				}
			}
			return nil
		})
		made = size
		b.compare(fmt.Sprintf("list %d containers", size), "ms", 10, peers, func(p *peer) (float64, error) {
			return b.time(p.list())
		})
	}
	b.compare("start to exit, among 500 containers", "ms", 15, peers, func(p *peer) (float64, error) {
		return b.time(p.once(b.name()))
	})
}

// crowd shows whether it matters to a start how many containers of ours run already: to the kernel
// it does. It leaves none of them.
func (b *bench) crowd() {
	ours := b.peers[0]
	var running []string
	for _, size := range []int{10, 300, 1000} {
		for len(running) < size {
			name := b.name()
			if err := b.do(ours.container("run", []string{"--detach", "--network", "bridge", "--name", name}, "sleep", "1000")); err != nil {
				b.complain(ours, "has no crowd of %d: %v", size, err)
				return
			}
			running = append(running, name)
		}
		b.compare(fmt.Sprintf("start to exit, among %d of ours that run", size), "ms", 15, b.peers, func(p *peer) (float64, error) {
			return b.time(p.once(b.name()))
		})
		b.compare("... on their bridge", "ms", 15, b.peers[:1], b.onBridge)
	}
	b.compare("remove 1000 that run", "ms", 1, b.peers[:1], func(p *peer) (float64, error) {
		return b.time(p.with(append([]string{"rm", "--force"}, running...)...))
	})
}

// networks shows whether it matters to a new network, and to a start, how many there are.
func (b *bench) networks() {
	ours, made := b.peers[:1], 0
	for _, size := range []int{10, 250} {
		ours = b.ready(ours, func(p *peer) error {
			for ; made < size; made++ {
				if err := b.do(p.with("network", "create", b.name())); err != nil {
					return err
				}
			}
			return nil
		})
		var names []string
		b.compare(fmt.Sprintf("create a network, among %d", size), "ms", 10, ours, func(p *peer) (float64, error) {
			names = append(names, b.name())
			return b.time(p.with("network", "create", names[len(names)-1]))
		})
		b.compare("... remove one", "ms", 10, ours, func(p *peer) (float64, error) {
			name := names[0]
			names = names[1:]
			return b.time(p.with("network", "rm", name))
		})
		b.compare("... start to exit, on the default bridge", "ms", 15, ours, b.onBridge)
	}
}

// memory measures what it takes that somebody waits for a container: the parent of its first process.
func (b *bench) memory() {
	for _, size := range []int{1, 10} {
		title := "memory to wait for a container"
		if size > 1 {
			title = fmt.Sprintf("... each, with %d of them", size)
		}
		b.compare(title, "MB", 3, b.withImages(), func(p *peer) (total float64, err error) {
			var names []string
			for range size {
				names = append(names, b.name())
				if err := b.do(p.detached(names[len(names)-1])); err != nil {
					return 0, err
				}
			}
			time.Sleep(idle) // until they have come to rest
			for _, name := range names {
				pss, err := parentPSS(p, name)
				if err != nil {
					return 0, err
				}
				total += pss
			}
			for _, name := range names {
				err = errors.Join(err, b.do(p.remove(name)))
			}
			return total / float64(size), err
		})
	}
}

// parentPSS returns the proportional set size, in MB, of the process that waits for a container.
func parentPSS(p *peer, name string) (float64, error) {
	args := p.with("inspect", "--format", "{{.State.Pid}}", name)
	pid, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		return 0, fmt.Errorf("asking %s for a process ID: %w", p.name, err)
	}
	parent, err := field("/proc/"+strings.TrimSpace(string(pid))+"/status", "PPid:")
	if err != nil {
		return 0, err
	}
	kilobytes, err := field(fmt.Sprintf("/proc/%d/smaps_rollup", int(parent)), "Pss:")
	return kilobytes / 1000, err
}

// field returns the number behind a name in one of the files of proc(5).
func field(path, name string) (float64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut("\n"+string(content), "\n"+name)
	words := strings.Fields(rest)
	if !found || len(words) == 0 {
		return 0, fmt.Errorf("%s has no %s", path, name)
	}
	return strconv.ParseFloat(words[0], 64)
}
