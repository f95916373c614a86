# `make demo` tunes a real model. `make check` is what to run before a commit (minutes): ruff, mypy, the import contract and
# all tests that stay in their process. `make test` adds those that start servers, load and engines. Each sets up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed

# Where this is set, every process that a test starts compiles our modules anew: a fifth of a short command's time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test machine beside alone engines lowest audit lint style types clean docs servers

demo: $(INSTALLED)
	PATH="$(BIN):$$PATH" $(BIN)/tune --service examples/minilm/spec.yaml --budget 14

# mypy has one core and a minute; beside the tests it costs half of that. What it says comes last. A shell lets what it has in the
# background ignore Ctrl-C, so that is ended by hand.
check: style
	@job=; said=$$(mktemp); trap 'rm -f $$said' EXIT; trap '{ pkill -P $$job; kill $$job; } 2>/dev/null; exit 130' INT TERM; \
	  { $(TYPES); } >$$said 2>&1 & job=$$!; \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not machine and not engine"; tests=$$?; \
	  wait $$job; types=$$?; cat $$said; exit $$((tests | types))

test: check machine engines

# Tests of real servers mostly wait: two files at a time. What fails beside others is run once more, alone, which decides. What
# measures and fails is run once more, too: the machine may have stood still.
machine: beside alone

beside: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "machine and not alone" || { [ $$? -eq 1 ] && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "machine and not alone"; }

alone: $(INSTALLED)
	$(BIN)/python -m pytest -m "machine and alone" || { [ $$? -eq 1 ] && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "machine and alone"; }

# Where there is no Docker, cluster, PostgreSQL, browser or Go, what needs it is skipped and says what to start. One after the
# other: the longest are all of one cluster, and two at a time gained three minutes. What fails is run once more, which decides.
engines: $(INSTALLED)
	$(BIN)/python -m pytest -m engine || { [ $$? -eq 1 ] && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m engine; }

lint: style types

style: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

TYPES = $(BIN)/mypy && $(BIN)/lint-imports && cd examples/minilm && \
  $(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache server.py make_sentences.py
types: $(INSTALLED)
	$(TYPES)

# Known vulnerabilities of what constraints.txt names, by PyPI's own answers (not a mirror's). 2.9: fails where one could not be looked up.
AUDIT := .venv-audit
audit:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet "pip-audit>=2.9"
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# The same tests with the lowest versions that pyproject.toml claims; KEEP names packages that stay as constraints.txt has them.
LOWEST := .venv-lowest
KEEP :=
lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py $(KEEP) >$(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/constraints.txt --editable ".[postgresql,optuna-dashboard,mlflow,otel,wandb,llm,controller]" \
	  "tritonclient[grpc]" pytest pytest-timeout pytest-xdist hypothesis torch mpmath matplotlib playwright scikit-learn kubernetes-validate \
	  check-jsonschema hatchling
	$(LOWEST)/bin/python -m pytest -n 2 -m "not machine and not engine"

# Thirteen real servers and a chain of three, each in an environment of its own (several gigabytes; Java 17 for TorchServe). For the night.
SERVERS := triton torchserve mlserver kserve ray-serve litserve mosec onnxruntime openvino bentoml infinity llama-cpp vllm chain
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
	rm -rf $(VENV) $(LOWEST) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
