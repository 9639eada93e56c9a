# Everything a fresh machine with Python 3.11 (or 3.12), make and pip needs: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slurm servers check clean

demo: .venv/ready
	$(BIN)/python -m deploy.demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/pytest --numprocesses 2

# On a real Slurm of two nodes: what takes minutes there.
test-slurm: .venv/ready
	$(BIN)/pytest -m slurm tests/deploy/test_slurm.py

# A team's servers on this machine, from packages, to try.
servers: .venv/ready
	$(BIN)/python -m deploy.servers servers

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results mlruns mlartifacts mlflow.db
