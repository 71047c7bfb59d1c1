# Two commands do everything on a machine with Python >= 3.11 and make: `make train` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: train serve test soak mutants bench check lock clean

train: $(INSTALLED)
	$(BIN)/sentiment train

serve: $(INSTALLED)
	$(BIN)/sentiment serve

# In two processes, each file's tests in one of them; the longest files come first. `pytest` alone does the same one after the other.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What `make test` leaves out: tests that need many processes or minutes.
soak: $(INSTALLED)
	$(BIN)/python -m pytest -m soak

# Breaks one safeguard after the other in a copy, and runs the tests that have to notice.
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

# Measures everything beside what people would use instead; wants a machine that does nothing else.
bench: $(INSTALLED)
	$(BIN)/python tests/benchmarks/bench.py

# Known vulnerabilities of what requirements.lock names, by the package index; --strict: what cannot be asked about is no success.
audit: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv tool run pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip --progress-spinner off

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@# As a constraint too: else pip 23 looks past the lock for a package that another asks for with an extra.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# The newest versions that fit pyproject.toml, with hashes, for every platform.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
		--extra dask --extra excel --group dev --group bench pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
