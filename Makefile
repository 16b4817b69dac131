# The tests and the demo talk to a real HAProxy and a real Consul; see
# tests/servers.sh for where those come from.

CARGO ?= cargo
# Where cargo puts what it builds, as cargo itself is told.
BUILD = $(or $(CARGO_TARGET_DIR),target)/debug
# The program that the benchmark is, by what cargo says about building it.
BENCH = $(CARGO) bench --locked --bench sync --no-run --message-format=json | \
	sed -n 's/.*"executable":"\([^"]*\/sync-[^"]*\)".*/\1/p'

.DEFAULT_GOAL := help
.PHONY: help servers test matrix demo compose-test bench lint coming deb package-test

# What there is to make.
help:
	@echo 'make servers        have haproxy, consul and systemd-analyze at target/servers/bin/'
	@echo 'make test           run all tests; ARGS="..." goes to cargo test'
	@echo 'make matrix         run the integration tests on HAProxy 2.2, 2.6, 3.0 and 3.2'
	@echo 'make demo           run the demo; KEEP=1 leaves it running'
	@echo 'make compose-test   prove docker-compose.yml; needs Docker'
	@echo 'make bench          measure; CASE=micro, CASE=one-change ROUNDS=50 for less, JSON=1 for programs'
	@echo 'make coming         walk the page for those who come from consul-template, with the real one'
	@echo 'make deb            build the Debian package, target/debian/weightd_*.deb'
	@echo 'make package-test   install, upgrade, remove and purge it in a clean root; takes root'
	@echo 'make lint           formatting, clippy and the documentation'

# The programs the tests and the demo start.
servers:
	@tests/servers.sh

# Most tests wait for other programs most of the time, so that more of them than
# processors may run at once.
THREADS = RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) * 4))}

# All tests, or those that ARGS names.
test: servers
	$(THREADS) $(CARGO) test --locked --workspace $(ARGS)

# Each promised version of HAProxy; RELEASES="bullseye sid" takes some of them.
matrix: servers
	$(CARGO) build --locked --bins --examples
	$(CARGO) test --locked --test it --no-run
	@$(THREADS) CARGO='$(CARGO)' tests/matrix.sh $(ARGS)

# The same profile as the tests, so that little is left to build after them.
demo: servers
	$(CARGO) build --locked --bins --example demo
	$(BUILD)/examples/demo $(if $(filter 1,$(KEEP)),--keep)

# Not among the tests, because of what it needs: see tests/compose/run.sh.
compose-test:
	@tests/compose/run.sh

# weightd is built last, as it is shipped: beside the benchmark it would get features that only tests need. CASE=micro is
# what the pure parts take, without servers; it comes first where all cases run.
bench: $(if $(filter micro,$(CASE)),,servers)
ifeq ($(filter-out micro,$(CASE))$(JSON),)
	$(CARGO) bench --locked --bench micro
endif
ifneq ($(CASE),micro)
	@bench=$$($(BENCH)) && $(CARGO) build --locked --release --bins && $$bench
endif

# docs/coming-from-consul-template.md from its first line to its last: `make test` has something in place of
# consul-template, this has the real one. It is built from source, unless TEST_CONSUL_TEMPLATE names one.
CONSUL_TEMPLATE = github.com/hashicorp/consul-template@v0.41.4
coming: export GOBIN = $(abspath $(or $(CARGO_TARGET_DIR),target)/servers/bin)
coming: servers
	@command -v socat >/dev/null || { echo 'coming: needs socat' >&2; exit 1; }
	@[ -n "$$TEST_CONSUL_TEMPLATE" ] || [ -x "$$GOBIN/consul-template" ] || command -v go >/dev/null || \
		{ echo 'coming: needs Go to build consul-template, or TEST_CONSUL_TEMPLATE=/path/to/one' >&2; exit 1; }
	@[ -n "$$TEST_CONSUL_TEMPLATE" ] || [ -x "$$GOBIN/consul-template" ] || go install $(CONSUL_TEMPLATE)
	$(CARGO) test --locked --test it coming:: -- --include-ignored

# The Debian package.
deb:
	@CARGO='$(CARGO)' systemd/debian/build.sh

# The package's whole life, and what lintian says about it.
package-test: deb servers
	tests/package/run.sh "$$(ls -t $(or $(CARGO_TARGET_DIR),target)/debian/weightd_*.deb | head -n 1)"

# What a change has to pass besides the tests.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked --document-private-items
