// Package runtime starts processes in containers: a container's first one, with Start, and
// others beside it, with Exec. It knows namespaces, mounts and terminals, and nothing of images
// or of what is written down about a container.
//
// # How a process is started
//
// A process that is to be alone in new namespaces has work to do there before it becomes the
// command: some fifty mounts, the change of the root, the join of its cgroup. The usual way is to
// start this same program once more, as init, and to tell it over a pipe what to do. That costs
// a second start of everything that is linked into it, and puts a copy of this program, with its
// memory, environment and open files, where the container can reach it.
//
// Here the parent writes that work down instead, as a list of system calls with their arguments
// (see program). The player makes those calls, one after the other, and ends with execve(2). It
// is a program of some 700 bytes, without a library, whose machine code is part of this one: see
// player_amd64.s. It is executed from a sealed file in memory, gets the list in another one, has
// no environment, and has nothing open but what the list names. What can be done outside, such as
// opening the volumes and the terminal, the parent has done before, in plain Go. None of its
// threads ever has a container's mounts or network.
//
// # What a container can reach
//
// The player obeys these rules, because its files and its memory may lead out of the container:
//
//   - A path of the image or of the user is followed only by openat2(2) with
//     RESOLVE_NO_MAGICLINKS while a file of the host's is open. closeFiles leaves only the standard
//     files and the pipe to the parent.
//   - The working directory is entered after closeFiles, and must be inside the root: see enterDir.
//   - The command is looked up when nothing of the host's is open. /proc/self/exe is then the
//     player, which cannot be executed or changed any more.
//   - A command that joins a container is in all of its namespaces but one, has its user and has
//     closed its files before it is born into the last, the PID namespace: see goOnInside.
//   - The command's parent, its keeper, is in no namespace of the container, and has nothing open:
//     see keep.
//   - An init closes all files, and unmaps the list, before the command runs: see stayAsInit.
//   - A directory is no standard file: ".." in it leads out.
//
// # What it costs
//
// That was chosen by measurement: a whole run of true, with cgroups, an overlay and all mounts,
// and a whole exec of it. The figures are medians over pairs of runs, relative to a forked copy of
// this program that plays the list itself. Hot is back to back, cold is after 200 ms of idling.
//
//	                                               hot   cold  exec  --init
//	the player                                     0.82  0.83  0.88  0.80
//	this program again as init, playing the list   1.26  1.29
//
// Making and sealing the two files in memory is included: it takes 0.04 ms. A fork copies the page
// tables of this program, and then each page that either side writes to. The player's process
// shares our memory until its exec, as with every syscall.ForkExec.
package runtime
