#!/usr/bin/env bash
# Installs what a Debian or Ubuntu machine lacks to run the stages and their tests, and says what.
#
#   scripts/setup.sh [--ci]     with --ci also what test-vm and lint need
set -euo pipefail
cd "$(dirname "$0")/.."

go_version=1.26.8 # what is installed where there is none

say() { echo "setup: $*" >&2; }

if ! command -v apt-get >/dev/null; then
	say "this is neither Debian nor Ubuntu: see what is needed in $0, and install it yourself"
	exit 1
fi
root=()
[ "$(id -u)" = 0 ] || root=(sudo)

# install PACKAGE... installs those that are not installed.
install() {
	local missing=() package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "installing ${missing[*]}"
	"${root[@]}" apt-get -qq update
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
}

# have_go VERSION tells whether there is a Go of that version, or a newer one.
have_go() {
	local version
	command -v go >/dev/null || return 1
	version=$(cd / && go env GOVERSION)
	[ "$(printf '%s\n' "$1" "${version#go}" | sort -V | head -n 1)" = "$1" ]
}

# install_go makes /usr/local/go of the toolchain that Go publishes as a module. Any go can
# download it, also one that is too old to do so by itself.
install_go() {
	local version=$1 dir
	install golang-go ca-certificates
	if have_go 1.21.0; then
		return # it fetches the version that go.work wants when it is needed
	fi
	say "installing Go $version in /usr/local/go"
	dir=$(cd /tmp && go mod download -json "golang.org/toolchain@v0.0.1-go$version.linux-$(dpkg --print-architecture)" |
		sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p')
	"${root[@]}" cp -r "$dir" /usr/local/go
	"${root[@]}" chmod -R u+w,a+rX /usr/local/go
	"${root[@]}" find /usr/local/go/bin /usr/local/go/pkg/tool -type f -exec chmod 755 {} +
	"${root[@]}" ln -sf /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/
}

install bzip2 ca-certificates e2fsprogs git make nftables skopeo xz-utils zstd
if ! have_go 1.21.0; then
	install_go "$go_version"
fi
if [ "${1:-}" = --ci ]; then
	case $(dpkg --print-architecture) in
	arm64) install qemu-system-arm ;;
	*) install qemu-system-x86 ;;
	esac
	install shellcheck vagrant vagrant-libvirt
fi
say "everything is there: $(go version)"
