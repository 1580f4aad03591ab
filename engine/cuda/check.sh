#!/usr/bin/env bash
# Checks the program of `make cuda` on a machine without an NVIDIA driver: which libraries it needs, and what it says without one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$1
toolkit=$("$here/toolkit.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "cuda: FAILED: $*" >&2; exit 1; }
for tool in readelf ldconfig cc unshare; do command -v "$tool" >/dev/null || fail "the check needs '$tool': install it"; done
if ldconfig -p | grep -q libcuda.so.1; then fail "this machine has an NVIDIA driver; the check is for one without"; fi

# The driver's library is not among them: the program has to start where it is not, to say so.
needed=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | xargs)
expected="ld-linux-x86-64.so.2 libc.so.6 libcublas.so.13 libcublasLt.so.13 libcudart.so.13 libcurand.so.10 libgcc_s.so.1 libm.so.6 libstdc++.so.6"
for library in $needed; do
  case " $expected " in *" $library "*) ;; *) fail "it needs $library, which is not one of: $expected" ;; esac
done
for library in libcublas.so.13 libcudart.so.13 libcurand.so.10; do
  case " $needed " in *" $library "*) ;; *) fail "it does not need $library: it has no CUDA in it" ;; esac
done
echo "cuda: it needs $needed"

# Without the CUDA libraries the loader ends it, and names the one that is missing.
code=0; said=$("$program" --version 2>&1) || code=$?
[ "$code" = 127 ] && grep -q "cannot open shared object file" <<< "$said" || fail "without CUDA libraries: exit code $code, $said"
export LD_LIBRARY_PATH=$toolkit/lib
"$program" --version > /dev/null || fail "it does not start with the CUDA libraries and without a driver"

# ends CODE REASON WORDS ARGUMENT... : it ends so, with a sentence, one JSON line where Kubernetes reads it, and no backtrace.
ends() {
  local code=$1 reason=$2 words=$3 ended=0; shift 3
  : > "$work/termination-log"
  # In a /dev of its own, with a file where Kubernetes reads why a container ended.
  RUST_BACKTRACE=1 unshare --mount --map-root-user bash -c '
    set -e
    mkdir -p "$0/dev" && mount --rbind /dev "$0/dev" && mount -t tmpfs none /dev
    for node in null zero random urandom; do touch /dev/$node && mount --bind "$0/dev/$node" /dev/$node; done
    touch /dev/termination-log && mount --bind "$0/termination-log" /dev/termination-log
    exec "$@"' "$work" "$program" "$@" > "$work/said" 2>&1 || ended=$?
  [ "$ended" = "$code" ] || fail "'$*' ended with $ended, not $code: $(cat "$work/said")"
  grep -q "$words" "$work/said" || fail "'$*' does not say '$words': $(cat "$work/said")"
  ! grep -Eqi 'panicked|backtrace|stack' "$work/said" || fail "'$*' shows a backtrace: $(cat "$work/said")"
  grep -q "^{\"reason\":\"$reason\",\"message\":\".*$words" "$work/termination-log" ||
    fail "'$*' leaves as termination message: $(cat "$work/termination-log")"
  echo "cuda: ${*: -1} -> $ended $(cat "$work/termination-log")"
}
touch "$work/model.gguf"
# Told nothing, this build takes the GPU; without a driver it says so, before it looks for the model.
ends 69 DeviceUnavailable "there is no NVIDIA driver here: libcuda.so.1 cannot be loaded" serve "$work/model.gguf"
ends 69 DeviceUnavailable "there is no NVIDIA driver here" serve /nowhere/model.gguf --device cuda
# The CPU is still there.
ends 66 ModelNotFound "/nowhere/model.gguf" serve /nowhere/model.gguf --device cpu

# A driver that has no GPU, as cuInit says it.
echo 'int cuInit(unsigned flags) { return 100; }
      int cuGetErrorString(int error, const char **text) { *text = error == 100 ? "no CUDA-capable device is detected" : "?"; return 0; }' |
  cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so.1" -x c -
LD_LIBRARY_PATH=$toolkit/lib:$work ends 69 DeviceUnavailable "no CUDA-capable device is detected" serve "$work/model.gguf"
echo "cuda: the program says what it lacks"
