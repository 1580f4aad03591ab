#!/usr/bin/env bash
# Holds the generated dashboards against Grafana's schema and the grammars of their queries, and tests the alerts with promtool.
set -euo pipefail
cd "$(dirname "$0")"

for program in node npm; do
  command -v "$program" > /dev/null || { echo "$program is missing: install Node 20 or newer" >&2; exit 1; }
done
npm ci --ignore-scripts --no-audit --no-fund --silent
npm run --silent check

promtool="$(./prometheus.sh)/promtool"
mkdir -p generated
sed -e 's/FIRST_TOKEN_SECONDS/2.5/g; s/FIRST_TOKEN_BUDGET/0.01/g' ../../sojourn/files/alerts.yaml > generated/alerts.yaml
"$promtool" check rules generated/alerts.yaml
"$promtool" test rules alerts_test.yaml
