# `make demo` tunes a real model, `make test` runs every check. Both set up what they need in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint clean docs servers

demo: $(INSTALLED)
	PATH="$(BIN):$$PATH" $(BIN)/tune --service examples/minilm/spec.yaml --budget 20

test: lint
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd examples/minilm && $(BIN)/mypy --config-file ../../pyproject.toml server.py make_sentences.py
	$(BIN)/lint-imports

# Seven real servers, each in an environment of its own (several gigabytes; Java 17 for TorchServe). For the night.
SERVERS := triton torchserve mlserver kserve ray-serve litserve mosec
servers: $(INSTALLED)
	PYTHON="$(PYTHON)" examples/setup $(SERVERS)
	TUNE_TEST_SERVERS=required $(BIN)/python -m pytest tests/test_examples.py

# The command line's reference and the JSON Schema are generated; a test fails when they are out of date.
docs: $(INSTALLED)
	$(BIN)/python -m docs.generate

$(INSTALLED): pyproject.toml constraints.txt examples/minilm/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]" --requirement examples/minilm/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
