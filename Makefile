# Everything starts here; each target sets up what it needs. As root on Debian or Ubuntu that includes a Docker
# engine; anywhere else, an engine that answers is enough.

PREFIX ?= /usr/local
LAB := tests/lab/lab

.PHONY: demo demo-down test soak bench lint install deb book

demo: target/release/lifeboat ## back up the ProcGenie stack, lose a table, bring it back
	LIFEBOAT=$(CURDIR)/target/release/lifeboat tests/lab/demo

demo-down: ## remove what the demo made
	tests/lab/demo down

test: .toolchain ## set the lab up and run every test
	$(LAB) up
	$(LAB) programs
	$(LAB) stores
	eval "$$($(LAB) env)" && tests/run

soak: .toolchain ## the same tests with bigger numbers
	$(LAB) up
	$(LAB) programs
	$(LAB) stores
	eval "$$($(LAB) env)" && LIFEBOAT_SOAK=1 PROPTEST_CASES=20000 tests/run

bench: target/release/lifeboat ## measure; one workload with W=dump
	$(LAB) up
	$(LAB) stores
	eval "$$($(LAB) env)" && tests/bench/run $(W)

lint: .toolchain
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

install: target/release/lifeboat ## program, man pages, completions, units, examples; DESTDIR and PREFIX as usual
	packaging/install target/release/lifeboat "$(DESTDIR)" "$(PREFIX)"

deb: target/release/lifeboat ## a Debian package in target/debian; needs cargo-deb
	packaging/generate target/release/lifeboat target/package
	cargo deb --no-build --locked

book: ## the documentation as a book in target/book/html; needs mdBook
	docs/build

.PHONY: target/release/lifeboat .toolchain
target/release/lifeboat: .toolchain
	cargo build --release --locked --bin lifeboat

.toolchain:
	@command -v cc >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq gcc libc6-dev; }
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2; exit 1; }
