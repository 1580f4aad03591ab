#!/usr/bin/env bash
# Puts NVIDIA's compiler and libraries into the cache and prints where they are. They come as Python packages, so neither a GPU
# nor a driver, root or an installer is needed. 1.2 GB.
set -euo pipefail
packages=(
  nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvrtc==13.0.88 nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14
)
here=$(cd "$(dirname "$0")" && pwd)
cache=${SOJOURN_CACHE:-$HOME/.cache/sojourn}/cuda
key=$(cat "$here/toolkit.sh" "$here/driver.c" | sha256sum | cut -c1-16)
root=$cache/toolkit-$key
toolkit=$root/nvidia/cu13
if [ -e "$root/.complete" ]; then echo "$toolkit"; exit 0; fi

[ "$(uname -m)" = x86_64 ] || { echo "the CUDA build is for x86-64; this machine is $(uname -m)" >&2; exit 1; }
for tool in python3 cc ar; do
  command -v "$tool" >/dev/null || { echo "make cuda needs '$tool': install it and run it again" >&2; exit 1; }
done
python3 -m pip --version >/dev/null 2>&1 || { echo "make cuda needs pip: install python3-pip and run it again" >&2; exit 1; }

mkdir -p "$cache"
rm -rf "$root" "$root.part"
# What another revision of this file fetched serves again.
old=$(find "$cache" -maxdepth 1 -name 'toolkit-*' ! -name '*.part' | head -n 1)
if [ -n "$old" ] && [ "$(cat "$old/.packages" 2>/dev/null)" = "${packages[*]}" ]; then
  mv "$old" "$root.part"
  rm -f "$root.part/.complete"
else
  echo "cuda: fetching the toolkit, 1.2 GB, into $root" >&2
  python3 -m pip install --disable-pip-version-check --root-user-action ignore --no-deps --no-compile \
    --target "$root.part" "${packages[@]}" >&2
  echo "${packages[*]}" > "$root.part/.packages"
fi

# The packages have the libraries under their full names alone; linkers look for shorter ones.
lib=$root.part/nvidia/cu13/lib
for library in "$lib"/*.so.*; do
  name=$(basename "$library")
  ln -sfn "$name" "$lib/${name%%.so.*}.so"
done
ln -sfn lib "$root.part/nvidia/cu13/lib64"

# The driver's library is where a GPU is and nowhere else: driver.c stands in for it.
mkdir -p "$lib/stubs"
grep -ohE '\bcu[A-Z][A-Za-z0-9]*(_v[0-9]+)?\b' "$root.part/nvidia/cu13/include/cuda.h" | sort -u | grep -vx cuInit |
  sed 's/.*/FUNCTION(&)/' > "$lib/stubs/driver-functions.h"
cc -O2 -fPIC -Wall -Werror -I "$lib/stubs" -c "$here/driver.c" -o "$lib/stubs/driver.o"
ar rcs "$lib/stubs/libcuda.a" "$lib/stubs/driver.o"

touch "$root.part/.complete"
mv "$root.part" "$root"
echo "$toolkit"
