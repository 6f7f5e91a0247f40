# The few things a person does with a checkout. Each target installs what it needs and is missing.

.PHONY: build install uninstall run test lab bench fuzz deny

build:
	cargo build --release --locked -p portcullis-cli

# Puts what was built, its manual page, completions and unit file below PREFIX; as root, after `make`. DESTDIR goes before every path,
# for packages. Builds nothing: root often has no Rust.
PREFIX ?= /usr/local
install uninstall:
	@PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' packaging/install.sh $@

# The firewall in observe mode, in the foreground, writing only below target/run. CONFIG=file names a policy.
run:
	@packaging/deps.sh run
	@$(MAKE) --no-print-directory build
	@packaging/run.sh

# Every check and test. The last line counts them.
test:
	@packaging/deps.sh test
	@packaging/test.sh

# A demonstration in network namespaces: an allowed and a blocked connection, and why. Needs root.
lab:
	@packaging/deps.sh lab
	@$(MAKE) --no-print-directory build
	cargo build --release --locked -p xtask
	@cargo run --quiet --release --locked -p xtask -- lab

# Measurements beside peers, live in network namespaces (as root) and offline; a table of figures and targets at the end.
bench:
	@packaging/deps.sh bench
	@$(MAKE) --no-print-directory build
	cargo build --release --locked -p xtask
	@cargo run --quiet --release --locked -p xtask -- bench all

# A minute for each fuzz target. Needs a nightly toolchain and cargo-fuzz.
FUZZ_SECONDS ?= 60
fuzz:
	@cd fuzz && for target in $$(cargo +nightly fuzz list); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

# Licences, advisories and sources of what is depended on. Needs cargo-deny.
deny:
	@cargo deny --locked check
