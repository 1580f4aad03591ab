#!/usr/bin/env bash
# Prints the directory with the pinned prometheus and promtool; builds them into the cache where it lacks them.
set -euo pipefail
cache="${SOJOURN_CACHE:-$HOME/.cache/sojourn}"
version=v0.316.0   # the Go module's version of Prometheus 3.16
tools="$cache/bin/prometheus-$version"
if [ ! -d "$tools" ]; then
  command -v go > /dev/null || { echo "prometheus $version is not built and Go is missing: install Go 1.26 or newer" >&2; exit 1; }
  echo "building prometheus and promtool $version (minutes, once)" >&2
  new="$tools.$$"
  trap 'rm -rf "$new"' EXIT
  module=github.com/prometheus/prometheus
  # Without service discovery: its clients of every cloud are most of the build.
  GOBIN="$new" GOMODCACHE="$cache/go/mod" GOCACHE="$cache/go/build" CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false \
    go install -trimpath -tags remove_all_sd "$module/cmd/prometheus@$version" "$module/cmd/promtool@$version" >&2
  # Where another build was faster, its outcome is the same.
  mv -T "$new" "$tools" 2> /dev/null || [ -d "$tools" ]
fi
echo "$tools"
