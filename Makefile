# The tests and the demo use a real HAProxy, a real Consul and a real Prometheus;
# tests/servers.sh provides them.

CARGO ?= cargo
# The build directory of cargo.
BUILD = $(or $(CARGO_TARGET_DIR),target)/debug
# How the benchmark program and the programs under test are built. PROFILE=dev takes them as the tests build them: after the
# tests, nothing is left to build, where the release builds each crate and each program again with fat LTO. Such programs are
# slow, so it prints no ratios: it is for a check of the results. Those of a release are built last and alone: together with
# the benchmark they would get features that only tests need.
BENCH_dev = $(CARGO) test --locked --workspace --bench sync
BENCH_release = $(CARGO) bench --locked --bench sync
ALONE_dev = true
ALONE_release = $(CARGO) build --locked --release $(if $(filter one-change,$(CASE)),--bin weightd,--bins)
PROGRAMS_dev = debug
PROGRAMS_release = release
PROFILE ?= release
# The path of the benchmark program, from cargo's build messages.
BENCH = $(BENCH_$(PROFILE)) --no-run --message-format=json | \
	sed -n 's/.*"executable":"\([^"]*\/sync-[^"]*\)".*/\1/p'

.DEFAULT_GOAL := help
.PHONY: help servers browser test matrix demo compose-test bench lint coming deb package-test judge-sim rollout-test metrics-test \
	page-test

# The list of targets.
help:
	@echo 'make servers        provide haproxy, consul, prometheus and systemd-analyze at target/servers/bin/'
	@echo 'make browser        provide what page-test needs: a Chromium, and an accessibility engine where npm is there'
	@echo 'make test           run all tests; ARGS="..." goes to cargo test'
	@echo 'make matrix         run the integration tests on HAProxy 2.2, 2.6, 3.0 and 3.2'
	@echo 'make demo           run the demo; with KEEP=1 it runs until Ctrl-C; STORY=rollout shows rollouts, 4 min'
	@echo 'make compose-test   test docker-compose.yml; needs Docker'
	@echo 'make bench          run the benchmarks; CASE=micro or CASE=one-change ROUNDS=50 runs a part, JSON=1 prints JSON,'
	@echo '                    PROFILE=dev checks only the results, and prints no ratios'
	@echo 'make rollout-test   rollouts with real programs: each kind of failure, a crowd of healthy ones, leaders that die; 40 min'
	@echo 'make judge-sim      simulate rollouts and print how the judge decides; some minutes'
	@echo 'make metrics-test   ask a real Prometheus and a real VictoriaMetrics; needs Go'
	@echo 'make page-test      test the page of rolloutd in a real browser; pictures of it are in target/page;'
	@echo '                    QUICK=1 leaves out what takes minutes'
	@echo 'make coming         run docs/coming-from-consul-template.md with a real consul-template'
	@echo 'make deb            build the Debian packages, target/debian/weightd_*.deb and rolloutd_*.deb'
	@echo 'make package-test   install, upgrade, remove and purge the packages in a clean system; needs root'
	@echo 'make lint           check the format, clippy and the documentation'

# The programs that the tests and the demo start.
servers:
	@tests/servers.sh

# Most tests wait for other programs most of the time, so more tests than
# processors can run at once.
THREADS = RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) * 4))}

# All tests, or the tests that ARGS selects.
test: servers
	$(THREADS) $(CARGO) test --locked --workspace $(ARGS)

# Each supported version of HAProxy; RELEASES="bullseye sid" selects some.
matrix: servers
	$(CARGO) build --locked --bins --examples
	$(CARGO) test --locked --test it --no-run
	@$(THREADS) CARGO='$(CARGO)' tests/matrix.sh $(ARGS)

# The same profile as the tests: after the tests, there is little left to build.
demo: servers
	$(CARGO) build --locked --bins --example demo
	$(BUILD)/examples/demo $(if $(filter 1,$(KEEP)),--keep) $(if $(STORY),--story $(STORY))

# What `make page-test` needs: a browser, and where npm is there an accessibility engine from its registry.
AXE = 4.11
AXE_DIR = $(dir $(BUILD))axe
browser: servers
	@tests/browser.sh
	@if command -v npm >/dev/null && ! grep -qs '"version": "$(AXE)\.' $(AXE_DIR)/node_modules/axe-core/package.json; then \
		npm install --silent --no-audit --no-fund --ignore-scripts --prefix $(AXE_DIR) axe-core@$(AXE); fi

