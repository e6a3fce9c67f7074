#!/usr/bin/env bash
# Makes a new Debian or Ubuntu machine ready for the stages: packages, Go, the image. Knows
# nothing of Vagrant; scripts in a cloud or on a spare machine can use it as well.
#
#   provision.sh [REPOSITORY]      as root; else it is the one that this script is in
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

scripts/setup.sh
scripts/image.sh
echo "provision: ready; try: cd $PWD && sudo go run ./ch05-overlayfs run -it busybox sh"
