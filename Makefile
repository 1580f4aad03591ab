# The only task list. `make` prints it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug
BUILDER := $(or $(shell command -v docker),$(shell command -v buildah))
TAG := dev
SCENARIOS := \
  sandbox_recovers \
  sandbox_works \
  rules \
  sampling \
  quick_start \
  preempts_the_model \
  traces_a_request_end_to_end \
  keeps_errors_and_drops_the_rest_at_rate_zero \
  serves_while_the_collector_is_broken \
  changes_tracing_without_a_restart \
  loses_nothing_when_a_pod_goes \
  names_the_one_broken_pod_of_five \
  reports_why_it_is_not_ready \
  asks_for_a_gpu \
  deletes_cleanly
# Tests that a target of their own runs.
APART := pod dashboards shows_traces_in_zipkin

.PHONY: help
help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{ printf "  make %-15s %s\n", $$1, $$2 }'

# === what users run ===

.PHONY: demo
demo: build model ## The whole product once through, on a sandbox cluster that stays up
	@$(BIN)/demo

.PHONY: test
test: lint unit scenarios ## All tests: style, unit, golden, and the scenarios on the sandbox cluster

.PHONY: test-full
test-full: test journeys paged clients page dashboards panels pod losses zipkin-page ## All of `make test`, and what takes longer or needs Node, Chromium, Java or Prometheus

.PHONY: down
down: ## Remove the sandbox cluster; what was built stays cached
	@if [ -x $(BIN)/sandbox ]; then $(BIN)/sandbox down; else echo "no sandbox was ever built here"; fi

.PHONY: bench
bench: build model ## Measure what tracing costs and how fast the engine is; writes docs/benchmarks.md (half an hour; BENCH=--quick tries it)
	@$(BIN)/bench $(BENCH)

.PHONY: bench-cluster
bench-cluster: up ## Measure edits of a running service, and a thousand services; writes docs/benchmarks-cluster.md (a quarter of an hour)
	@$(BIN)/bench --cluster $(BENCH)

.PHONY: soak
soak: build model ## Random clients for ten minutes, then nothing may be stuck, lost, illegal or growing (SOAK="--minutes 60"); then a long outage, and losses
	@$(BIN)/soak $(SOAK)
	@$(MAKE) --no-print-directory outage losses

.PHONY: cuda
cuda: prepare ## The engine for NVIDIA GPUs, on a machine with or without one (a quarter of an hour; CUDA_COMPUTE_CAP, default 80)
	@program=$$(engine/cuda/build.sh) && engine/cuda/check.sh "$$program"

.PHONY: gpu-check
gpu-check: build ## Pack what a machine with an NVIDIA GPU needs to check that engine, speed and tracing, in a few minutes
	@program=$$(engine/cuda/build.sh) && engine/cuda/pack.sh "$$program" $(BIN)

# === parts of them ===

.PHONY: prepare
prepare: ## Put the patched mistralrs-core into vendor/; cargo needs it
	@engine/mistralrs/prepare.sh

.PHONY: build
build: prepare ## Compile everything
	cargo build --bins

.PHONY: lint
lint: prepare ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo clippy --quiet $(patsubst %,--test %,$(SCENARIOS) $(APART)) -- -D warnings

.PHONY: unit
unit: prepare ## Tests that need no root and no cluster
	cargo test

.PHONY: journeys
journeys: prepare ## 100,000 random journeys through the engine, each one checked (SOJOURN_SEED repeats a run)
	SOJOURN_JOURNEYS=100000 cargo test --test journeys -- --nocapture

.PHONY: paged
paged: prepare ## A million random steps on paged memory, each one checked
	cargo test --lib a_million_steps -- --ignored

.PHONY: clients
clients: build ## The official OpenAI clients for Python and JavaScript against the engine
	e2e/clients/check.sh $(BIN)/sojourn-engine

.PHONY: page
page: prepare ## The journeys page in a real browser (Chromium)
	cargo test --test journeys_page

