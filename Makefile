# Two commands matter: `make quickstart` tries everything once, `make test` runs every check.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# the tests start lorabake some thousand times, and without bytecode each start compiles all of it
unexport PYTHONDONTWRITEBYTECODE
# real trainings take all cores and much memory, so only the other tests run side by side
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
LOCALE := wrapper/lorabake/locale
PO = -i messages.pot -d $(LOCALE) -D lorabake -l pt_BR --ignore-obsolete --ignore-pot-creation-date --no-wrap

.PHONY: quickstart test real test-fast test-real test-newest lint types coverage bench locks dev-locks snapshots schema catalogues golden docs format clean

quickstart: .venv/lorabake
	$(BIN)/lorabake quickstart

test: lint types test-fast real

test-fast: .venv/dev
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not real and not matrix"

test-real: .venv/dev
	$(BIN)/python -m pytest -s -m "real or matrix" tests/real tests/faults

# The newest versions of all packages in pyproject.toml, to find what a release has broken.
test-newest: .venv/python
	rm -rf .venv-newest
	$(BIN)/python -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade -e '.[dev]'
	.venv-newest/bin/python -m pip list --format=freeze --exclude-editable
	.venv-newest/bin/python -m pytest -q tests/unit

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	for file in schemas/*.schema.json; do $(BIN)/lorabake schema $$(basename $$file .schema.json) --check $$file || exit 1; done
	$(BIN)/python docs/make_defaults.py --check
	$(BIN)/python docs/make_pages.py --check
	$(BIN)/python vendor/make_locks.py --check
	$(BIN)/python vendor/make_clip_merges.py --check
	$(MAKE) -s messages.pot
	$(BIN)/pybabel -q update $(PO) --check

types: .venv/dev
	$(BIN)/mypy
	$(BIN)/basedpyright

# What test-fast runs, three times as slow, so it is no part of `make test`.
coverage: .venv/dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL) -m "not real and not matrix"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

real: .venv/dev
	$(BIN)/python -m pytest -m "real and not matrix" tests/real tests/faults

bench: .venv/dev
	for script in tests/bench/*.py; do $(BIN)/python $$script || exit 1; done

locks: .venv/dev
	$(BIN)/python vendor/make_locks.py trainer

# works without lorabake's .venv, so a lock that cannot be installed can be made again
dev-locks: .venv/python
	$(BIN)/python -m pip install --quiet uv packaging
	$(BIN)/python vendor/make_locks.py lorabake

snapshots: .venv/dev
	$(BIN)/lorabake trainer install
	$(BIN)/python vendor/make_files.py "$$($(BIN)/lorabake trainer path)"
	cd "$$($(BIN)/lorabake trainer path)" && ../venv/bin/python -P $(CURDIR)/wrapper/lorabake/trainer/scripts/dump_options.py $(CURDIR)/vendor \
		$$($(CURDIR)/$(BIN)/python -c "from lorabake_schemas.families import registry; print(*registry.list_scripts())")
	cd "$$($(BIN)/lorabake trainer path)" && ../venv/bin/python -P $(CURDIR)/wrapper/lorabake/trainer/scripts/dump_shapes.py $(CURDIR)/vendor
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --only-binary :all: --target build/cuda-packages \
		$$(sed -n 's/^\(bitsandbytes==[^ ]*\).*/\1/p' vendor/trainer-cuda.txt)
	cd "$$($(BIN)/lorabake trainer path)" && ../venv/bin/python -P $(CURDIR)/wrapper/lorabake/trainer/scripts/dump_signatures.py $(CURDIR)/vendor $(CURDIR)/build/cuda-packages

schema: .venv/dev
	for file in schemas/*.schema.json; do $(BIN)/lorabake schema $$(basename $$file .schema.json) > $$file || exit 1; done

# English is in the source. Translate what this leaves open in lorabake.po, remove the mark "fuzzy", and run it again.
catalogues: .venv/dev
	$(MAKE) -s messages.pot
	$(BIN)/pybabel -q update $(PO)
	$(BIN)/pybabel -q compile -d $(LOCALE) -D lorabake

.PHONY: messages.pot
messages.pot:
	$(BIN)/pybabel -q extract -F pyproject.toml --no-default-keywords -k msg -k template -k nmsg:2,3 --no-location --omit-header --sort-output -o $@ wrapper schemas recipes

golden: .venv/dev
	$(BIN)/python -m pytest -q tests/unit/test_wording.py --update-golden

docs: .venv/dev
	$(BIN)/python docs/make_defaults.py
	$(BIN)/python docs/make_pages.py

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-newest build dist .mypy_cache .ruff_cache .pytest_cache .coverage*

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lorabake needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/lorabake: .venv/python pyproject.toml vendor/lorabake.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r vendor/lorabake.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/lorabake vendor/lorabake-dev.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r vendor/lorabake-dev.lock
	touch $@
