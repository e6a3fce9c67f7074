// Package testkit runs the scripts that describe what each chapter promises.
//
// A script is a txtar file in chNN-NAME/testdata, in the language of
// github.com/rogpeppe/go-internal/testscript. The suite is cumulative: chapter N has to keep
// the promises of chapters 1 to N. Scripts run as root in a sandbox: mount, PID, network, UTS
// and IPC namespaces, cgroups and a state directory of their own. The sandbox is in the bad
// state that readers' machines are in: all of its mounts are shared, as systemd has them.
//
// Besides testscript's own commands, scripts have
//
//	run [FLAGS... --] COMMAND...   mydocker run, with an image put in from chapter 4 on
//	running                        print the IDs of the containers that run
//	status N COMMAND...            run a command, which must exit with status N
//	start [-tty] NAME COMMAND...   start a command in the background, on a terminal of its own with -tty
//	send NAME TEXT                 type a line of text into it
//	until NAME REGEXP              wait until it has printed this since the last until
//	signal [-init] NAME SIGNAL     send it a signal, or to the container's process 1 that it started
//	end NAME STATUS                wait for its end; its output is in the file NAME.out
//
//	outside [COMMAND...]           be another machine, 192.0.2.2, or run a command on it (start it, until it is ready)
//	serve PROTOCOL PORT TEXT       answer whoever comes, also from within a container: the binary is static
//	ask [-wait TIME] PROTOCOL IP:PORT   print what comes from there
//	advertise                      pretend to the neighbours of eth0 to be an IPv6 router
//	crash [power]                  kill mydocker, or cut the power, at random times in the middle of every command
//	disk                           mount a disk over $STATE; the script must unmount it at its end
//	outage                         lose its power, and with it what is not on the disk yet, and reboot
//	hold FILE                      hold the lock on a file, say "held", and wait to be killed
//	speed [IP:PORT]                measure the way to another speed: MB a second, and microseconds there and back
//
// and the conditions [cgroup1], [cgroup2], [gnutar] where /bin/tar is GNU's, [keeps] from
// chapter 8 on, where a container is kept when it has ended, [networks] from chapter 11 on, where
// it has an interface, and [final]. In the environment, $IMAGE is the image, empty before
// chapter 4, $STATE the state directory, and $FAILED the exit status of a command that failed
// and is not run: 125, but docker's 1 in final.
//
// With MYDOCKER_TEST_STRICT=1 a script that cannot run, for want of root or an image, fails
// instead of being skipped; only the other cgroup version may be missing. With
// MYDOCKER_TEST_NEGATIVE=1 it is the next chapter's scripts that are run, and each has to
// fail: a script that passes before its lesson does not test it.
package testkit
