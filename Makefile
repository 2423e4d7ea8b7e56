# `make help` lists the targets with the text that follows "##".

GO      ?= go
COMPOSE  = docker compose -f deploy/docker-compose.postgres.yml
POSTGRES_PORT ?= 5432
POSTGRES_DB   ?= med13_dev

.DEFAULT_GOAL := help
.PHONY: help build demo test test-deploy lint lint-systems format ensure-postgres ensure-test-tools man pages init-flujo-schema setup-postgres clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-20s %s\n", $$1, $$2 }' Makefile

# The program records its commit, which receipts contain, unless git refuses to
# read the clone, as one of another user.
build: ## build bin/flujo-port, one file without dependencies
	vcs=$$(git status >/dev/null 2>&1 && echo true || echo false); \
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$$vcs -o bin/flujo-port ./cmd/flujo-port

demo: ensure-postgres ## run a dry run, a migration and some queries on a temporary server
	CGO_ENABLED=0 $(GO) run ./internal/pgtest/throwaway -- scripts/demo.sh

# The race detector skips SQLite, translated C whose memory is outside Go's heap,
# where the detector ignores it anyway, and the standard library's cryptographic
# functions, which start no goroutines. This halves the time that the tests take.
# No package that uses sync.Map may be skipped: the linker may choose its copy of
# the generic code for the whole program, and the detector then reports races that
# do not exist (TestRaceDetector in internal/verify). Two goroutines in one SQLite
# connection are found by a counter in internal/sqlite.
RACE = -race -gcflags='modernc.org/sqlite/lib=-race=false' -gcflags='modernc.org/libc/...=-race=false' \
	-gcflags='crypto/internal/fips140/...=-race=false'
# With the race detector, a process waits for a second when it ends, so that other goroutines can report races.
export GORACE := atexit_sleep_ms=100 $(GORACE)
# Tests spend half of their time waiting for a server.
PARALLEL = $$(( $$(getconf _NPROCESSORS_ONLN) * 2 ))
# Packages at a time, for the same reason.
PACKAGES = $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))

test: ensure-test-tools lint ## run lint, and the tests on a real server
	CGO_ENABLED=1 $(GO) test $(RACE) -vet=off -count=1 -p $(PACKAGES) -parallel $(PARALLEL) ./...
	@$(MAKE) test-deploy

test-deploy: ensure-postgres ## test the files for Docker and Kubernetes, which are a module of their own
	cd deploy && CGO_ENABLED=0 $(GO) test -vet=off -count=1 ./...

