# Two commands: `make demo` runs the main job on real data, `make test` lints, type-checks and tests.
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint docs reference wheel lock clean

demo: $(VENV)/installed
	$(BIN)/python benchmarks/demo/main_job.py

# A thread a worker: those of FAISS otherwise wait for each other's processor. Two workers more than
# there are processors, since tests wait for processes and servers.
WORKERS := $(shell echo $$(( $$(nproc) + 2 )))
# Bytecode is kept, even where the environment says otherwise: tests start hundreds of processes.
test: lint
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=connectors $(BIN)/lint-imports --no-cache

# The site, in build/site.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The pages, tables and schemas that are made from the code and from the tests.
reference: $(VENV)/installed
	PYTHONPATH=docs:tests $(BIN)/python -m tools.generate

wheel: $(VENV)/installed
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

# --without-pip, since Debian keeps ensurepip in a package of its own: the system's pip serves.
$(VENV)/installed: pyproject.toml requirements.lock
	python3 -m venv --without-pip $(VENV)
	python3 -m pip --python $(BIN)/python install --quiet -r requirements.lock
	python3 -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Pins what an empty environment gets today; torch without its local build tag.
lock:
	rm -rf build/lock && python3 -m venv build/lock
	build/lock/bin/pip install --quiet torch==2.13.0
	build/lock/bin/pip install --quiet '.[encode,dev]'
	build/lock/bin/pip freeze --exclude vecmigrate | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) build dist demo-out
