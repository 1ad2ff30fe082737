#!/bin/sh
# Installs the build of torch for a device, in the version that is tested.
#
#     install_torch.sh cpu|cuda [INDEX]
set -eu

device=$1
index=${2:-}
pip=${PIP:-/opt/dna-pipeline/bin/pip}
version=$(sed -n 's/^torch==//p' constraints.txt)

set -- install -c constraints.txt
[ -z "$index" ] || set -- "$@" --extra-index-url "$index"

case $device in
cuda)
  # The usual build for Linux brings CUDA.
  exec "$pip" "$@" "torch==$version"
  ;;
cpu)
  # Not every index has the small build.
  "$pip" "$@" "torch==$version+cpu" && exit 0
  echo "no CPU build of torch here: taking the usual one, which brings gigabytes of CUDA" >&2
  exec "$pip" "$@" "torch==$version"
  ;;
*)
  echo "DEVICE=$device: it is cpu or cuda" >&2
  exit 2
  ;;
esac