lint: ## check formatting and go.mod, and run the checks of internal/lint and staticcheck
	@unformatted=$$($(GO) tool golines $(FORMAT) -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then \
		echo "these files are not formatted; run make format:" >&2; echo "$$unformatted" >&2; exit 1; \
	fi
	$(GO) mod verify
	$(GO) mod tidy -diff
	$(VET)
	$(STATICCHECK)
	cd deploy && $(GO) mod tidy -diff

# The tools themselves are built for this system, whatever GOOS is.
VET = vettool=$$(GOOS= CGO_ENABLED=0 $(GO) tool -n lint) && export CGO_ENABLED=0 && \
	$(GO) vet -vettool="$$vettool" -tags slow ./... && cd deploy && $(GO) vet -vettool="$$vettool" ./...
STATICCHECK = program=$$(CGO_ENABLED=0 $(GO) tool -n staticcheck) && export CGO_ENABLED=0 && \
	"$$program" -tags slow ./... && cd deploy && "$$program" ./...

lint-systems: ## run the checks of internal/lint for Linux, macOS and Windows (minutes in the first run, then seconds)
	@for system in linux darwin windows; do \
		echo "vet for $$system"; (export GOOS=$$system; $(VET)) || exit 1; \
	done

FORMAT = -m 120 --base-formatter=gofmt

format: ## format all Go code, with lines of at most 120 columns
	$(GO) tool golines $(FORMAT) -w .

man: ## write the man page and the completions for fish from the commands and flags
	CGO_ENABLED=0 $(GO) test -vet=off -count=1 -run 'TestManPage|TestFishCompletion' ./cmd/flujo-port -update

pages: ensure-postgres ## rewrite the sample outputs in README.md and docs, which the tests of the pages compare
	CGO_ENABLED=0 $(GO) test -vet=off -count=1 -run TestPage ./cmd/flujo-port -update

init-flujo-schema: ## create the schema and tables in the database of FLUJO_PORT_POSTGRES or DATABASE_URL
	@if [ -z "$$FLUJO_PORT_POSTGRES$$DATABASE_URL" ]; then \
		echo "set FLUJO_PORT_POSTGRES or DATABASE_URL to the address of the database" >&2; exit 2; \
	fi
	$(GO) run ./cmd/flujo-port init

setup-postgres: ## start PostgreSQL with pgvector in Docker and create the tables; needs POSTGRES_PASSWORD
	@if [ -z "$$POSTGRES_PASSWORD" ]; then \
		echo "set POSTGRES_PASSWORD to the password of the role \"flujo\"" >&2; exit 2; \
	fi
	POSTGRES_PORT=$(POSTGRES_PORT) POSTGRES_DB=$(POSTGRES_DB) $(COMPOSE) up -d --wait
	@PGPASSWORD="$$POSTGRES_PASSWORD" $(MAKE) init-flujo-schema \
		'FLUJO_PORT_POSTGRES=postgresql://flujo@127.0.0.1:$(POSTGRES_PORT)/$(POSTGRES_DB)?sslmode=disable'

clean: ## remove build output and caches
	rm -rf bin dist .cache

# Some tests start a server even if FLUJO_PORT_TEST_POSTGRES names one.
ensure-postgres:
	@scripts/ensure-postgres.sh

ensure-test-tools:
	@GO="$(GO)" scripts/ensure-test-tools.sh

.PHONY: test-slow test-server fuzz bench-go

# This selects packages, not names of tests, so that renamed tests still run. The servers are on the disk, since
# tests of large values need the memory.
test-slow: ensure-postgres ## run longer tests: more random cases and kills, size limits of jsonb (some GB of memory)
	FLUJO_PORT_TEST_SERVERS="$${FLUJO_PORT_TEST_SERVERS:-$${TMPDIR:-/tmp}}" CGO_ENABLED=0 \
		$(GO) test -tags slow -vet=off -count=1 -parallel $(PARALLEL) -timeout 30m \
		./internal/extract ./internal/jsonb ./internal/mapping ./internal/merge ./internal/migrate ./internal/restore \
		./cmd/flujo-port

# The packages whose tests run the program's operations on a server.
OPERATIONS = $(addprefix ./internal/,check extract initialize load merge migrate postgres receipt restore sink verify)

# The address has no password, no query and no database of its own.
test-server: ensure-postgres ## run the tests of the program on a server that FLUJO_PORT_TEST_POSTGRES names
	CGO_ENABLED=0 $(GO) run ./internal/pgtest/throwaway -- sh -c '\
		FLUJO_PORT_TEST_POSTGRES="postgresql://$$PGUSER@$$PGHOST:$$PGPORT/postgres" \
		CGO_ENABLED=0 $(GO) test -vet=off -count=1 -parallel $(PARALLEL) $(OPERATIONS) ./cmd/flujo-port'

.PHONY: test-clients matrix

test-clients: ensure-postgres ## run the tests that need PgBouncer, Alembic, asyncpg (Flujo's driver), zsh or fish
	CGO_ENABLED=0 scripts/with-clients.sh $(GO) test -vet=off -count=1 -parallel $(PARALLEL) \
		-run 'PgBouncer|Asyncpg|Alembic|Zsh|Fish' ./internal/pgtest ./internal/docs ./cmd/flujo-port

DURATION ?= 20m
SEED     ?= 0
WORKERS  ?= 2

.PHONY: torture

torture: ensure-postgres ## disturb every command for DURATION (20m), and write docs/reliability.md
	CGO_ENABLED=0 $(GO) test -tags slow -vet=off -count=1 -v -timeout 60m ./internal/torture -args \
		-duration $(DURATION) -seed $(SEED) -workers $(WORKERS) -document $(or $(DOCUMENT),$(CURDIR)/docs/reliability.md)

MATRIX ?= 13 14 16 17 18

matrix: ensure-node ## run the tests of the program on servers of the versions MATRIX (13 14 16 17 18), from npm
	PACKAGES="$(OPERATIONS) ./internal/docs ./cmd/flujo-port" PARALLEL=$(PARALLEL) GO="$(GO)" \
		scripts/with-clients.sh scripts/matrix.sh $(MATRIX)

FUZZTIME ?= 30s

fuzz: ensure-postgres ## run every fuzz target for FUZZTIME (30s)
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' internal); do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z]+).*/\1/p' $$f); do \
			echo "== $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x \
				./$$(dirname $$f) || exit 1; \
		done; \
	done

