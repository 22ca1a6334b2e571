# Mooring's house-keeping. `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# Debian keeps dockerd, mkfs and losetup where an ordinary user's PATH does not look. The registry that tests ask is unpacked by `make setup`.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(CURDIR)/.cache/docker-registry

GO        ?= go
GOLANGCI  := $(GO) tool -modfile=tools.mod golangci-lint
TESTFLAGS ?= -race -timeout 20m
FUZZTIME  ?= 20s
ROOT      := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$(PATH)")

# In CI a test that skips itself is a failure.
NOSKIP    := $(if $(filter true,$(CI)),-v 2>&1 | .ci/noskip)

# Packages that have a test which needs root, as its skip says.
ROOT_PACKAGES = $(shell grep -rl --include='*_test.go' 'needs root' . | xargs -r -n1 dirname | sort -u)

# Packages of the lab that have a test which boots a machine.
LAB_PACKAGES = $(shell grep -rl --include='*_test.go' '^//go:build machines' integration/lab cmd | xargs -r -n1 dirname | sort -u | sed 's|^|./|')

# The images of the stack that is built like Harbor's: seconds the first time, and kept.
STACK_IMAGES = $(ROOT) $(GO) run ./integration/harborlike/harborlike images

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all
all: build lint test-unit ## build, lint and unit tests (the default)

.PHONY: build
build: ## the binaries, in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

LAPTOP ?= bin/laptop/mooring

.PHONY: laptop
laptop: ## mooring as one small static file, without what logs in to vCenter: to verify a registry from anywhere
	CGO_ENABLED=0 $(GO) build -trimpath -tags laptop -ldflags='-s -w' -o $(LAPTOP) ./cmd/mooring

# Every check runs, so that one call shows everything; the first failure is remembered.
.PHONY: lint
lint: ## the linters, the formatters, go fix and go.mod, as pinned in tools.mod
	@failed=0; \
	check() { echo "lint: $$*"; "$$@" || { echo "lint: FAILED: $$*" >&2; failed=1; }; }; \
	check $(GOLANGCI) run ./...; \
	check $(GO) fix -diff ./...; \
	check $(GO) mod tidy -diff; \
	exit $$failed

.PHONY: fmt
fmt: ## write what the formatters and go fix want
	$(GOLANGCI) fmt ./...
	$(GO) fix ./...

.PHONY: deadcode
deadcode: ## functions that no binary reaches (before a release)
	$(GO) tool -modfile=tools.mod deadcode -test ./...

# Root runs everything at once. Anyone else compiles as himself, and only the tests that need root run through sudo.
# What a program may need of memory is measured without the race detector, which needs more.
# The tests of integration/ run in a network namespace of their own, where nothing can be downloaded: so all that they build is
# there before.
.PHONY: test
test: setup build ## all tests that need no virtual machine
	@$(GOLANGCI) version >/dev/null
	$(GO) test -count=1 -run '^TestAManifestOf100000Images' ./supervisor/images
ifeq ($(ROOT),)
	$(STACK_IMAGES)
	$(GO) test $(TESTFLAGS) ./... $(NOSKIP)
else
	$(GO) test $(TESTFLAGS) $$($(GO) list ./... | grep -v /integration)
	@if ! command -v sudo >/dev/null; then \
		echo "make test: LEFT OUT, for they need root and there is no sudo:" $(ROOT_PACKAGES) >&2; exit 1; \
	fi
	$(STACK_IMAGES)
	$(GO) test $(TESTFLAGS) -exec '$(ROOT)' $(ROOT_PACKAGES) $(NOSKIP)
endif

.PHONY: test-unit
test-unit: ## the tests that take seconds; what needs root is skipped without it
	$(GO) test $(TESTFLAGS) $$($(GO) list ./... | grep -v /integration)

# The suite builds the packages and the guests' programs itself. The images of the guests come first and are kept: their making is not part of the
# suite's time. -p 1: one package's machines at a time, for two are all that two cores can bear.
.PHONY: test-failover
test-failover: build ## hosts that die, on QEMU machines: CI's cases; FULL=1 all, CASES=regexp some, SEED=n one schedule
	@ROOT='$(ROOT)' .ci/setup machines
	$(ROOT) env FULL='$(FULL)' CASES='$(value CASES)' SEED='$(SEED)' $(GO) test -tags machines -count=1 -timeout $(if $(FULL)$(CASES),8h,60m) -v \
		-run '^TestFailover' ./integration/failover

.PHONY: test-lab
test-lab: build ## the lab of QEMU machines itself
	@ROOT='$(ROOT)' .ci/setup machines
	$(ROOT) $(GO) test -tags machines -p 1 -count=1 -timeout 60m $(LAB_PACKAGES) $(NOSKIP)

.PHONY: measure
measure: build ## what Mooring costs at a start, and how often a stack comes back: docs/performance.md
	@ROOT='$(ROOT)' .ci/setup machines
	$(STACK_IMAGES)
	$(ROOT) env MEASURE=1 ANCESTOR=1 $(GO) test -tags machines -count=1 -p 1 -timeout 8h -v -run '^TestMeasure' ./integration/failover ./integration

# One long run of an experiment that the tests make in short; TMPDIR says on which disk, FS=btrfs shows that it finds losses.
.PHONY: power-cuts
power-cuts: setup ## power cuts of a registry's disk (docs/power-cuts.md): CUTS=1000, FS=ext4, SEED=n
	$(ROOT) env CUTS='$(CUTS)' FS='$(FS)' SEED='$(SEED)' $(GO) test -count=1 -timeout 24h -v -run '^TestNoAcknowledgedPushIsLost' ./integration/powercut

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME (20s)
	@for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for name in $$(grep -h -o '^func Fuzz[A-Za-z0-9_]*' $$package/*_test.go | cut -d' ' -f2); do \
			echo "fuzz: $$package $$name"; \
			$(GO) test -run='^$$' -fuzz="^$$name$$" -fuzztime=$(FUZZTIME) $$package; \
		done; \
	done

# The package and the programs are made by whoever runs make; the lab needs root.
.PHONY: demo
demo: setup build ## a host dies, and a registry comes back with every image proved, on a QEMU machine (FAST=1: on this machine, a minute)
ifneq ($(FAST),)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/mooring-demo ./integration/demo/onemachine
	$(ROOT) bin/mooring-lab run -- bin/mooring-demo
else
	@ROOT='$(ROOT)' .ci/setup machines
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/harborlike ./integration/harborlike/harborlike
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/mooring-demo ./integration/demo/failover
	$(STACK_IMAGES) >.cache/stack-images
	$(GO) run ./packaging -out dist -version 0.0.0~demo -arch amd64 -kind deb >.cache/demo-package
	$(ROOT) bin/mooring-lab run --guest qemu --vms 1 --cpus 2 -- \
		bin/mooring-demo -deb "$$(cat .cache/demo-package)" -harborlike bin/harborlike -images "$$(cat .cache/stack-images)"
endif

.PHONY: packages
packages: ## deb and rpm for amd64 and arm64, in dist/; the same bytes from the same commit
	$(GO) run ./packaging -out dist

.PHONY: setup tools
setup tools: ## install, through apt, what the tests and the demo need and this machine lacks
	@ROOT='$(ROOT)' .ci/setup

.PHONY: clean
clean: ## remove what was built (.cache/ keeps the demo's images: remove it by hand)
	rm -rf bin dist
