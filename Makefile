# The project's tasks; `make` without arguments lists them. See README.md and CONTRIBUTING.md.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Otherwise every worker of the tests would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
COMPILE := uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --custom-compile-command "make lock"
# Arguments for pytest: make test TESTS="tests/core -x"
TESTS ?=
# Tests wait more than they compute, so three run at a time for each core.
WORKERS ?= $(shell echo $$((3 * $$(nproc))))

# Checks the workflows; from the Go proxy.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Searches for secrets; also from the Go proxy.
GITLEAKS := github.com/zricethezav/gitleaks/v8@v8.30.1

# All tasks, and the steps of a release.
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST))) release-check release-image release-sign release-notes

help: ## Lists the tasks, and how long each takes on two cores | at once
	@sed -nE 's/^([a-z-]+):.*## (.*) \| (.*)/\1\t\2\t\3/p' Makefile | while IFS=$$'\t' read -r name text time; do printf '  make %-15s %s [%s]\n' "$$name" "$$text" "$$time"; done

install: $(VENV)/.installed ## Installs the project into .venv from the lock with hashes | 20 s

run: install ## Runs tailscaled and the app under the supervisor in this terminal; Ctrl-C stops them | until Ctrl-C; builds tailscaled once, in minutes, if there is none
	@exec scripts/run-main-job

test: tested ## Runs all tests but those of test-slow, with a real tailscaled | 8 min
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

test-slow: tested ## Runs the tests of faults that take more than a minute | 10 min
	@RESTIC_AS_PUBLISHED=1 $(BIN)/python -m pytest -m slow_fault -v -rP --durations=0 $(TESTS)

test-image: tested ## Builds the image and runs it in a Docker engine, which it starts if none runs | 12 min, once some more
	@scripts/test-engine run $(BIN)/python -m pytest -m image $(or $(TESTS),tests/image)

chaos: tested ## Breaks the running supervisor at random: SEED=… ROUNDS=… MET=times FOR=seconds AT_ONCE=lives, DEPLOYS=… in a row, or LIFE='…' to replay a failure | until Ctrl-C, or FOR seconds
	@nice $(BIN)/python -m tests.chaos $(if $(SEED),--seed "$(SEED)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(MET),--met $(MET)) \
		$(if $(DEPLOYS),--deploys $(DEPLOYS)) $(if $(FOR),--seconds $(FOR)) $(if $(AT_ONCE),--at-once $(AT_ONCE)) \
		$(if $(LIFE),--life "$(LIFE)")

chaos-image: tested ## Breaks the image at random, in an engine: SEED=… ROUNDS=… FOR=seconds FORM=image-gvisor, or LIFE='…' | until Ctrl-C, or FOR seconds
	@scripts/test-engine run nice $(BIN)/python -m tests.chaos $(if $(FORM),--flavours $(FORM),--image) $(if $(SEED),--seed "$(SEED)") \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(FOR),--seconds $(FOR)) $(if $(LIFE),--life "$(LIFE)")

fuzz: tested ## Feeds parsers nearly valid input, and the API every request of its document: EXAMPLES=… of each, or FOR=seconds for each of TESTS | several minutes
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),$(if $(FOR),1000,20000)) FUZZ_SECONDS=$(or $(FOR),0) API_EXAMPLES=$(or $(EXAMPLES),500) \
		nice $(BIN)/python -m pytest -n $(WORKERS) --timeout 7200 -rP $(or $(TESTS),tests/fuzz tests/web/test_openapi.py)

refusals: tested ## Makes each system call fail once, with each of its errors (needs strace): CALLS="openat write" for some | several minutes
	@REFUSAL_WORKERS=$(WORKERS) nice $(BIN)/python -m tests.chaos.refusals $(CALLS)
	@$(if $(CALLS),,REFUSAL_WORKERS=$(WORKERS) nice $(BIN)/python -m tests.chaos.refused_sites)

planted: tested ## Plants one defect after the other, and reports which ones chaos finds | up to 200 rounds for each
	@$(BIN)/python -m tests.chaos.planted

contained: ## Runs TASK=test, or another, in a container, as the workflows do: PYTHON_VERSION=3.14 (needs Docker) | as the task, and 10 min once
	@scripts/contained $(TASK)

test-arm: tested ## Builds the image for arm64 and runs it under qemu, its login to a tailnet too (Debian, as root) | 15 min, and 20 once
	@TEST_ENGINE_ARCH=arm64 scripts/test-engine run $(BIN)/python -m pytest -m image -v $(or $(TESTS),tests/image/test_run.py)

soak: tested ## Runs one supervisor for MINUTES=120 and reports whether anything grows | 2 h, or MINUTES
	@nice $(BIN)/python -m tests.chaos.soak --minutes $(or $(MINUTES),120)

check: dev ## Lints, checks types and the project's conventions; audits the locks if an index answers | 1 min
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy supervisor tests $(wildcard examples benchmarks scripts)
	@$(BIN)/python -m pytest -q tests/conventions
	@scripts/audit --or-tell

