# The targets for developers. `make help` lists them.

GO        ?= go
BIN       := $(CURDIR)/bin
TOOLS     := $(BIN)/tools
# All tools are pinned here.
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOFUMPT   := mvdan.cc/gofumpt@v0.12.0
GORELEASER := github.com/goreleaser/goreleaser/v2@v2.16.0
KO        := github.com/google/ko@v0.19.1
COSIGN    := github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3
FULCIO    := github.com/sigstore/fulcio@v1.8.8
REKOR     := github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix@v2.3.0
TSA       := github.com/sigstore/timestamp-authority/v2/cmd/timestamp-server@v2.1.3
NFPM      := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.1
D2        := oss.terrastruct.com/d2@v0.7.1
FUZZTIME  ?= 20s

export GOTOOLCHAIN ?= local

.PHONY: help build demo kube test memory race check lint figures e2e indexed bench golden faults random walk programs chaos ko nightly supply smoke peers fuzz snapshot completions image vuln zoneinfo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/mabuild
	$(GO) build -trimpath -o $(BIN)/mabuild ./cmd/mabuild

demo: build ## publish examples/hello for six platforms to a temporary registry, and run it
	./examples/demo.sh $(BIN)/mabuild

# In CI these tests run once, under the race detector, and those of MEMORY beside them. Both
# variants use fixed seeds and inject each fault at one moment. Most tests wait for
# processes, disks and registries, so more of them run at once than there are cores.
test: $(if $(CI),race,$(BIN)/judge) ## the tests that need only Go; `make memory` has those that measure memory
	$(if $(CI),,$(GO) test -p 3 -parallel 4 -timeout 30m -skip '$(MEMORY)' ./...)

# Compressors, the derivation of a key from a password and the parser of regular expressions
# share nothing between goroutines, and took a third of the time under the race detector.
# Their callers are instrumented.
UNWATCHED := $(foreach p,compress/bzip2 compress/flate github.com/klauspost/compress/flate github.com/mikelolasagasti/xz \
	github.com/ulikunitz/xz/lzma golang.org/x/crypto/scrypt regexp/syntax,-gcflags=$(p)=-race=0)

# Tests of the limits on memory, which read gigabytes.
MEMORY := TestPushIsSmaller|TestHostileBasesAreSmall|TestBounds|Budget

memory: $(BIN)/judge ## tests that measure memory; without the race detector, which needs several times as much
	$(GO) test -run '$(MEMORY)' ./cmd/mabuild ./internal/rootfs

# The tests of MEMORY run beside the others: each measures its own process. Their log
# follows. Without atexit_sleep_ms, each program with the detector sleeps for a second
# before it ends.
race: $(BIN)/judge
	@log=$$(mktemp); code=0; \
	$(MAKE) --no-print-directory memory >"$$log" 2>&1 & memory=$$!; \
	GORACE=atexit_sleep_ms=0 $(GO) test -race $(UNWATCHED) -parallel 4 -timeout 30m ./... || code=$$?; \
	wait $$memory || code=$$?; \
	cat "$$log"; rm -f "$$log"; exit $$code

