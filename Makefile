# For people: `make help`. Everything else is in pyproject.toml.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo serve test check format bench bench-server bench-page peers docs diagrams documents campaign proof kills clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) …"
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(READY) ## One real video, start to end, with a crash in the middle
	@$(BIN)/python -m stagedoor.demo --dir .cache/demo

serve: $(READY) ## A server on this machine, with its data in .cache/serve
	@mkdir -p .cache/serve
	@$(BIN)/python -m stagedoor serve --data .cache/serve/uploads --music .cache/serve/Music

test: $(READY) ## All tests
	@$(BIN)/python -m pytest -n auto

check: $(READY) ## Format, lint, types, directions of import
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## Let ruff format and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## The engine against the bare loops it stands on (E1 to E3), and songs into the library
	@$(BIN)/python bench/engine.py
	@$(BIN)/python bench/songs.py

bench-server: $(READY) ## The server against its bars, and against servers that others wrote (make peers)
	@$(BIN)/python bench/server.py

bench-page: $(READY) ## The page in Chromium: a large file, clicks meanwhile, 1,000 uploads on the board
	@$(BIN)/python bench/page.py

peers: ## Those servers, into .cache/bench
	@sh bench/peers/install.sh

docs: $(READY) ## The documentation as HTML, without a warning
	@$(BIN)/python -m pip install --quiet --group docs
	@$(BIN)/python docs/tables.py
	@$(BIN)/sphinx-build -W -n -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

diagrams: $(READY) ## The pictures and charts of the life cycle, from its table
	@$(BIN)/python -m stagedoor.diagrams --write diagrams

documents: $(READY) ## The OpenAPI and AsyncAPI documents, from what they describe
	@$(BIN)/python -m stagedoor.server.api.documents --write docs

campaign: $(READY) ## The model for minutes, on every set of adapters
	@STAGEDOOR_EXAMPLES=3000 $(BIN)/python -m pytest tests/test_model.py -q

proof: $(READY) ## The campaigns of docs/durability.md, for hours; python bench/proof.py --help has parts of it
	-@$(BIN)/python -m pip install --quiet --group mutation
	@$(BIN)/python bench/proof.py

kills: $(READY) ## The real server killed 200 times under clients
	@KILLS=200 $(BIN)/python -m pytest tests/server/test_killed.py -q -s

clean: ## Remove what was made here
	rm -rf $(VENV) .cache dist build