check-workflows: $(VENV)/.audit ## Checks the workflows in .github with actionlint (needs Go) and zizmor | 15 s
	@go run $(ACTIONLINT)
	@$(VENV)/audit/bin/zizmor --offline --quiet --pedantic .github

check-tailscale: install ## Checks tailscaled's source, of VERSION or the known ones, for what the program relies on (needs Go) | 5 s
	@scripts/check-tailscale $(VERSION)

test-newest: tested ## Checks the newest tailscaled's source, and runs the tailnet's tests with it | 3 min, and some for its build
	@scripts/check-tailscale latest
	@daemon=$$(scripts/fetch-tailscaled "$$(scripts/check-tailscale --newest)") && \
		PATH="$$(dirname "$$daemon"):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(or $(TESTS),tests/tailnet)

audit: $(VENV)/.audit ## Looks for known vulnerabilities in the locked packages; fails if no index has such data | 20 s
	@scripts/audit

check-secrets: ## Looks for secrets in every commit, with gitleaks (needs Go) | 15 s
	@go run $(GITLEAKS) git --no-banner --redact .

sbom: ## Lists what is in IMAGE, as docs/reference/sbom.json (needs Go and a Docker engine) | 2 min
	@scripts/sbom $(IMAGE)

format: dev ## Formats the code, and regenerates the docs that are made from its tables | 20 s
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m scripts.settings_page > docs/reference/settings.md
	@$(BIN)/python -m scripts.metrics_page > docs/reference/metrics.md
	@$(BIN)/python -m scripts.states_page > docs/reference/states.md
	@$(BIN)/python -m scripts.doctor_page > docs/reference/doctor.md
	@$(BIN)/python -m scripts.openapi_document docs/reference/openapi.json
	@$(BIN)/python -m scripts.pictures
	@$(BIN)/python -m scripts.badges

docs: dev ## Builds the documentation as a site, in site/VERSION/; a dead link fails | 10 s
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir "site/$$($(BIN)/python -c 'import supervisor; print(supervisor.__version__)')"

bench: dev ## Measures ours and its peers side by side | 30 min
	@$(BIN)/python -m benchmarks

screenshots: tested ## Makes the pictures of the panel in docs/images (as root) | 2 min
	@$(BIN)/python -m scripts.screenshots
	@$(BIN)/python -m scripts.dashboard_picture

recording: tested ## Records a session of make run as docs/images/session.svg | 10 s
	@$(BIN)/python -m scripts.recording

packages: ## Installs the Debian packages that the tasks need, as root or by sudo | 1 min
	@scripts/need-packages

release: ## Prepares a release, all but the push: make release VERSION=1.2.3 | at once
	@scripts/release prepare $(VERSION)

# The steps of .github/workflows/release.yml, for a tag in TAG.
release-check release-image release-sign release-notes: release-%:
	@scripts/release $*

lock: ## Updates the locks to the newest versions (needs uv) | 20 s
	@$(COMPILE) --output-file requirements/run.txt pyproject.toml
	@$(COMPILE) --output-file requirements/run-otel.txt --extra otel --constraint requirements/run.txt pyproject.toml
	@$(COMPILE) --output-file requirements/build.txt requirements/build.in
	@$(COMPILE) --output-file requirements/dev.txt --constraint requirements/run-otel.txt --constraint requirements/build.txt requirements/dev.in
	@$(COMPILE) --output-file requirements/bench.txt requirements/bench.in
	@$(COMPILE) --output-file requirements/audit.txt requirements/audit.in

clean: ## Removes what the tasks made here | at once
	@rm -rf $(VENV) .run .mypy_cache .pytest_cache .ruff_cache .hypothesis

dev: $(VENV)/.dev

# Programs that the tests need.
tested: dev
	@scripts/fetch-tailscaled >/dev/null
	@scripts/need-chromium >/dev/null
	@command -v go >/dev/null || { echo "cannot build the tests' control server: Go is missing; install 1.26 or newer" >&2; exit 1; }
	@command -v promtool >/dev/null || { echo "cannot test the metrics: promtool of Prometheus is missing; install it (apt-get install prometheus)" >&2; exit 1; }
	@echo "building the tests' control server, restic and an S3 server, which takes minutes the first time"
	@$(BIN)/python -c 'from tests.support import backups, control; control.control_server(); [*map(backups.program, backups.PROGRAMS)]; backups.program("restic", backups.PROGRAMS["restic"][0])'

# Stamps record what is installed, so that a second run does nothing.
$(VENV)/.installed: requirements/run.txt requirements/build.txt pyproject.toml
	@PYTHON="$(PYTHON)" scripts/make-venv $(VENV)
	@echo "installing the project into $(VENV)"
	@$(PIP) --require-hashes -r requirements/run.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.audit: $(VENV)/.installed requirements/audit.txt
	@$(BIN)/python -m venv $(VENV)/audit
	@$(VENV)/audit/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements/audit.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements/dev.txt
	@echo "installing the tools for tests and checks into $(VENV)"
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