# Not part of `make test`, because it needs a browser. Without npm the test of the accessibility says so and checks nothing.
# QUICK=1 leaves out what takes minutes.
page-test: browser
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-2} $(CARGO) test --locked --workspace --test page $(ARGS) -- \
		--nocapture $(if $(QUICK),,--include-ignored)

# Not part of `make test`, because it needs Docker: see tests/compose/run.sh.
compose-test:
	@tests/compose/run.sh

# CASE=micro measures the pure parts, without servers. It runs first.
bench: $(if $(filter micro,$(CASE)),,servers)
ifeq ($(filter-out micro,$(CASE))$(JSON),)
	$(CARGO) bench --locked --bench micro
endif
ifneq ($(CASE),micro)
	@bench=$$($(BENCH)) && $(ALONE_$(PROFILE)) && \
		TEST_PROGRAMS='$(or $(CARGO_TARGET_DIR),target)/$(PROGRAMS_$(PROFILE))' $$bench
endif

# Runs docs/coming-from-consul-template.md completely. `make test` uses a fake consul-template, this target uses the
# real program. It is built from source, unless TEST_CONSUL_TEMPLATE names one.
CONSUL_TEMPLATE = github.com/hashicorp/consul-template@v0.41.4
coming: export GOBIN = $(abspath $(or $(CARGO_TARGET_DIR),target)/servers/bin)
coming: servers
	@command -v socat >/dev/null || { echo 'coming: needs socat' >&2; exit 1; }
	@[ -n "$$TEST_CONSUL_TEMPLATE" ] || [ -x "$$GOBIN/consul-template" ] || command -v go >/dev/null || \
		{ echo 'coming: needs Go to build consul-template, or TEST_CONSUL_TEMPLATE=/path/to/one' >&2; exit 1; }
	@[ -n "$$TEST_CONSUL_TEMPLATE" ] || [ -x "$$GOBIN/consul-template" ] || go install $(CONSUL_TEMPLATE)
	$(CARGO) test --locked --test it coming:: -- --include-ignored

# How often the judge takes back a healthy rollout and how fast it finds a bad one, beside the figures of its design.
# JUDGE_SIM_RUNS=100 and ROLLOUT_SIM_RUNS=100 are faster and less exact.
judge-sim:
	$(CARGO) test --locked --profile sim -p weightd-core simulated -- --ignored --nocapture --test-threads=2

# The named checks of rolloutd on both metrics systems. `make test` asks Prometheus only: VictoriaMetrics is built from
# source, unless TEST_VICTORIA_METRICS names one.
VICTORIA_METRICS = github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.148.9
metrics-test: export GOBIN = $(abspath $(or $(CARGO_TARGET_DIR),target)/servers/bin)
metrics-test: servers
	@[ -n "$$TEST_VICTORIA_METRICS" ] || [ -x "$$GOBIN/victoria-metrics" ] || command -v go >/dev/null || \
		{ echo 'metrics-test: needs Go to build VictoriaMetrics, or TEST_VICTORIA_METRICS=/path/to/one' >&2; exit 1; }
	@[ -n "$$TEST_VICTORIA_METRICS" ] || [ -x "$$GOBIN/victoria-metrics" ] || go install $(VICTORIA_METRICS)
	$(CARGO) test --locked --test it sources:: -- --include-ignored

# One at a time: the times are of a machine that does nothing else. ROLLOUT_BAKE=5m lets the crowd of healthy rollouts
# have the bakes of the plan `quick`: 28 minutes instead of 11.
rollout-test: servers
	RUST_TEST_THREADS=1 $(CARGO) test --locked --test it rollouts:: -- --ignored --nocapture

# The Debian packages.
deb:
	@CARGO='$(CARGO)' systemd/debian/build.sh

# The newest package of this name.
NEWEST = "$$(ls -t $(or $(CARGO_TARGET_DIR),target)/debian/$(1)_*.deb | head -n 1)"

# The lifecycle of the packages, and lintian.
package-test: deb servers
	tests/package/run.sh $(call NEWEST,weightd) $(call NEWEST,rolloutd)

# The checks that a change must pass besides the tests. The browser tests are no default target of cargo.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --test page --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --document-private-items
