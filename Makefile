# gate-agent. "make help" lists what there is.

GO       ?= go
# By count: a fuzz run that ends by time can report its own deadline as a failure.
FUZZTIME ?= 20000x

# Debian packages, each with its reason in docs/dependencies.md.
BUILD_PACKAGES = gcc libc6-dev libpcsclite-dev pkg-config
TEST_PACKAGES  = $(BUILD_PACKAGES) nginx opensc opensc-pkcs11 openssl p11-kit p11-kit-modules pcscd postgresql softhsm2 strace swtpm vsmartcard-vpcd
ARM64_PACKAGES = gcc-aarch64-linux-gnu libc6-dev-arm64-cross libpcsclite-dev:arm64 pkg-config
ARMHF_PACKAGES = gcc-arm-linux-gnueabihf libc6-dev-armhf-cross libpcsclite-dev:armhf pkg-config

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: deps-build ## people of every sort come to two virtual gates (the main job)
	$(GO) run ./cmd/gate-sim demo

.PHONY: build
build: deps-build ## bin/gate-agent, bin/gate-hub and bin/gate-sim
	$(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: test
test: deps ## gofmt, vet and every test (some minutes)
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these files: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) test ./...

.PHONY: bench
bench: deps ## benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: ci
ci: race fuzz adversaries afternoon crash-gate venue fleet bench-once arm ## longer proofs, bounded: what .ci/run runs after test

# One package at a time: the detector is slow, and the readers' deadlines are
# real. internal/e2e tests programs, which it does not see into.
.PHONY: race
race: deps ## the tests under the race detector
	$(GO) test -race -p 1 $$($(GO) list ./... | grep -v /internal/e2e)

.PHONY: fuzz
fuzz: deps ## every fuzz target for FUZZTIME (default 20000x, runs) each
	@for package in $$($(GO) list ./...); do \
		targets=$$($(GO) test -list '^Fuzz' $$package) || exit 1; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "fuzzing $$package $$target for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$package || exit 1; \
		done; \
	done

.PHONY: adversaries
adversaries: deps-build ## lying cards come to a gate (docs/adversaries.md)
	$(GO) run ./cmd/gate-sim adversaries

.PHONY: afternoon
afternoon: deps-build ## 20000 people come in and out at four gates, and everything is counted twice
	$(GO) run ./cmd/gate-sim afternoon

.PHONY: crash-gate
crash-gate: deps-build ## a gate is killed at every state, and people try again
	$(GO) run ./cmd/gate-sim crash-gate

.PHONY: venue
venue: deps-build ## people try shared tickets at many gates, while connections and the hub fail
	$(GO) run ./cmd/gate-sim venue --gates 8 --tickets 100 --flaky

.PHONY: fleet
fleet: deps-build ## 10000 terminals ask one hub for its manifest
	$(GO) run ./cmd/gate-sim fleet

.PHONY: bench-once
bench-once: deps ## every benchmark once: that they run, not how fast
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

.PHONY: arm
arm: build-arm64 build-armhf ## both ARM builds, checked, and started under emulation
	@packaging/need.sh binutils qemu-user-static
	@readelf --file-header dist/gate-agent-arm64 | grep -q 'Machine: *AArch64'
	@readelf --file-header --arch-specific dist/gate-agent-armhf | tr '\n' ' ' | grep -q 'Class: *ELF32.*Machine: *ARM .*hard-float ABI.*Tag_CPU_arch: v7'
	qemu-aarch64-static dist/gate-agent-arm64 version
	qemu-arm-static dist/gate-agent-armhf version


# The agent needs cgo (PC/SC, SQLite): Debian's cross compilers, and the PC/SC
# library of the terminal's architecture.
.PHONY: build-arm64
build-arm64: ## dist/gate-agent-arm64, for 64-bit ARM Debian
	@packaging/need.sh --arch arm64 $(ARM64_PACKAGES)
	CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig \
		$(GO) build -trimpath -ldflags='-s -w' -o dist/gate-agent-arm64 ./cmd/gate-agent
	@ls -l dist/gate-agent-arm64 | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

.PHONY: build-armhf
build-armhf: ## dist/gate-agent-armhf, for 32-bit ARM Debian (ARMv7)
	@packaging/need.sh --arch armhf $(ARMHF_PACKAGES)
	CGO_ENABLED=1 GOARCH=arm GOARM=7 CC=arm-linux-gnueabihf-gcc PKG_CONFIG_LIBDIR=/usr/lib/arm-linux-gnueabihf/pkgconfig \
		$(GO) build -trimpath -ldflags='-s -w' -o dist/gate-agent-armhf ./cmd/gate-agent
	@ls -l dist/gate-agent-armhf | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

.PHONY: deps-build
deps-build: go ## Debian packages to build and to run the demo
	@packaging/need.sh $(BUILD_PACKAGES)

.PHONY: deps
deps: go ## Debian packages to build and to test
	@packaging/need.sh $(TEST_PACKAGES)

.PHONY: deps-cross
deps-cross: go ## Debian packages to build for ARM
	@packaging/need.sh --arch arm64 --arch armhf $(ARM64_PACKAGES) $(ARMHF_PACKAGES)

.PHONY: go
go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is needed: https://go.dev/dl/"; exit 1; }

.PHONY: clean
clean: ## remove bin and dist
	rm -rf bin dist
