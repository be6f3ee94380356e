# narrowgate. `make demo` shows the main job, `make test` runs every test; both install what is missing (as root, on Debian).

CARGO ?= cargo
BIN := $(abspath $(or $(CARGO_TARGET_DIR),target)/release)
# What OpenWrt's package is built with (packaging/openwrt): the network is netifd's there, and no other provider is needed.
ROUTER := --no-default-features --features netifd

.PHONY: all demo test lint build deps fuzz simulate bench bench-dns bench-marking bench-uplink soak sizes cross install clean

all: build

## demo: boot a node in the laboratory, print what happens and the leak count
demo: deps build
	NARROWGATE_BIN_DIR=$(BIN) $(BIN)/narrowgate-lab demo

## test: formatting, clippy, every test
test: deps lint build
	NARROWGATE_BIN_DIR=$(BIN) ./packaging/tests/run
	NARROWGATE_BIN_DIR=$(BIN) $(CARGO) nextest run --workspace

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p narrowgate $(ROUTER) -- -D warnings

build:
	$(CARGO) build --release --workspace

## deps: what the laboratory and the tests run, from Debian's packages; and cargo-nextest
deps:
	@./packaging/debian-deps

## bench: everything that is measured; prints ratios against peers of the same run
bench: bench-dns bench-marking bench-uplink

bench-dns bench-marking bench-uplink: deps build
	@./bench/$(@:bench-%=%)/run

## fuzz: each fuzz target for FUZZ_SECONDS (default 30)
FUZZ_SECONDS ?= 30
fuzz:
	@./fuzz/run $(FUZZ_SECONDS)

## simulate: the forwarder in its simulated network, so many packets; `make simulate SIMULATE_SEED=...` does it again
SIMULATE_PACKETS ?= 5000000
simulate:
	SIMULATE_PACKETS=$(SIMULATE_PACKETS) $(CARGO) nextest run --cargo-profile simulate -p narrowgate-forwarder --no-capture \
		--test engine all_is_well_whatever_happens_for_long

## soak: a thousand flaps of the cable, from 10 ms to 10 s: half an hour
soak: deps build
	NARROWGATE_BIN_DIR=$(BIN) $(CARGO) test -p narrowgate-lab --test e2e -- --ignored --exact --nocapture flaps::a_thousand_flaps_of_all_lengths_leave_nothing_behind

## sizes: bytes of what is shipped, and whether they are within the promised
sizes: deps build
	@ROUTER='$(ROUTER)' ./packaging/sizes

## cross: builds for other machines, and runs the pure rooms' tests there, under qemu-user
CROSS ?= powerpc-unknown-linux-gnu aarch64-unknown-linux-gnu
cross: deps
	./packaging/cross/run $(CROSS)

PREFIX ?= /usr
DESTDIR ?=
install: build
	install -Dm755 $(BIN)/narrowgate $(DESTDIR)$(PREFIX)/sbin/narrowgate
	install -Dm644 $(BIN)/libpacketmark.so $(DESTDIR)$(PREFIX)/lib/libpacketmark.so
	install -Dm644 packaging/systemd/narrowgate.service $(DESTDIR)$(PREFIX)/lib/systemd/system/narrowgate.service
	install -Dm755 -t $(DESTDIR)$(PREFIX)/share/doc/narrowgate/examples packaging/hooks/*
	for page in docs/man/*.[1-8]; do \
		install -Dm644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done

clean:
	$(CARGO) clean
