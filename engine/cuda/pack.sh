#!/usr/bin/env bash
# Packs what a machine with an NVIDIA GPU and no network needs to check the engine: pack.sh ENGINE PROGRAMS prints the package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
engine=$1 programs=$2
most=$((60 * 1000 * 1000))
out=${SOJOURN_CACHE:-$HOME/.cache/sojourn}/cuda
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for tool in tar xz strip; do
  command -v "$tool" >/dev/null || { echo "make gpu-check needs '$tool': install it and run it again" >&2; exit 1; }
done
mkdir -p "$work/gpu-check"
cp "$engine" "$programs/gpu_check" "$programs/sojourn-models" "$work/gpu-check/"
strip "$work"/gpu-check/{sojourn-engine,gpu_check,sojourn-models}
cp "$here/gpu-check.sh" "$work/gpu-check/run.sh"
tar --create --directory "$work" gpu-check | xz -6 --threads=0 > "$out/gpu-check.tar.xz.part"
mv "$out/gpu-check.tar.xz.part" "$out/gpu-check.tar.xz"
size=$(stat --format=%s "$out/gpu-check.tar.xz")
[ "$size" -lt "$most" ] || { echo "$out/gpu-check.tar.xz has $size bytes, more than $most" >&2; exit 1; }
echo "gpu-check: $((size / 1000000)) MB; on the machine with the GPU: tar xf gpu-check.tar.xz && gpu-check/run.sh" >&2
echo "$out/gpu-check.tar.xz"