# Docker's registry, against which the tests check what we push.
$(BIN)/judge: $(wildcard internal/regtest/judge/*.go internal/regtest/judge/go.*)
	cd internal/regtest/judge && $(GO) build -o $@ .

check: race lint ## the tests under the race detector, format, vet, lint, tidy; CI also runs e2e and cross-builds

lint: $(TOOLS)/golangci-lint $(TOOLS)/gofumpt
	@test -z "$$($(TOOLS)/gofumpt -l $$(git ls-files '*.go'))" || { $(TOOLS)/gofumpt -l $$(git ls-files '*.go'); echo 'not formatted: make format'; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags chaos,peers ./internal/regtest/...
	$(GO) vet -tags lab ./internal/kube
	$(GO) vet -tags programs ./build/internal/unchanged
	$(TOOLS)/golangci-lint run ./...
	$(GO) mod tidy -diff
	cd internal/regtest/judge && $(GO) vet ./... && $(GO) mod tidy -diff
	cd docs/figures && $(GO) vet ./... && $(GO) mod tidy -diff
	cd internal/kube/judge && $(GO) vet ./... && $(GO) test ./...
	cd internal/attest/judge && $(GO) vet ./... && $(GO) mod tidy -diff && $(GO) test ./...
	cd internal/web/judge && $(GO) vet ./... && $(GO) mod tidy -diff

# The last line has the tool and the digests of source and drawing; figure_test.go checks
# it.
figures: $(TOOLS)/d2 ## draw docs/push.svg from docs/push.d2, and the other figures of docs/ from what was measured or recorded
	$(TOOLS)/d2 fmt docs/push.d2
	$(TOOLS)/d2 --layout elk --elk-nodeNodeBetweenLayers 36 --elk-padding '[top=30,left=30,bottom=40,right=30]' \
		--theme 0 --dark-theme 200 --pad 20 docs/push.d2 docs/push.svg
	sums=$$(cd docs && sha256sum push.d2 push.svg | cut -c 1-64 | paste -sd ' ') && \
		printf '\n<!-- %s %s -->\n' $(D2) "$$sums" >>docs/push.svg && chmod 644 docs/push.svg
	cd docs/figures && $(GO) run . ../scale.csv ../scale.svg ../scale.md
	cd docs/figures && $(GO) run . performance ../performance.csv ../performance.svg
	cd docs/figures && $(GO) run ./terminal draw ../terminal.txt ../terminal.svg

format: $(TOOLS)/gofumpt
	$(TOOLS)/gofumpt -w $$(git ls-files '*.go')

# The scripts share nothing, and each waits much: the long one runs beside the others, whose
# log follows.
e2e: build $(TOOLS)/nfpm ## end-to-end tests: real registry and clients, emulated machines; needs root and Debian packages (.ci/install)
	@log=$$(mktemp); code=0; \
	{ ./.ci/e2e-manifest $(BIN)/mabuild && ./.ci/e2e-cgo $(BIN)/mabuild && ./.ci/e2e-packages $(BIN)/mabuild && ./.ci/e2e-walk $(BIN)/mabuild && ./.ci/e2e-action && ./.ci/e2e-mirror $(BIN)/mabuild && ./.ci/e2e-supply $(BIN)/mabuild keys && ./.ci/e2e-smoke $(BIN)/mabuild && ./.ci/e2e-web $(BIN)/mabuild && ./.ci/e2e-jobs $(BIN)/mabuild && ./.ci/e2e-install $(TOOLS)/nfpm; } >"$$log" 2>&1 & others=$$!; \
	./.ci/e2e $(BIN)/mabuild || code=$$?; \
	wait $$others || code=$$?; \
	cat "$$log"; rm -f "$$log"; exit $$code

kube: build ## check, place, admission and apply against a real API server and scheduler, which the first run builds for minutes
	./.ci/e2e-kube $(BIN)/mabuild

indexed: build ## examples/indexed-job on a real kubelet with three registries, losing pods; needs root and .ci/install
	./.ci/e2e-indexed-job $(BIN)/mabuild

bench: build ## measure, compared with plain go build, and with ko if it is on PATH
	$(GO) test -run '^$$' -bench . -benchmem ./build/internal/layerfile ./build/internal/unchanged ./manifest/registry
	./.ci/bench $(BIN)/mabuild 5 table recorded

golden: $(BIN)/judge ## update the golden files with the current output
	$(GO) test ./cmd/mabuild ./internal/config ./internal/mirrorfile -update

faults: $(BIN)/judge ## each fault at the first, the middle and the last request, under the race detector
	MABUILD_FAULTS=whole GORACE=atexit_sleep_ms=0 $(GO) test -race $(UNWATCHED) -count 1 -timeout 1h ./internal/regtest/faults

random: $(BIN)/judge ## all tests with a random seed, which a failure prints; MABUILD_SEED sets it
	MABUILD_SEED=$(or $(MABUILD_SEED),random) $(GO) test -count 1 -timeout 1h ./...

walk: $(BIN)/judge ## 2,000 random steps between builds; no build may use a wrong build record or key
	MABUILD_SEED=$(or $(MABUILD_SEED),random) MABUILD_STEPS=$(or $(MABUILD_STEPS),2000) $(GO) test -count 1 -timeout 2h -v -run IsNeverWrong ./build

programs: ## the sources behind the keys of ten programs of the module proxy are those of the go command
	$(GO) test -tags programs -count 1 -timeout 1h -v -run TestPackagesOfTheProxyAreGosOwn ./build/internal/unchanged

chaos: $(BIN)/judge ## kill, interrupt, crowd and throttle pushes for a long time; CHAOS='-run X' selects tests
	MABUILD_SEED=$(or $(MABUILD_SEED),random) $(GO) test -tags chaos -count 1 -timeout 2h -v $(or $(CHAOS),-run Chaos) ./internal/regtest/faults

ko: build $(TOOLS)/ko $(TOOLS)/crane ## a project built by ko and, after config import, by mabuild gives the same programs; needs .ci/install
	./.ci/e2e-ko $(BIN)/mabuild $(TOOLS)/ko

supply: build $(TOOLS)/cosign $(TOOLS)/fulcio $(TOOLS)/posix $(TOOLS)/timestamp-server ## real cosign verifies signatures and provenance, by key and by identity; compiles cosign and the services of sigstore for minutes once; needs .ci/install
	./.ci/e2e-supply $(BIN)/mabuild

smoke: build ## start node_exporter on six platforms before its tag moves; compiles it for minutes; needs .ci/install
	./.ci/e2e-smoke $(BIN)/mabuild github.com/prometheus/node_exporter@v1.12.1

nightly: $(BIN)/judge ## faults, random, walk, programs, chaos, ko, supply, smoke, indexed, fuzz and snapshot; writes a table to docs/nightly.md
	./.ci/nightly

peers: $(BIN)/judge ## the same faults for mabuild and those of ko, crane, skopeo and regctl that are on PATH, as a table
	$(GO) build -o $(BIN)/peers/ ./cmd/mabuild
	PATH="$(BIN)/peers:$$PATH" $(GO) test -tags peers -count 1 -timeout 1h -v -run Peers ./internal/regtest/faults

# Go's fuzzer may end with a deadline error although no input fails.
fuzz: ## each fuzz target for FUZZTIME, two at a time
	@grep -rH --include='*_test.go' -o '^func Fuzz[A-Za-z0-9_]*' . | sort | sed 's|/[^/]*:func | |' | \
		xargs -P 2 -L 1 sh -c 'out=$$($(GO) test -run "^$$" -fuzz "^$$2$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s -parallel 1 "$$1" 2>&1); code=$$?; echo "$$out"; \
			test $$code = 0 || case "$$out" in *"Failing input"*) exit 255;; *"    context deadline exceeded"*) ;; *) exit 255;; esac' fuzz

snapshot: $(TOOLS)/goreleaser ## release archives, packages and image for all platforms, unpublished, in dist/
	$(TOOLS)/goreleaser release --snapshot --clean
	$(MAKE) image

completions: build ## completions of the shells, for archives and packages
	@mkdir -p completions
	$(BIN)/mabuild completion bash >completions/mabuild.bash
	$(BIN)/mabuild completion zsh >completions/_mabuild
	$(BIN)/mabuild completion fish >completions/mabuild.fish

VERSION ?= devel
# Programs of other machines are started by emulators, which .ci/install installs.
image: build ## mabuild's own image, attested and started on each platform: into the OCI layout dist/image, or pushed to IMAGE
	$(BIN)/mabuild $(if $(IMAGE),push -t $(IMAGE):$(VERSION) -t $(IMAGE):latest,build -o oci:dist/image:$(VERSION)) ./cmd/mabuild \
		--platforms linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le,linux/s390x,linux/riscv64 \
		--ldflags '-s -w -X main.version=$(VERSION)' --vcs --attest --smoke --smoke-args version --smoke-expect '^mabuild $(VERSION)'

vuln: ## known vulnerabilities; needs the network
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

zoneinfo: ## copy the time zones of the installed Go
	gzip -9nc "$$($(GO) env GOROOT)/lib/time/zoneinfo.zip" >build/internal/baseimage/zoneinfo.zip.gz

bin/judge: $(BIN)/judge
bin/tools/goreleaser: $(TOOLS)/goreleaser

$(TOOLS)/golangci-lint: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(GOLANGCI) && touch $@
$(TOOLS)/nfpm: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(NFPM) && touch $@
$(TOOLS)/gofumpt: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(GOFUMPT) && touch $@
$(TOOLS)/crane: go.mod
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install github.com/google/go-containerregistry/cmd/crane@$$($(GO) list -m -f '{{.Version}}' github.com/google/go-containerregistry) && touch $@
$(TOOLS)/ko: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(KO) && touch $@
$(TOOLS)/cosign: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(COSIGN) && touch $@
$(TOOLS)/fulcio: Makefile
	GOBIN=$(TOOLS) GOFLAGS=-p=1 $(GO) install $(FULCIO) && touch $@
$(TOOLS)/posix: Makefile
	GOBIN=$(TOOLS) GOFLAGS=-p=1 $(GO) install $(REKOR) && touch $@
$(TOOLS)/timestamp-server: Makefile
	GOBIN=$(TOOLS) GOFLAGS=-p=1 $(GO) install $(TSA) && touch $@
$(TOOLS)/d2: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(D2) && touch $@
$(TOOLS)/goreleaser: Makefile
	GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(GORELEASER) && touch $@

clean: ## remove what was built
	rm -rf $(BIN) dist
