#!/usr/bin/env bash
# Checks the engine on this machine's NVIDIA GPU and prints one table; run.sh --help lists the flags. It needs the driver (580 or
# newer) and the CUDA 13 libraries cudart, cublas, cublasLt and curand; CUDA_LIBRARIES names their directory where it is not found.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export SOJOURN_ENGINE=$here/sojourn-engine
found=${CUDA_LIBRARIES:-}
for directory in /usr/local/cuda-13*/lib64 /usr/local/cuda/lib64 /usr/local/lib/python3*/{site,dist}-packages/nvidia/cu13/lib; do
  if [ -z "$found" ] && [ -e "$directory/libcublas.so.13" ]; then found=$directory; fi
done
export LD_LIBRARY_PATH=$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
"$SOJOURN_ENGINE" --version || {
  echo "the CUDA 13 libraries are not found: set CUDA_LIBRARIES to the directory of libcublas.so.13" >&2
  exit 1
}
if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; fi
exec "$here/gpu_check" "$@"
