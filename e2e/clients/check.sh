#!/usr/bin/env bash
# Installs the official OpenAI clients outside the checkout and lets them talk to an engine with the scripted model.
# Usage: check.sh ENGINE
set -euo pipefail
engine=$1
here=$(cd "$(dirname "$0")" && pwd)
cache=${SOJOURN_CACHE:-$HOME/.cache/sojourn}/clients
for program in python3 node npm curl; do
  command -v "$program" > /dev/null || { echo "clients: $program is missing; install it (Debian: python3-venv, nodejs, npm, curl)"; exit 1; }
done

echo "clients: installing the official clients into $cache"
mkdir -p "$cache/javascript"
[ -x "$cache/python/bin/python" ] || python3 -m venv "$cache/python"
"$cache/python/bin/pip" install --quiet --requirement "$here/python/requirements.txt"
cp "$here"/javascript/{package.json,package-lock.json,check.mjs} "$cache/javascript/"
npm ci --silent --no-audit --no-fund --prefix "$cache/javascript"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$engine" serve scripted: --host 127.0.0.1 --port "$port" --admin-port 0 --enable-journey-tracing --tool-call-parser hermes \
  2> "$cache/engine.log" &
trap 'kill $!' EXIT
for _ in $(seq 100); do
  curl --silent --fail "http://127.0.0.1:$port/ready" > /dev/null && break
  kill -0 $! || { cat "$cache/engine.log"; exit 1; }
  sleep 0.1
done
export BASE_URL="http://127.0.0.1:$port/v1"
"$cache/python/bin/python" "$here/python/check.py"
node "$cache/javascript/check.mjs"
