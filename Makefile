# Everything here is one command; `make` alone lists them.

CARGO ?= cargo

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## one process, a private Postgres with sample data, a writer; shows the events (Ctrl-C ends it)
	@deploy/demo.sh

.PHONY: cluster
cluster: ## NATS, replicator, policy and two gateways on this machine (Ctrl-C ends it)
	@deploy/cluster.sh

# One build of everything that is tested, so that the tests find the programs that they start.
.PHONY: test
test: ## every test, with real Postgres and NATS
	deploy/install.sh test
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace --no-fail-fast

.PHONY: conformance
conformance: ## the WebSocket cases of RFC 6455 and RFC 7692 against a running gateway, each by its section, with a report
	deploy/install.sh demo
	$(CARGO) build -p reactor-cli --bins
	$(CARGO) test -q -p reactor-cli --test conformance

.PHONY: check
check: fmt clippy doc tidy deny ## formatting, lints, documentation, house rules

.PHONY: fmt
fmt:
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: doc
doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

.PHONY: tidy
tidy:
	deploy/tidy.sh

# The licences and sources of the dependencies, where cargo-deny is installed.
.PHONY: deny
deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check licenses bans sources; \
	else echo "cargo-deny is not installed: licences and sources are not checked"; fi

.PHONY: bench
bench: ## ingest, latency, fan-out, idle connections and row policies, beside the limits of this machine; a JSON line each and a table
	deploy/install.sh test
	$(CARGO) build --release --workspace --bins
	$(CARGO) run --release -q -p reactor-loadtest -- bench

.PHONY: loadtest
loadtest: ## the load harness; ARGS="..." are its arguments
	$(CARGO) run --release -q -p reactor-loadtest -- $(ARGS)

.PHONY: docs
docs: ## writes the generated pages of docs/ anew
	$(CARGO) run -q -p reactor-cli -- docs
