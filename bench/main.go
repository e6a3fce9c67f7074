// Bench times final against the container runtimes that are installed. It is run by bench.sh,
// which makes the place for it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	state := flag.String("state", "", "the `directory` for everything that the runtimes keep")
	only := flag.String("only", "", "measure these `groups` only, as in exec,ps")
	flag.Parse()
	if err := run(*state, *only, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// groups are what is measured, in this order: the last ones leave many containers and networks behind.
var groups = []struct {
	name    string
	measure func(*bench)
}{
	{"start", (*bench).start},
	{"network", (*bench).network},
	{"parallel", (*bench).parallel},
	{"exec", (*bench).exec},
	{"stop", (*bench).stop},
	{"memory", (*bench).memory},
	{"logs", (*bench).logs},
	{"commit", (*bench).commit},
	{"image", (*bench).bigImage},
	{"crowd", (*bench).crowd},
	{"ps", (*bench).list},
	{"networks", (*bench).networks},
}

func run(state, only string, readmes []string) error {
	if state == "" {
		return errors.New("run bench.sh, which makes the place where I can run")
	}
	if only != "" && len(readmes) > 0 {
		return errors.New("a table of some groups is not for the READMEs")
	}
	image, err := filepath.Abs(".cache/busybox.tar")
	if err != nil {
		return err
	}
	b, err := newBench(state)
	if err != nil {
		return err
	}
	b.findPeers(image)
	for _, g := range groups {
		if only == "" || slices.Contains(strings.Split(only, ","), g.name) {
			fmt.Fprintln(os.Stderr, "bench:", g.name)
			g.measure(b)
		}
	}
	text := table(b.names(), b.rows) + "\n" + conditions()
	fmt.Print(text)
	for _, readme := range readmes {
		if err := keep(readme, text); err != nil {
			return err
		}
	}
	return nil
}
