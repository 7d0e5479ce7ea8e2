# make demo    a movie with known truth, the whole pipeline on it, and how close the traces are
# make test    all tests but the slow ones
# make slow    those: kills, full disks, real queues, training, and others that take more than a few seconds (5 min)
# make look   tests of pages, figures, notebooks and napari, in a real Chromium and on a virtual screen (chromium and xvfb
#             of the system); their pictures are in .screenshots
# make coverage   the same, and which lines they run; takes half as long again
# make check   style, types, and the English of docs and code
# make latest  the tests with the newest release of every dependency
# make oldest  the tests with the lower bounds of pyproject.toml
# make constraints   pin the newest releases in constraints.txt, from which demo, test and check install
# make bench   what it costs: each kernel, then one table with each figure beside its target (25 min)
# make bench-peers   a run, a loop with scikit-image and, with PYAMA=/path/of/its/checkout, PyAMA on one movie: CPU, wall, memory, and
#             how equal their results are (4 min); FULL=1 for 4 FOVs x 16 frames instead of 2 x 4 (20 min)
# make chaos   runs that are killed at any moment, and disks that are full: nothing may be lost; bad input, fuzzing
# make chaos-slurm   a night on a real Slurm, which it starts: jobs, driver and controller are killed (15 min; as root)
# Each sets up .venv by itself; all it needs is Python 3.11 or newer: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo
UV := .venv-uv/bin/uv
# three on two cores, as some tests wait
PARALLEL := --numprocesses 3 --dist worksteal
# pip reads these: exact versions of all packages, and of those that build this one
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: demo test slow look coverage check latest oldest constraints bench bench-peers chaos chaos-slurm format clean

demo: .venv/package
	$(BIN)/pyama-dask demo $(DEMO)

test: .venv/development
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(TESTS)

slow: .venv/development
	$(BIN)/python -m pytest $(PARALLEL) -m slow $(TESTS)

look: .venv/look
	xvfb-run --auto-servernum --server-args="-screen 0 1600x1200x24" $(BIN)/python -m pytest -W default tests/look $(LOOK)

coverage: .venv/development
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term $(TESTS)

check: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/support/words.py

latest: RESOLUTION := highest
oldest: RESOLUTION := lowest-direct
latest oldest: $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-$@
	$(UV) pip install --quiet --python .venv-$@ --resolution $(RESOLUTION) --editable '.[test]'
	.venv-$@/bin/python -m pytest $(PARALLEL) $(TESTS)

constraints: $(UV)
	{ echo "# Exact versions with which this checkout was tested, for pip: it is at the top for 'pip install -c constraints.txt .'"; \
	  echo "# 'make constraints' renews it."; \
	  printf 'hatchling\neditables\n' | $(UV) pip compile --quiet --universal --python-version 3.11 \
	    --extra test --extra check --extra look --no-annotate --no-header pyproject.toml -; } >.constraints
	mv .constraints constraints.txt

bench: .venv/development
	$(BIN)/python -m pytest --quiet tests/bench/kernel_speed.py --benchmark-columns=min,rounds --benchmark-group-by=group
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

bench-peers: .venv/development
	PYTHONPATH=tests $(BIN)/python -m bench.peers $(if $(FULL),--full) $(if $(PYAMA),--pyama $(PYAMA)) $(PEERS)

chaos: .venv/development
	PYTHONPATH=tests $(BIN)/python -m chaos $(CHAOS)

chaos-slurm: .venv/development
	PYTHONPATH=tests $(BIN)/python -m chaos.slurm

format: .venv/development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

.venv/package: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pyama_dask needs Python 3.11 or newer; name one with PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/development: .venv/package
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]'
	@touch $@

.venv/look: .venv/development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check,look]'
	@touch $@

$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv
