//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/lixd/mydocker/final/internal/flock"
	"github.com/lixd/mydocker/final/internal/record"
)

// Endpoint is a container's place on a network. Its lease holds it, so that everybody knows who
// has an address, and what is published there.
type Endpoint struct {
	Version     int
	Network     string
	ContainerID string
	Name        string // the container's
	Hostname    string // what it calls itself
	Dir         string // the container's directory: locked as long as it runs
	Address     netip.Addr
	Ports       []Port // that are published

	network *Network
	sockets []io.Closer // see Port.reserve
}

// open finds a network and brings it up. The caller holds the lock.
func (s *Store) open(name, id string) (*Network, error) {
	n, err := s.Find(name)
	if name == Default && record.IsDamaged(err) && !record.IsNewer(err) && !n.isInUse() {
		if err := errors.Join(n.reclaim(), n.remove()); err != nil {
			return nil, err
		}
		return s.create(id, Default, "", "")
	}
	if name == Default && errors.As(err, &NotFoundError{}) {
		return s.create(id, Default, "", "")
	}
	if err != nil {
		return nil, err
	}
	return n, n.up()
}

// isInUse tells whether a container that runs is on the network.
func (n *Network) isInUse() bool {
	return slices.ContainsFunc(n.Endpoints(), (*Endpoint).isAlive)
}

// Join finds a container its place on a network, and publishes ports. The endpoint says which
// container it is: ContainerID, Name and Dir. Leave undoes it.
func (s *Store) Join(name, id string, e *Endpoint, ports []Port) (err error) {
	e.Network = name
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Leave(e))
		}
	}()
	for _, p := range ports {
		reserved, sockets, err := p.reserve()
		if err != nil {
			return err
		}
		e.Ports = append(e.Ports, reserved...)
		e.sockets = append(e.sockets, sockets...)
	}
	if err := s.takeAddress(id, e); err != nil {
		return err
	}
	e.relay()
	return nil
}

// takeAddress leases an address on the network, and introduces the container to the others.
func (s *Store) takeAddress(id string, e *Endpoint) error {
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if e.network, err = s.open(e.Network, id); err != nil {
		return err
	}
	e.Network = e.network.Name
	if err := e.network.lease(e); err != nil {
		return err
	}
	if err := e.writeHosts(); err != nil {
		return err
	}
	return s.publish(e)
}

// Leave gives back what Join has taken, also what another process has that was killed. What is
// not the container's any more is left alone.
func (s *Store) Leave(e *Endpoint) error {
	defer func() {
		for _, socket := range e.sockets { // last, so that nobody gets a port whose rule is still there
			socket.Close()
		}
	}()
	n, _ := s.read(e.Network)
	if n == nil || !e.Address.IsValid() {
		return nil // none, host, or gone; or Join did not come so far
	}
	lock, err := s.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	held, err := n.readLease(e.Address)
	if errors.Is(err, fs.ErrNotExist) && !n.isLinked(e) || err == nil && held.ContainerID != e.ContainerID {
		return nil // somebody else has given it back, and it may be another's by now
	}
	return n.giveBack(e)
}

// giveBack undoes takeAddress and publish. The caller holds the lock.
func (n *Network) giveBack(e *Endpoint) error {
	if err := errors.Join(e.detach(), n.store.unpublish(e), n.removeHosts(e)); err != nil {
		return err
	}
	return errors.Join(n.release(e.Address), n.unlinkEndpoint(e.ContainerID))
}

// LeaveAll gives back whatever a container holds that does not run any more, though its record may
// say nothing of it. It looks on one network, or on all if the name is empty.
func (s *Store) LeaveAll(containerID, name string) error {
	networks := []*Network{{Name: name, store: s}}
	if name == "" {
		var err error
		if networks, err = s.List(); err != nil {
			return err
		}
	}
	var errs []error
	for _, n := range networks {
		address, err := os.Readlink(n.endpointLink(containerID))
		if err != nil {
			continue // it is not on this one
		}
		addr, _ := netip.ParseAddr(address) // of a lease that there is not, if it is none
		e, err := n.readLease(addr)
		if err != nil || e.ContainerID != containerID {
			e = &Endpoint{ContainerID: containerID, Address: addr} // the lease was not made, or is gone
		}
		e.Network = n.Name
		errs = append(errs, s.Leave(e), n.unlinkEndpoint(containerID))
	}
	return errors.Join(errs...)
}

// endpointLink is a link from a container's ID to the address that it leases, or is about to.
func (n *Network) endpointLink(containerID string) string {
	return filepath.Join(n.dir(), "endpoints", containerID)
}

func (n *Network) linkEndpoint(e *Endpoint) error {
	link := n.endpointLink(e.ContainerID)
	err := n.unlinkEndpoint(e.ContainerID)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(link), 0o700)
	}
	if err == nil {
		err = os.Symlink(e.Address.String(), link)
	}
	return err
}

// isLinked tells whether the container still holds the address, though the lease may be lost.
func (n *Network) isLinked(e *Endpoint) bool {
	address, err := os.Readlink(n.endpointLink(e.ContainerID))
	return err == nil && address == e.Address.String()
}

func (n *Network) unlinkEndpoint(containerID string) error {
	err := os.Remove(n.endpointLink(containerID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Attach makes the container's eth0, as soon as it has a network namespace: that of the process pid.
func (e *Endpoint) Attach(pid int) error {
	if err := e.makeVeth(pid); err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		// The thread is not unlocked, so it ends with this goroutine, and with it the only one of
		// ours that ever was in the container's namespace.
		runtime.LockOSThread()
		done <- e.setUp(pid)
	}()
	return <-done
}

// setUp makes addresses and routes in the network namespace of a process, where the calling
// thread stays.
func (e *Endpoint) setUp(pid int) error {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("opening the network namespace: %w", err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network namespace: %w", err)
	}
	if err := e.setUpEth0(); err != nil {
		return fmt.Errorf("setting up eth0: %w", err)
	}
	return nil
}

// lockDir waits until no other process holds the lock on the directory. Closing the file
// gives it back, and so does the end of the process, however it comes. See flock(2).
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if err := flock.Lock(ctx, file); err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return file, nil
}

// isAlive tells whether the endpoint's container runs, or is about to.
func (e *Endpoint) isAlive() bool {
	file, err := os.Open(e.Dir)
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}
