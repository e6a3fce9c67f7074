// Package runtime starts processes in containers: a container's first one, with Start, and
// others beside it, with Exec. It knows namespaces, mounts and terminals, and nothing of images
// or of what is written down about a container.
//
// # How the first process is started
//
// A process that is to be alone in new namespaces has work to do there before it becomes the
// command: some fifty mounts, the change of the root, the join of its cgroup. The usual way is to
// start this same program once more, as init, and to tell it over a pipe what to do. That costs
// a second start of everything that is linked into it.
//
// Here the parent writes that work down instead, as a list of system calls with their arguments
// (see program), forks without exec, and the child makes those calls, one after the other, and
// ends with execve(2). So a container is one fork and one exec away. What can be done outside,
// such as opening the volumes and the terminal, the parent has done before, in plain Go. None of
// its threads ever has a container's mounts or network, so none has to find its way back.
//
// That was chosen by measurement: a whole run of true, with cgroups, an overlay and all mounts, by
// a small program; the median over pairs of runs, crun's time being 1. Hot is back to back, cold
// is after 200 ms of idling.
//
//	                                                   hot   cold
//	the list of system calls, after a fork             0.86  0.41
//	mounts on an unshared thread, then a fork          0.83  0.37
//	this program again as init, which plays the list   1.08  0.53
//	runc                                               3.0   1.5
//	exec: the list                                     0.52  0.54
//
// What is linked into a program for its command line and for HTTP adds half a millisecond to its
// start, which the second start of an init would pay again. The unshared thread is faster by no
// more than the noise, and would have to stay in the container's namespaces as long as the
// container lives, as PR_SET_PDEATHSIG goes by threads. A fork that shares our memory until the
// exec, as syscall.ForkExec's does, would save 0.3 ms of page tables. But it needs assembly for
// each processor, holds up its parent, which could prepare no network meanwhile, and could become
// no init.
package runtime
