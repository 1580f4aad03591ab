#!/usr/bin/env bash
# Compiles the engine with CUDA, on a machine with or without a GPU: build.sh [check|build]. Prints where the program is.
# CUDA_COMPUTE_CAP is the oldest GPU that it runs on: 80 (default), 86 or 89; 90 and above run on that kind of GPU alone.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cap=${CUDA_COMPUTE_CAP:-80}
if [ "$cap" -lt 80 ]; then
  echo "CUDA_COMPUTE_CAP is $cap: mistral.rs 0.8.1 has no paged attention below 80 (its kernels want 8-bit floats)" >&2
  exit 1
fi
toolkit=$("$here/toolkit.sh")
export CUDA_COMPUTE_CAP=$cap
export CUDA_HOME=$toolkit CUDA_PATH=$toolkit CUDA_ROOT=$toolkit CUDA_TOOLKIT_ROOT_DIR=$toolkit
export PATH=$toolkit/bin:$PATH LIBRARY_PATH=$toolkit/lib:$toolkit/lib/stubs
if [ "$cap" -lt 90 ]; then
  # mistral.rs asks for the machine code of this one GPU. With PTX beside it, a newer GPU's driver makes its own.
  export NVCC_APPEND_FLAGS="-gencode=arch=compute_$cap,code=compute_$cap"
fi
# A directory of its own: with CUDA most of the engine's dependencies are compiled another way.
export CARGO_TARGET_DIR=${SOJOURN_CACHE:-$HOME/.cache/sojourn}/cuda/target-$cap
cargo "${1:-build}" --package sojourn-engine --bin sojourn-engine --features cuda >&2
echo "$CARGO_TARGET_DIR/debug/sojourn-engine"
