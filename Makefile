# Every target prepares what it needs; `make` alone prints the list of targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run screenshots demo bench torture torture-steps images up down clean-volumes test test-manifests test-containers test-cluster check audit format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with all dependencies, pinned by constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@echo "Downloading and installing all dependencies into $(VENV), once (about 5 minutes on a slow connection) ..."
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(READY)

run: $(READY) ## run the trio in the foreground; data under GLITCHFLOW_HOME (default ./var), Ctrl-C stops it
	@exec $(BIN)/python -m scripts.run

screenshots: $(READY) ## renew the pictures of the page in docs/img/ (a minute; needs Chromium)
	@exec $(BIN)/python -m tools.screenshots

demo: $(READY) ## show the whole workflow in about 20 s, in a fresh temporary home (KEEP=1 leaves it running)
	@exec $(BIN)/python -m scripts.demo

bench: $(READY) ## measure each service against the yardstick, into docs/benchmarks.md (ARGS='--quick', ARGS='--stored 100000')
	@exec $(BIN)/python -m tools.benchmark $(or $(ARGS),--all)

torture: $(READY) ## kill a buffer while 16 clients write, ROUNDS times (default 100); no acknowledged segment may be lost
	@exec $(BIN)/python -m tools.torture --rounds $(or $(ROUNDS),100)

torture-steps: $(READY) ## kill listeners, buffer and gateway for SECONDS (default 120); each step is DONE once, by its last attempt
	@exec $(BIN)/python -m tools.torture_steps --seconds $(or $(SECONDS),120)

images: ## build the container images (ARGS=databuffer: only that one); IMAGE_PREFIX, IMAGE_TAG, BASE
	@exec $(PYTHON) -m tools.images $(ARGS)

up: ## run the trio in containers, building missing images, and wait until it is healthy; PORT_API, MAX_SIZE
	@exec $(PYTHON) -m scripts.stack up

down: ## stop those containers; the data stay on their volumes
	@exec $(PYTHON) -m scripts.stack down

clean-volumes: ## delete those volumes after you type yes
	@exec $(PYTHON) -m scripts.stack clean-volumes

# Two files of tests at a time, in the order of `testpaths`; the tests of a file share its processes. Bytecode is stored even
# if the environment forbids it: the tests start hundreds of processes, and compiling is a third of each start.
test: $(READY) ## run every test, two files at a time (ARGS='-k words' chooses)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS) || \
	  { echo "Repeat the failed tests one by one: $(BIN)/python -m pytest --last-failed"; exit 1; }

test-manifests: $(READY) ## render every overlay of k8s/, validate it, and check the rules (`make test` includes this)
	$(BIN)/python -m pytest tests/k8s

test-containers: $(READY) ## build the images, and test them and docker-compose.yml on this machine's container engine
	$(BIN)/python -m pytest tests/containers

test-cluster: $(READY) ## test manifests and images on a real Kubernetes: CLUSTER=CONTEXT, IMAGE_PREFIX, IMAGE_TAG, KEEP=1
	@exec $(BIN)/python -m tools.cluster_test

check: $(READY) ## lint, types, import rules, prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.prose

audit: $(READY) ## compare constraints.txt with the installed packages; look up vulnerabilities with pip-audit, or print SKIPPED
	@exec $(BIN)/python -m tools.audit

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and the caches; never touches data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
