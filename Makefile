# Targets are listed by `make help`; "##" after a target is what it says there.

GO      ?= go
COMPOSE  = docker compose -f deploy/docker-compose.postgres.yml
POSTGRES_PORT ?= 5432

.DEFAULT_GOAL := help
.PHONY: help build demo test format ensure-postgres ensure-test-tools init-flujo-schema setup-postgres clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' Makefile

build: ## build bin/flujo-port, one file without dependencies
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/flujo-port ./cmd/flujo-port

demo: ensure-postgres ## a whole cutover, on a throwaway server
	CGO_ENABLED=0 $(GO) run ./internal/pgtest/throwaway -- scripts/demo.sh

# SQLite's own code is translated C. Its memory is not Go's, so the race
# detector has nothing to find there, and neither has it in the standard
# library's cryptography; without these the tests take half the time.
RACE = -race -gcflags='modernc.org/...=-race=false' -gcflags='crypto/...=-race=false'
# Tests wait for a server half of the time.
PARALLEL = $$(( $$(getconf _NPROCESSORS_ONLN) * 2 ))

test: ensure-test-tools ## format, vet, staticcheck, and the tests on a real server
	@unformatted=$$($(GO) tool golines $(FORMAT) -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then \
		echo "not formatted; run make format, which changes:" >&2; echo "$$unformatted" >&2; exit 1; \
	fi
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...
	CGO_ENABLED=1 $(GO) test $(RACE) -vet=off -count=1 -parallel $(PARALLEL) ./...

FORMAT = -m 120 --base-formatter=gofmt

format: ## format all Go code, with lines of at most 120 columns
	$(GO) tool golines $(FORMAT) -w .

init-flujo-schema: ## make schema and tables in FLUJO_PORT_POSTGRES or DATABASE_URL
	@if [ -z "$$FLUJO_PORT_POSTGRES$$DATABASE_URL" ]; then \
		echo "set DATABASE_URL or FLUJO_PORT_POSTGRES to the database's address" >&2; exit 2; \
	fi
	$(GO) run ./cmd/flujo-port init

setup-postgres: ## start PostgreSQL with pgvector in docker and make the tables; needs POSTGRES_PASSWORD
	@if [ -z "$$POSTGRES_PASSWORD" ]; then \
		echo "set POSTGRES_PASSWORD to the password that the role \"flujo\" shall have" >&2; exit 2; \
	fi
	POSTGRES_PORT=$(POSTGRES_PORT) $(COMPOSE) up -d --wait
	@PGPASSWORD="$$POSTGRES_PASSWORD" $(MAKE) init-flujo-schema \
		'FLUJO_PORT_POSTGRES=postgresql://flujo@127.0.0.1:$(POSTGRES_PORT)/flujo?sslmode=disable'

clean: ## remove what build made
	rm -rf bin .cache

# Some tests start servers of their own even when FLUJO_PORT_TEST_POSTGRES
# gives them one for the rest.
ensure-postgres:
	@scripts/ensure-postgres.sh

ensure-test-tools:
	@GO="$(GO)" scripts/ensure-test-tools.sh

.PHONY: test-slow fuzz bench-go

# By packages, not by names of tests: a test that is renamed is still run.
test-slow: ensure-postgres ## what takes too long for test: more random cases and kills, jsonb's size limits; some GB of memory
	CGO_ENABLED=0 $(GO) test -tags slow -vet=off -count=1 -parallel $(PARALLEL) -timeout 30m ./internal/transfer ./internal/mapping ./cmd/flujo-port

FUZZTIME ?= 30s

fuzz: ensure-postgres ## every fuzz target for FUZZTIME (30s)
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal); do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z]+).*/\1/p' $$f); do \
			echo "== $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./$$(dirname $$f) || exit 1; \
		done; \
	done

bench-go: ## benchmarks of the scanner, the reader and the converter
	$(GO) test -run '^$$' -bench . -benchmem ./internal/mapping ./internal/source

# SIZES="200 730" makes a section for each; GROWTH=1 adds the growth series.
SIZE   ?= 730
SIZES  ?= $(SIZE)
RUNS   ?= 3
GROWTH ?=

.PHONY: bench bench-all test-memory

bench: ensure-postgres build ## next to the server alone and other tools; SIZE (730 MB) or SIZES, RUNS (3), GROWTH=1; writes docs/benchmarks.md
	$(GO) run ./internal/bench/run -program bin/flujo-port -runs $(RUNS) $(if $(GROWTH),-growth) $(SIZES)

bench-all: ## bench on files of 200 and 730 MB, with the growth series
	$(MAKE) bench SIZES="200 730" GROWTH=1

SIZE_MB ?= 3000

test-memory: ensure-postgres ## a file of SIZE_MB (3000), and one of cells of 1 MB, in 64 MiB of memory: 5 minutes, 15 GB of disk
	FLUJO_PORT_TEST_MEMORY_MB=$(SIZE_MB) $(GO) test -tags slow -count=1 -v -run '^TestMemory$$' -timeout 60m ./internal/bench

PGLITE = .cache/pglite

.PHONY: test-pgvector ensure-node

test-pgvector: ensure-test-tools $(PGLITE)/installed ## the tests that need pgvector, on a PostgreSQL in Node.js that has it
	FLUJO_PORT_TEST_PGLITE="$(CURDIR)/$(PGLITE)" CGO_ENABLED=1 $(GO) test $(RACE) -vet=off -count=1 -run PGVector ./...

# What server.mjs keeps next to itself goes with the old packages.
$(PGLITE)/installed: $(addprefix internal/pgtest/pglite/,package.json package-lock.json server.mjs) | ensure-node
	rm -rf $(PGLITE)
	mkdir -p $(PGLITE)
	cp $^ $(PGLITE)
	cd $(PGLITE) && npm ci --no-audit --no-fund --ignore-scripts
	touch $@

ensure-node:
	@scripts/ensure-node.sh
