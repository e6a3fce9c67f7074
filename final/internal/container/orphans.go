//go:build linux

package container

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	log "github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// clearOrphans does what the mydockers of containers would have done that were killed. Such a
// container is found by its cgroup, so that this takes no longer however many have ended in order.
// Among many that run, only some calls look for any, so that on average a start costs the same.
func (s *Store) clearOrphans() error {
	const few = 16
	if rand.IntN(max(s.Groups.Count(), 1)) >= few {
		return nil
	}
	ids, err := s.Groups.IDs()
	for _, id := range ids {
		if clearErr := s.clearOrphan(id); clearErr != nil {
			err = errors.Join(err, fmt.Errorf("clearing up behind container %s: %w", ShortID(id), clearErr))
		}
	}
	return err
}

// clearOrphan removes what is left of a container that has ended without its shim. What the container
// has written stays. One that still runs is left alone: a process that has changed its user outlives
// the shim.
func (s *Store) clearOrphan(id string) error {
	dir, err := os.Open(s.placeOf(id).container(id))
	if err != nil {
		return nil // of another state directory, or gone in this moment
	}
	defer dir.Close()
	// Those who only look share the lock, and so do we: ps is not to take us for who waits.
	if unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		return nil
	}
	c, err := s.read(id)
	if err != nil || c.isAlive() {
		return nil // ps says so, rm -f removes it
	}
	log.Debugf("clearing up behind container %s", c.ShortID())
	if err := c.leaveNetworks(); err != nil {
		return err
	}
	// The group goes last, as it is what tells the next one that there is something to be done.
	if err := c.clearGroup(); err != nil || !c.Config.AutoRemove {
		return err
	}
	dir.Close() // its lock is in the way of the one that Remove takes
	return c.Remove(true, true)
}
