#!/usr/bin/env bash
# Runs the scripts and unit tests of all stages in virtual machines, one for each package, on
# cgroup v2 and on another kernel than this machine's: Debian's for clouds. Needs neither KVM
# nor root: QEMU emulates the processor. Ends with "N passed, N failed, N skipped".
#
#   scripts/vm/qemu.sh [DIRECTORY...]    of a package with tests; all if none is named
#
# KERNEL and MODULES name another kernel and its directory in /lib/modules.
set -euo pipefail
cd "$(dirname "$0")/../.."

case $(uname -m) in
# A processor without vector units beyond SSE2: Go uses what there is, and emulating it is slow.
x86_64) arch=amd64 qemu=(qemu-system-x86_64 -machine q35 -cpu qemu64) console=ttyS0 ;;
aarch64) arch=arm64 qemu=(qemu-system-aarch64 -machine virt -cpu max) console=ttyAMA0 ;;
*) echo "qemu: no kernel for $(uname -m)" >&2 && exit 1 ;;
esac
if ! command -v "${qemu[0]}" >/dev/null; then
	echo "qemu: ${qemu[0]} is not there: scripts/setup.sh" >&2
	exit 1
fi

say() { echo "qemu: $*" >&2; }

# kernel_package prints the package that the newest kernel for clouds is in.
kernel_package() {
	apt-cache depends "linux-image-cloud-$arch" 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }'
}

# fetch_kernel unpacks that package, and sets KERNEL and MODULES.
fetch_kernel() {
	local dir=.cache/kernel-$arch
	if ! compgen -G "$dir/boot/vmlinuz-*" >/dev/null; then
		[ -n "$(kernel_package)" ] || apt-get -qq update
		scripts/package.sh "$(kernel_package)" "$dir"
	fi
	KERNEL=$(echo "$dir"/boot/vmlinuz-*)
	MODULES=$(echo "$dir"/lib/modules/*)
}

[ -n "${KERNEL:-}" ] || fetch_kernel
IMAGE_FROM=debian scripts/image.sh .cache/busybox.tar

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# The VM's root file system is the image's, with the tests under /mydocker.
mkdir -p "$root"/{mydocker/.cache,usr/local/sbin,var/lib,sys,mnt,modules}
tar -C "$root" -xf .cache/busybox.tar --no-same-owner
cp .cache/busybox.tar "$root/mydocker/.cache"

# Programs that the tests need, with their libraries, which are in usr, as Debian has them.
mkdir -p "$root"/usr/{lib,lib64}
ln -s usr/lib usr/lib64 "$root"
for name in nft mkfs.ext4; do
	program=$(PATH=$PATH:/usr/sbin:/sbin command -v $name) || { echo "qemu: $name is missing: scripts/setup.sh" >&2 && exit 1; }
	for file in $(ldd "$program" | grep -o '/[^ ]*'); do
		mkdir -p "$root$(dirname "$file")"
		cp "$file" "$root$file"
	done
	cp "$program" "$root/usr/sbin/$name"
done

cp -r --parents ch[0-9][0-9]-*/testdata final/testdata "$root/mydocker"

# Modules go in the order in which they are loaded.
number=0
modules=(overlay loop crc16 mbcache jbd2 ext4 llc stp bridge veth
	libcrc32c nf_defrag_ipv4 nf_defrag_ipv6 nf_conntrack nf_nat nfnetlink nf_conntrack_netlink
	nf_tables nft_ct nft_nat nft_masq nft_chain_nat nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet)
for module in "${modules[@]}"; do
	file=$(find "$MODULES/kernel" -name "$module.ko*")
	[ -n "$file" ] || continue # built in
	number=$((number + 1))
	case $file in
	*.xz) xz -dc "$file" ;;
	*.zst) zstd -qdc "$file" ;;
	*) cat "$file" ;;
	esac >"$root/modules/$(printf %02d "$number")-$module.ko"
done

# An initramfs cannot be pivoted away from, so the first step of all is into a tmpfs.
cat >"$root/init" <<'END'
#!/bin/sh
mount -t tmpfs -o mode=755 tmpfs /home
for entry in /*; do
	[ $entry = /home ] || cp -a $entry /home/
done
mkdir /home/home
exec switch_root /home /sbin/main
END
cat >"$root/sbin/main" <<'END'
#!/bin/sh
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in /modules/*; do insmod $module; done
echo "vm: Linux $(uname -r), cgroup v2 with $(cat /sys/fs/cgroup/cgroup.controllers)"
export MYDOCKER_TEST_STRICT=1
cd /mydocker/$package
start=$(cut -d. -f1 /proc/uptime)
# What is on disk, and how it may be damaged, is the same with any kernel, and takes long here.
if ./tests -test.v -test.timeout 40m -test.skip 'TestScripts/(damage.*|ps-many|crash-stores)$'; then
	verdict=ok
else
	verdict=FAIL
fi
printf '%s\t%s\t%ds\n' $verdict $package $(($(cut -d. -f1 /proc/uptime) - start))
poweroff -f
END
chmod 755 "$root/init" "$root/sbin/main"

# archive DIRECTORY prints what is in there as the kernel reads it.
archive() (cd "$1" && find . | "$root/bin/busybox" cpio --quiet -R 0:0 -H newc -o | gzip -1)

archive "$root" >"$work/initramfs"

# run_tests PACKAGE runs a package's tests in a VM. Two archives one behind the other are one
# to the kernel; and what it does not know of its command line is in init's environment.
run_tests() {
	local dir=$work/$1
	mkdir -p "$dir/root/mydocker/$1"
	CGO_ENABLED=0 go test -c -o "$dir/root/mydocker/$1/tests" "./$1"
	archive "$dir/root" | cat "$work/initramfs" - >"$dir/initramfs"
	timeout 2700 "${qemu[@]}" -accel tcg,thread=multi -smp 2 -m 2G -nodefaults -no-reboot \
		-display none -serial stdio -kernel "$KERNEL" -initrd "$dir/initramfs" \
		-append "console=$console quiet panic=-1 tsc=reliable package=$1" </dev/null >"$dir/console"
}

# An emulated machine keeps one processor busy, whatever it has itself: so one for each at a
# time, and first what takes longest. Images are files, which are the same with any kernel;
# what tests them needs skopeo.
readarray -t chapters < <(printf '%s\n' ch[0-9][0-9]-* | sort -r)
[ $# -gt 0 ] || set -- final "${chapters[@]}" final/internal/{runtime,shim,network,cgroup,container}
for package in "$@"; do
	[ "$(jobs -r | wc -l)" -lt "$(nproc)" ] || wait -n || true # how it ended is on its console
	say "running the tests of $package"
	run_tests "$package" &
done
wait
for package in "$@"; do
	cat "$work/$package/console" || true
	grep -q $'^[a-zA-Z]*\t'"$package"$'\t' "$work/$package/console" || echo "FAIL	$package: the VM did not get to its end"
done | scripts/counts.sh
