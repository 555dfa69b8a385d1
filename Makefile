# One or two lines each; what needs more has a program of its own.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM = gotest.tools/gotestsum@v1.13.0
FUZZTIME ?= 10s
export CGO_ENABLED ?= 0

.PHONY: build demo try test race lint vet peers fuzz bench bench-failover chaos clean

build: ## bin/pen and bin/penctl: static, stripped, reproducible
	go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/pen ./cmd/penctl

demo: build ## a cluster of three nodes, whose holder is killed before your eyes (root)
	go run ./test/demo

try: build ## one node at work: three servers, six clients, one failure
	go run ./test/try

test: peers lint race ## everything that must hold before a change is merged

race: ## the whole suite under the race detector (needs a C compiler); one package at a time, for many tests look at the clock; those that fail run once more if they are few, and are named
	CGO_ENABLED=1 go run $(GOTESTSUM) --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures=12 --rerun-fails-run-root-test --rerun-fails-abort-on-data-race --packages ./... -- -race -timeout 20m -p 1

lint: vet ## style and the import rules of .golangci.yml
	go run $(GOLANGCI) run ./...

vet: ## for every system that pen runs on
	set -e; for os in linux darwin freebsd windows; do GOOS=$$os go vet ./...; done

peers: ## the programs that tests and benchmarks run beside ours (Debian; root)
	.ci/peers

fuzz: ## every fuzz test for FUZZTIME
	.ci/fuzz $(FUZZTIME)

bench: build peers ## beside haproxy, the original pen and nginx; rewrites docs/benchmarks.md
	go run ./bench -pen bin/pen -markdown docs/benchmarks.md

bench-failover: build peers ## beside keepalived + haproxy, in network namespaces (root); rewrites its part of docs/benchmarks.md
	go run ./bench/failover -bin bin -markdown docs/benchmarks.md

FAULTS ?= 1000
SEED ?= 0
chaos: build ## FAULTS random faults drawn from SEED (0: any), in network namespaces (root); rewrites its part of docs/chaos.md
	go run ./test/chaos -bin bin -faults $(FAULTS) -seed $(SEED) -markdown docs/chaos.md

clean:
	rm -rf bin
