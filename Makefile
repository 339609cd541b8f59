# The commands of a developer and of CI. `make` lists them.
#
# Everything that is installed lands in .venv/ and build/; `make clean` removes both.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Settings, as in `make test TESTS=tests/unit ARGS="-x -k watch"`.
TESTS ?= tests
ARGS ?=
IMAGE ?= qgateway:latest
BASE ?= python:3.12-slim-bookworm
# The Python to make .venv with: by default the first of these that runs and is new enough.
PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# Tools that are no Python packages. The Python tools are pinned in constraints.txt.
PROTOC_GEN_GO_VERSION := v1.36.12
PROTOC_GEN_GO_GRPC_VERSION := v1.6.2
BUF_VERSION := 1.75.0

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
VENV_READY := $(VENV)/.ready
PROTOC_READY := build/protoc/.ready
GOOGLEAPIS := build/googleapis/google/api/field_behavior.proto
BUF := build/buf-$(BUF_VERSION)/node_modules/.bin/buf
# Empty where there is no Go: what is made for Go or checked with it is then left out, with a message.
GO := $(shell command -v go)
GO_PLUGINS_READY := $(if $(GO),build/bin/.ready-$(PROTOC_GEN_GO_VERSION)-$(PROTOC_GEN_GO_GRPC_VERSION))
TYPED := gateway clients/python/src scripts

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '%s\n' '' 'Settings:' \
	  '  PYTHON=python3.12        the Python to make .venv with' \
	  '  TESTS=tests/unit         the tests that `make test` runs' \
	  '  ARGS="-x -k watch"       more arguments for pytest, the benchmarks or the emulator' \
	  '  IMAGE=NAME BASE=NAME     the image to make, and the one it is built on'

# --- Set up -------------------------------------------------------------------------------------------------------------

.PHONY: venv
venv: $(VENV_READY) ## Make .venv with the server, the client and the development tools

$(VENV_READY): pyproject.toml clients/python/pyproject.toml constraints.txt
	@[[ -n "$(PYTHON)" ]] || { echo 'No Python 3.11 or newer found. Install one, or name it: PYTHON=/path/to/python3' >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo 'Cannot make .venv. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e clients/python -e '.[dev]'
	@touch $@

# The definitions of google/api as a folder of their own: buf and protoc cannot read them from inside a package.
$(GOOGLEAPIS): $(VENV_READY)
	@mkdir -p $(@D)
	@cp "$$($(BIN)/python -c 'import google.api; print(*google.api.__path__)')/$(@F)" $@

# The generator of the Python stubs has an environment of its own: see scripts/protoc-requirements.txt.
$(PROTOC_READY): scripts/protoc-requirements.txt | $(VENV_READY)
	@$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python $(PIP_INSTALL) --no-deps -r $<
	@touch $@

build/bin/.ready-%:
	GOBIN=$(CURDIR)/build/bin $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)
	GOBIN=$(CURDIR)/build/bin $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC_VERSION)
	@touch $@

$(BUF):
	@command -v npm >/dev/null || { echo 'buf comes from npm, and there is no npm. Install Node.js 18 or newer.' >&2; exit 1; }
	npm install --silent --no-save --prefix build/buf-$(BUF_VERSION) @bufbuild/buf@$(BUF_VERSION)
	@touch $@

# --- The contract -------------------------------------------------------------------------------------------------------

.PHONY: protos
protos: $(PROTOC_READY) $(GOOGLEAPIS) $(GO_PLUGINS_READY) ## Generate the stubs of all languages from protos/
	scripts/protos.sh generate

.PHONY: protos-check
protos-check: $(PROTOC_READY) $(GOOGLEAPIS) $(GO_PLUGINS_READY) ## Fail if the checked-in stubs are not those of protos/
	scripts/protos.sh check

.PHONY: buf
buf: $(BUF) $(GOOGLEAPIS) ## Check the style of protos/, and that no change of it breaks a client
	$(BUF) lint
	scripts/buf_breaking.sh $(BUF)

# --- Checks -------------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV_READY) ## Run the tests
	$(BIN)/pytest $(TESTS) $(ARGS)

.PHONY: torture
torture: $(VENV_READY) ## Kill the server and cut its clients for ten minutes, and check that no watch lies
	GRPC_VERBOSITY=NONE $(BIN)/python -m tests.faults.watches $(ARGS)

.PHONY: torture-upstream
torture-upstream: $(VENV_READY) ## Send 2000 jobs through random faults and count what runs upstream; then kill and cut everywhere
	$(BIN)/python -m tests.faults.upstream.torture $(ARGS)
	GATEWAY_FAULTS_FULL=1 $(BIN)/pytest --timeout 600 \
	  tests/faults/upstream/test_replies.py tests/faults/upstream/test_kills.py \
	  tests/faults/upstream/test_outages.py tests/faults/upstream/test_access.py

.PHONY: fuzz
fuzz: $(VENV_READY) ## Try hundreds of thousands of broken inputs on a server; ARGS="--seed 1" repeats them
	$(BIN)/python -m tests.fuzzing $(ARGS)

.PHONY: lint
lint: $(VENV_READY) ## Run every check that is not a test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict $(TYPED)
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level medium --recursive $(TYPED)
	$(BIN)/python scripts/audit_dependencies.py
	$(MAKE) buf protos-check go-vet

.PHONY: go-vet
go-vet: ## Check the Go client
ifdef GO
	cd clients/go && $(GO) vet ./... && gofmt -l . | { ! grep .; }
else
	@echo 'No Go: clients/go is not checked. It needs Go 1.26 or newer.'
endif

.PHONY: format
format: $(VENV_READY) ## Format the Python and Go code, and mend what can be mended by itself
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format
	$(if $(GO),gofmt -w clients/go/examples clients/go/watch)

# --- Run ----------------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV_READY) ## Start a gateway with the local provider, and run the quickstart against it
	$(BIN)/python scripts/demo.py

.PHONY: demo-ibm
demo-ibm: $(VENV_READY) ## The same over two accounts of IBM Quantum, on an emulator of the service
	$(BIN)/python -m scripts.demo_ibm

.PHONY: emulator
emulator: $(VENV_READY) ## Start an emulator of the IBM Quantum service
	$(BIN)/python -m tests.emulators.ibm_quantum $(ARGS)

.PHONY: bench
bench: $(VENV_READY) ## Run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: image
image: ## Build the container image
	@docker info >/dev/null 2>&1 || { echo 'No Docker engine answers. Start one, or set DOCKER_HOST.' >&2; exit 1; }
	docker build --build-arg BASE=$(BASE) --tag $(IMAGE) .

.PHONY: clean
clean: ## Remove all that was made, .venv included
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name node_modules -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -type d -print0 | xargs -0 rm -rf
