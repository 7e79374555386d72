# make demo [REC=file]   tokenize a recording (or a simulated one) and show the result
# make test              format, lint, types and the fast tests; what continuous integration runs
# make test-all          the same with the slow tests and more random examples
# make bench-corpus      bulk tokenization: speed, scaling, memory
# make bench             encoding and streaming speed
# make bench-simulator   simulated beside real recordings; needs EMGCODEC_DATA
# make docs              the site, into site/
# make fuzz              hostile files and faults: all outcomes, counted
# make publish ORG=name  put all models on the Hugging Face Hub; needs a token
# make clean             remove the environment and everything generated

PYTHON ?= python3
REC ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt

.PHONY: demo test test-all check fuzz bench bench-corpus bench-simulator docs publish clean

demo: .venv/.demo
	$(BIN)/python examples/demo.py $(REC)

test: check
	$(BIN)/pytest -m "not slow"

test-all: check
	EMGCODEC_FULL=1 $(BIN)/pytest

fuzz: .venv/.dev
	$(BIN)/python tests/fuzz.py --json docs/results/robustness.json --page docs/robustness.md

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python benchmarks/encode.py --json docs/results/encode.json --page docs/performance.md
	$(BIN)/python benchmarks/streaming.py --json docs/results/streaming.json --page docs/streaming.md

bench-corpus: .venv/.dev
	$(BIN)/python benchmarks/corpus.py --json docs/results/corpus.json --page docs/llm.md

bench-simulator: .venv/.demo
	$(BIN)/python benchmarks/simulator.py --json docs/results/simulator.json --page docs/simulator.md

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

publish: .venv/.demo
	$(BIN)/emgcodec publish --org $(or $(ORG),$(error name the organisation: make publish ORG=name)) \
		--record src/emgcodec/pretrained.json

# Both installs are editable, so either may follow the other and neither runs stale code.
.venv/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[io,plot]'
	touch $@

.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

clean:
	rm -rf .venv build dist site src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
