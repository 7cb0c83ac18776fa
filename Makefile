# The project's commands. Each does its own set-up, on a fresh machine with git, make and Python 3.11 (python3-venv).

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
# The distribution's where it will do: others may come without its profiles (docs/decisions/the-distributions-python.md).
PYTHON ?= $(shell /usr/bin/python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo /usr/bin/python3 || echo python3)
UV := .tools/bin/uv
RUN := .venv/bin
WORKERS ?= 2
export UV_PYTHON_DOWNLOADS := never
# Behind a proxy with a certificate of its own the system's list is the right one; without a list uv has its own.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := true
endif

.PHONY: help up setup setup-dev setup-tests test test-long test-user test-cluster cluster check format bench bench-cluster reference revision clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: setup  ## set up what is missing, then run Neuropod on this machine
	@exec ./neuropod up

setup: .venv/.ready  ## everything that Neuropod needs to run

test: setup-tests  ## set up what is missing, then run the tests
	$(RUN)/pytest -n $(WORKERS) --dist loadgroup -q -m "not long" --ignore tests/cluster

test-long: setup-tests  ## the exhaustive tests too (hours are well spent here before a release)
	$(RUN)/pytest -n $(WORKERS) --dist loadgroup -q -m "long or not long" --timeout 7200 --ignore tests/cluster

test-user: setup-tests  ## what an ordinary user can do, done by one in a clone of their own (run as root)
	$(RUN)/pytest -q tests/runtimes/local/test_as_user.py --timeout 900

test-cluster: setup-tests  ## the tests on a real cluster: KUBECONFIG's, else one that is brought up and ended
	@tools/cluster/cluster run -- $(RUN)/pytest -q tests/cluster

cluster: setup-tests  ## a real, throwaway Kubernetes on this machine (root, Debian 12), until tools/cluster/cluster down
	@tools/cluster/cluster up

check: setup-dev  ## format, lint, types, import contracts
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

format: setup-dev  ## format the code
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

bench: setup-tests  ## measure: ratios side by side in one run, see docs/benchmarks.md
	$(RUN)/python -m bench

bench-cluster: setup-tests  ## measure pods on a real cluster against a bare client and JupyterHub, see docs/benchmarks.md
	@tools/cluster/cluster --name bench run -- $(RUN)/python -m bench cluster

reference: setup-dev  ## write the pages of docs/reference anew
	@for page in cli settings errors api; do $(RUN)/python tools/$${page}_reference.py; done

revision: setup-dev  ## write a migration: make revision MESSAGE="what changes"
	$(RUN)/python tools/make_revision.py "$(MESSAGE)"

clean:  ## remove what set-up made (never the data folder)
	rm -rf .venv .tools bench/node_modules

# The one program that is installed by pip, with its hash; it installs all else from the lock file.
$(UV): tools/uv-requirements.txt
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/uv-requirements.txt
	@touch $(UV)

.venv/.ready: $(UV) pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --inexact --no-dev --python $(PYTHON)
	@touch $@

setup-dev: .venv/.ready-dev

.venv/.ready-dev: $(UV) pyproject.toml uv.lock
	$(UV) sync --quiet --frozen --python $(PYTHON)
	@touch .venv/.ready $@

setup-tests: setup-dev
	@tools/setup-tests
