# Every target prepares what it needs; `make` alone tells what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run screenshots demo bench torture images up down clean-volumes test test-manifests test-containers test-cluster check audit format clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything the project needs, pinned by constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	@echo "Preparing $(VENV) (a minute or two, once) ..."
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $(READY)

run: $(READY) ## run the trio in the foreground; data under GLITCHFLOW_HOME (default ./var), Ctrl-C stops it
	@exec $(BIN)/python -m scripts.run

screenshots: $(READY) ## take the pictures of the page in docs/img/ anew (a minute; needs Chromium)
	@exec $(BIN)/python -m tools.screenshots

demo: $(READY) ## the whole story in some twenty lines, in a fresh temporary home (KEEP=1 leaves it running)
	@exec $(BIN)/python -m scripts.demo

bench: $(READY) ## measure each tier against the yardstick, into docs/benchmarks.md (ARGS='--quick', ARGS='--stored 100000')
	@exec $(BIN)/python -m tools.benchmark $(or $(ARGS),--all)

torture: $(READY) ## kill a buffer under 16 writers ROUNDS times (default 100); nothing acknowledged may be lost
	@exec $(BIN)/python -m tools.torture --rounds $(or $(ROUNDS),100)

images: ## build the container images (ARGS=databuffer: only that one); IMAGE_PREFIX, IMAGE_TAG, BASE
	@exec $(PYTHON) -m tools.images $(ARGS)

up: ## run the trio in containers, building what is missing, and wait until it is healthy; PORT_API, MAX_SIZE
	@exec $(PYTHON) -m scripts.stack up

down: ## stop those containers; the data stay on their volumes
	@exec $(PYTHON) -m scripts.stack down

clean-volumes: ## delete those volumes, once you have typed yes
	@exec $(PYTHON) -m scripts.stack clean-volumes

# Two files of tests at a time, in the order of `testpaths`; a file's tests share what the file starts. Bytecode is kept even
# where the environment says otherwise: the tests start some hundreds of processes, and a third of a start is to compile.
test: $(READY) ## run every test, two files at a time (ARGS='-k words' chooses)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS) || \
	  { echo "What failed once more, one by one: $(BIN)/python -m pytest --last-failed"; exit 1; }

test-manifests: $(READY) ## render every overlay of k8s/, validate it, and hold it to the rules (`make test` does so too)
	$(BIN)/python -m pytest tests/k8s

test-containers: $(READY) ## build the images and prove them, and docker-compose.yml, on this machine's container engine
	$(BIN)/python -m pytest tests/containers

test-cluster: $(READY) ## take manifests and images to a real Kubernetes: CLUSTER=CONTEXT, IMAGE_PREFIX, IMAGE_TAG, KEEP=1
	@exec $(BIN)/python -m tools.cluster_test

check: $(READY) ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(READY) ## compare constraints.txt with what is installed; check for known vulnerabilities with pip-audit, or say SKIPPED
	@exec $(BIN)/python -m tools.audit

format: $(READY) ## bring the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and the caches; never touches data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
