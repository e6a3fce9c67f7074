//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
)

// The two halves of the name of a container that nobody has named, as docker makes them up.
var (
	moods = []string{
		"brave", "bright", "busy", "calm", "clever", "curious", "eager", "gentle", "happy", "honest",
		"jolly", "keen", "kind", "lively", "lucid", "modest", "nimble", "patient", "quiet", "relaxed",
		"serene", "sharp", "sunny", "tender", "vivid", "wise",
	}
	surnames = []string{
		"ampere", "banach", "bell", "bohr", "curie", "darwin", "dijkstra", "einstein", "euler", "fermi",
		"galois", "gauss", "goodall", "hamilton", "hopper", "johnson", "kepler", "liskov", "lovelace",
		"meitner", "newton", "noether", "pasteur", "ritchie", "shannon", "thompson", "torvalds", "turing",
		"wozniak", "wu",
	}
)

func randomName() string {
	return moods[rand.IntN(len(moods))] + "_" + surnames[rand.IntN(len(surnames))]
}

// takeAnyName gives the container a name that nobody has: where two words do not do, its ID
// makes the difference.
func (c *container) takeAnyName() error {
	name := randomName()
	err := c.tryName(name)
	if errors.Is(err, fs.ErrExist) {
		err = c.tryName(name + "_" + shortID(c.ID))
	}
	if err != nil {
		return fmt.Errorf("taking a name: %w", err)
	}
	return nil
}

func (c *container) tryName(name string) error {
	c.Name = name
	if err := c.save(); err != nil {
		return err
	}
	return c.linkName()
}