.PHONY: model
model: build ## Make the test model
	@$(BIN)/sojourn-models smollm > /dev/null

.PHONY: up
up: build model ## Bring the sandbox cluster up, with our images and the operator in it
	@$(BIN)/sandbox up
	@$(BIN)/sandbox images
	@$(BIN)/sandbox install

.PHONY: scenarios
scenarios: up ## Run the scenarios on the sandbox cluster
	KUBECONFIG=$$($(BIN)/sandbox kubeconfig) SOJOURN_OTELCOL=$$($(BIN)/sandbox collector) \
	  cargo test $(SCENARIOS:%=--test %) -- --test-threads=1
	SOJOURN_OTELCOL=$$($(BIN)/sandbox collector) cargo test --test pod -- --test-threads=4

.PHONY: outage
outage: up ## A destination that is away for two minutes misses nothing
	SOJOURN_OTELCOL=$$($(BIN)/sandbox collector) SOJOURN_OUTAGE_SECONDS=120 \
	  cargo test --test pod -- --ignored one_that_is_away_for_long

.PHONY: losses
losses: up ## Delete ten pods in the middle of their work, one after another: nothing may be lost
	SOJOURN_ROUNDS=10 cargo test --test loses_nothing_when_a_pod_goes

.PHONY: zipkin
zipkin: up ## Run Zipkin beside the sandbox cluster, to look at traces in a browser (Maven, Java 17)
	@$(BIN)/sandbox zipkin

.PHONY: zipkin-page
zipkin-page: up ## An older collector into Zipkin, and Zipkin's page in a real browser (Maven, Java 17, Chromium)
	cargo test --test shows_traces_in_zipkin

.PHONY: pod
pod: build ## A pod without a cluster, and every trouble that its telemetry can have; the sandbox must be up, for its collector
	SOJOURN_OTELCOL=$$($(BIN)/sandbox collector) cargo test --test pod -- --test-threads=4 --include-ignored

.PHONY: dashboards
dashboards: ## Hold dashboards and alerts against Grafana's schema, the queries' grammars, and promtool
	charts/generate/check/run.sh

.PHONY: panels
panels: up ## Every query of the dashboards on a real Prometheus and collector, against a run whose numbers are known
	SOJOURN_OTELCOL=$$($(BIN)/sandbox collector) SOJOURN_PROMETHEUS=$$(charts/generate/check/prometheus.sh)/prometheus \
	  cargo test --test dashboards

.PHONY: dashboards-live
dashboards-live: build ## Import the dashboards into your Grafana, ask what they ask, and find a journey in your Tempo (GRAFANA_URL, TEMPO_URL)
	@$(BIN)/dashboards-live

.PHONY: status
status: build ## Say what runs of the sandbox
	@$(BIN)/sandbox status

.PHONY: images
images: ## Build and push our images, for a cluster of your own: make images REGISTRY=registry.example.com/sojourn [CUDA=1]
	@test -n "$(REGISTRY)" || { echo "say where they go: make images REGISTRY=registry.example.com/sojourn"; exit 1; }
	@test -n "$(BUILDER)" || { echo "install docker or buildah"; exit 1; }
	$(BUILDER) build --file operator/Dockerfile --tag $(REGISTRY)/operator:$(TAG) .
	$(BUILDER) build --file engine/Dockerfile --tag $(REGISTRY)/engine:$(TAG) .
	$(BUILDER) build --file engine/sidecar/Dockerfile --tag $(REGISTRY)/sidecar:$(TAG) .
	$(if $(CUDA),$(BUILDER) build --file engine/cuda/Dockerfile --tag $(REGISTRY)/engine-cuda:$(TAG) .)
	for image in operator engine sidecar $(if $(CUDA),engine-cuda); do $(BUILDER) push $(REGISTRY)/$$image:$(TAG) || exit 1; done

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: golden
golden: prepare ## Rewrite generated and golden files
	UPDATE_GOLDEN=1 cargo test --workspace

.PHONY: deny
deny: ## Check bans, licences and sources with cargo-deny
	cargo deny check bans licenses sources
