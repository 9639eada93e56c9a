# Everything a fresh machine with Python 3.11 (or 3.12), make and pip needs: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow servers clean

demo: .venv/ready
	$(BIN)/python -m deploy.demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest --numprocesses 2

# What takes minutes: on a real Slurm of two nodes, and from `git clone` to a figure there and with a team's servers.
test-slow: .venv/ready
	$(BIN)/pytest -m slow tests/deploy

# A team's servers on this machine, from packages, to try.
servers: .venv/ready
	$(BIN)/python -m deploy.servers servers

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results mlruns mlartifacts mlflow.db