bench-go: ## run the Go benchmarks of scanner, reader and converter
	$(GO) test -run '^$$' -bench . -benchmem ./internal/jsonb ./internal/mapping ./internal/source

# SIZES="200 730" writes a section for each size, in MB, and one for 0.5 MB. GROWTH=1 adds the growth series for the
# last size, WORKERS_OF_SERVER=1 the numbers of processes that the server may use, and FILES=1 several state files.
SIZE   ?= 730
SIZES  ?= $(SIZE)
RUNS   ?= 3
GROWTH ?=
WORKERS_OF_SERVER ?=
FILES  ?=

.PHONY: bench bench-all bench-files test-memory

bench: ensure-postgres build ## write docs/benchmarks.md: SIZE (730 MB) or SIZES, RUNS (3), GROWTH=1, WORKERS_OF_SERVER=1, FILES=1
	$(GO) run ./internal/bench/run -program bin/flujo-port -runs $(RUNS) $(if $(GROWTH),-growth) \
		$(if $(WORKERS_OF_SERVER),-workers) $(if $(FILES),-files) 0.5 $(SIZES)

bench-all: ## run bench for files of 200 and 730 MB, with all series
	$(MAKE) bench SIZES="200 730" GROWTH=1 WORKERS_OF_SERVER=1 FILES=1

bench-files: ensure-postgres build ## print the table of bench FILES=1 alone, with RUNS (3)
	$(GO) run ./internal/bench/run -program bin/flujo-port -runs $(RUNS) -files

SIZE_MB ?= 3000

test-memory: ensure-postgres ## test memory use with SIZE_MB (3000) and cells of 1 MB (5 minutes, 15 GB of disk)
	FLUJO_PORT_TEST_MEMORY_MB=$(SIZE_MB) \
		$(GO) test -tags slow -count=1 -v -run '^TestMemory$$' -timeout 60m ./internal/bench

PGLITE = .cache/pglite

.PHONY: test-pgvector ensure-node

test-pgvector: ensure-test-tools $(PGLITE)/installed ## run the tests that need pgvector, on PGlite (PostgreSQL in Node.js)
	FLUJO_PORT_TEST_PGLITE="$(CURDIR)/$(PGLITE)" CGO_ENABLED=1 $(GO) test $(RACE) -vet=off -count=1 -run PGVector ./...

# This removes the files that server.mjs stores in its folder, with the old packages.
$(PGLITE)/installed: $(addprefix internal/pgtest/pglite/,package.json package-lock.json server.mjs) | ensure-node
	rm -rf $(PGLITE)
	mkdir -p $(PGLITE)
	cp $^ $(PGLITE)
	cd $(PGLITE) && npm ci --no-audit --no-fund --ignore-scripts
	touch $@

ensure-node:
	@scripts/ensure-node.sh

# Tools with hundreds of dependencies, which are therefore in no go.mod.
GORELEASER = env CGO_ENABLED=0 $(GO) run github.com/goreleaser/goreleaser/v2@v2.16.0
export CYCLONEDX = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

.PHONY: release-dry release

release-dry: ## build dist, what a release of this commit consists of, twice, and compare (10 minutes in the first run)
	scripts/release-dry.sh $(GORELEASER)

release: ## build and publish the release of the tag of this commit; needs GITHUB_TOKEN
	$(GORELEASER) release --clean
