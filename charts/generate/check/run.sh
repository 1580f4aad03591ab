#!/usr/bin/env bash
# Holds the generated dashboards against Grafana's schema and the grammars of their queries, and tests the alerts with promtool.
set -euo pipefail
cd "$(dirname "$0")"
cache="${SOJOURN_CACHE:-$HOME/.cache/sojourn}"
prometheus=v0.316.0   # the Go module's version of Prometheus 3.16

for program in node npm; do
  command -v "$program" > /dev/null || { echo "$program is missing: install Node 20 or newer" >&2; exit 1; }
done
npm ci --ignore-scripts --no-audit --no-fund --silent
npm run --silent check

promtool="$(command -v promtool || true)"
if [ -z "$promtool" ]; then
  promtool="$cache/bin/promtool-$prometheus/promtool"
  if [ ! -x "$promtool" ]; then
    command -v go > /dev/null || { echo "promtool is missing: install Prometheus, or Go to build it" >&2; exit 1; }
    echo "building promtool $prometheus, once"
    # Without service discovery: its clients of every cloud are most of the build.
    GOBIN="$cache/bin/promtool-$prometheus.new" go install -tags remove_all_sd "github.com/prometheus/prometheus/cmd/promtool@$prometheus"
    mv "$cache/bin/promtool-$prometheus.new" "$cache/bin/promtool-$prometheus"
  fi
fi
mkdir -p generated
sed -e 's/FIRST_TOKEN_SECONDS/2.5/g; s/FIRST_TOKEN_BUDGET/0.01/g' ../../sojourn/files/alerts.yaml > generated/alerts.yaml
"$promtool" check rules generated/alerts.yaml
"$promtool" test rules alerts_test.yaml
