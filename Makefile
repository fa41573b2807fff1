# Every target sets up what it needs. PYTHON, VENV and WORK can be given on the command line.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart quickstart-data migration crds test test-pods test-others test-fast faults test-kubernetes test-images lint format bench bench-adapters bench-attention bench-chaos bench-classify bench-gpu bench-int4-blocks bench-export bench-plan bench-prepare bench-size bench-speculation bench-zero bench-llama bench-minilm bench-openvino techniques purposes oracles schedules kills examples-data clean cluster-up cluster-down cluster-status images images-load images-push images-sizes cluster-demo bench-structured hosted hosted-fuzz hosted-load console bench-routing bench-hosted
CLIENT ?= python
CASES ?= 10000

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(INSTALLED) ## Create the virtual environment

# uv takes seconds over torch and what comes with it, for which pip takes two minutes. It does not read pip's settings,
# so it is told the index, which may hold a password and is not shown. INSTALL=".venv/bin/python -m pip install" does
# without it.
export UV_SYSTEM_CERTS ?= 1
# As pip does: where PYTHONDONTWRITEBYTECODE is set, each process would else compile torch and the rest anew.
export UV_COMPILE_BYTECODE ?= 1
INSTALL ?= $(BIN)/python -m uv pip install --python $(BIN)/python

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}; name one with: make PYTHON=/path/to/python3")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(INSTALL) --quiet -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: $(INSTALLED) ## Train, export, check, serve and query a small model
	$(BIN)/python examples/quickstart/quickstart.py

hosted: $(INSTALLED) ## Serve OpenAI's fine-tuning API, and train and ask a small model with OpenAI's client (CLIENT=node, none)
	$(BIN)/python examples/hosted/run.py $(CLIENT)

quickstart-data: $(INSTALLED) ## Write the quickstart's questions and answers again
	$(BIN)/python examples/quickstart/make_data.py

examples-data: $(INSTALLED) ## Write the data of all examples again
	for example in examples/*/make_data.py; do $(BIN)/python $$example || exit 1; done

console: ## Build the web console into console/dist (needs Node.js; without it nothing is done)
	@if command -v node >/dev/null && command -v npm >/dev/null; then \
	  cd console && npm install --no-package-lock --no-audit --no-fund && npm run check && npm run build; \
	else echo "console: Node.js 20.19 or newer and npm are not installed, so the console is not built; the API works without it"; fi

migration: $(INSTALLED) ## Write a step of the hosted service's tables: NAME="What it changes"
	$(BIN)/python hack/migration.py "$(NAME)"

ARGS ?=

hosted-load: $(INSTALLED) ## 100 hosted jobs while replicas, PostgreSQL and the API server are killed; 1,000 files and one of 2 GB (15 minutes, 6 GB of disk)
	$(BIN)/python tests/bench/hosted_load.py jobs $(ARGS)
	$(BIN)/python tests/bench/hosted_load.py files

crds: $(INSTALLED) ## Write crds/ and docs/api.md from the API models
	$(BIN)/python -m tunesmith_api.codegen.generate

# What takes long the first time is made at the same time: installing waits for the network, images for the disk, and
# Kubernetes for the processor. A test that had to wait for Kubernetes would run into its own time limit. Where it cannot
# be built (3), the tests that need it are skipped and say why; tests that need an image build it, and say why they
# cannot. The tests start hundreds of processes, which must not each compile the packages anew. Tests with pods mostly
# wait, and deadlines time them: they run two at a time, and what they leave of the processor goes to the other tests.
IDLE := $(shell chrt --idle 0 true 2>/dev/null && echo chrt --idle 0)
PODS := tests/e2e tests/integration/cluster
test: ## Run all tests
	@$(MAKE) --no-print-directory -j3 $(INSTALLED) test-kubernetes test-images
	@$(MAKE) --no-print-directory --keep-going -j2 test-pods test-others

test-pods: $(INSTALLED)
	@$(BIN)/python -m pytest -m e2e $(PODS) -n 2 --dist loadfile --durations 15 > .test-pods.log 2>&1; \
	code=$$?; cat .test-pods.log; exit $$code

test-others: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE= $(IDLE) $(BIN)/python -m pytest -m "not e2e and not long" -n 3 --dist worksteal --durations 30

test-long: $(INSTALLED) ## Run what `make test` leaves out, as other tests see most of it (7 minutes)
	$(BIN)/python -m pytest -m long -n 2 --durations 0

# For the edit loop: no cluster, no training, no type checker (`make lint` has that). Half a minute to a minute.
test-fast: $(INSTALLED) ## Run the quick tests: no cluster, no training
	$(BIN)/python -m pytest tests/unit -m "not slow" -n 2 -q --deselect tests/unit/repository/test_style.py::test_is_clean

test-kubernetes:
	@PYTHONPATH=hack $(PYTHON) -m cluster build || test $$? = 3

test-images:
	@test -n "$$TUNESMITH_E2E_CONTEXT" || PYTHONPATH=hack $(PYTHON) -m image_build build || true

faults: $(INSTALLED) ## Put every known fault into the pipeline and see it stopped; run 100 clean jobs (half an hour)
	cd tests && $(abspath $(BIN))/python -m faults.run

lint: $(INSTALLED) ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-export: $(INSTALLED) ## Measure the memory of exports of 0.1, 0.5 and 1 billion parameters (10 minutes)
	$(BIN)/python tests/bench/export_memory.py 0.1 0.5 1 --run --layers

bench: $(INSTALLED) ## Compare training and serving with the alternatives (20 minutes)
	$(BIN)/python tests/bench/training.py
	$(BIN)/python tests/bench/serving.py

bench-attention: $(INSTALLED) ## Measure ways to compute attention on the CPU, and keys and values in int8 (3 minutes)
	$(BIN)/python tests/bench/attention.py

bench-int4-blocks: $(INSTALLED) ## Measure blocks of int4 weights: bytes, a step's time, the error of the rounding (1 minute)
	$(BIN)/python tests/bench/int4_blocks.py

bench-adapters: $(INSTALLED) ## Measure 64 adapters on one base: memory, tokens per second, time to the first answer (5 minutes)
	$(BIN)/python tests/bench/adapters.py

bench-routing: $(INSTALLED) ## Measure what asking through the hosted API costs over asking the server, and waking (5 minutes; ARGS="--shape tiny")
	$(BIN)/python tests/bench/hosted_routing.py $(ARGS)

bench-classify: $(INSTALLED) ## Compare a served classifier with transformers' pipeline and ONNX Runtime (5 minutes)
	$(BIN)/python tests/bench/classify_serving.py

bench-openvino: $(INSTALLED) ## Compare servers with OpenVINO and with ONNX Runtime's own kernels, answers and speed (10 minutes)
	$(BIN)/python tests/bench/serving_openvino.py

bench-speculation: $(INSTALLED) ## Compare answers with and without drafts, by prompt lookup and by a draft model, of three kinds of text (6 minutes)
	$(BIN)/python tests/bench/speculation.py

bench-llama: $(INSTALLED) ## Compare serving with llama.cpp's server (40 minutes; the first time also its build)
	$(BIN)/python tests/bench/serving_llama.py --batch-precision int8 --kv-cache int8 --int4-block-size 64

bench-chaos: $(INSTALLED) ## Serve among slow, gone, half-open and wrong clients (an hour)
	$(BIN)/python tests/bench/chaos.py

bench-gpu: $(INSTALLED) ## Compare training on a GPU with the alternatives (10 minutes; needs an NVIDIA GPU)
	$(BIN)/python -m uv pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python tests/bench/training_gpu.py

bench-hosted: $(INSTALLED) cluster-up ## Compare the hosted API with kubectl in the embedded cluster, from a file to the first answer (5 minutes)
	$(BIN)/python tests/bench/hosted_first_answer_cluster.py $(ARGS)

bench-structured: $(INSTALLED) ## What the form of an answer costs; ARGS="--schemas 500" proves that answers are valid
	$(BIN)/python tests/bench/structured.py $(ARGS)

PARAMETERS ?= 0.1,1,3.8
METHOD ?= lora

bench-size: $(INSTALLED) ## Run jobs of 0.1, 1 and 3.8 billion parameters, and write what they took (PARAMETERS=0.1 METHOD=qlora)
	$(BIN)/python tests/bench/size.py --parameters $(PARAMETERS) --method $(METHOD) --write

bench-prepare: $(INSTALLED) ## Compare prepare's memory over 50 MB and 5 GB of data (an hour, 20 GB of disk)
	$(BIN)/python tests/bench/prepare_size.py

bench-zero: $(INSTALLED) ## Measure that no process of a ZeRO 3 run holds the whole model (a minute)
	$(BIN)/python tests/bench/zero_memory.py

bench-plan: $(INSTALLED) ## Compare the planner's memory with what training takes (25 minutes); writes docs/planning.md
	$(BIN)/python tests/bench/plan.py

techniques: $(INSTALLED) ## Try every method with every strategy, measure each technique (an hour); writes docs/techniques.md
	$(BIN)/python tests/bench/techniques.py $(TECHNIQUES)

purposes: $(INSTALLED) ## Try every purpose with every technique (under an hour); writes docs/purposes.md
	$(BIN)/python tests/bench/purposes.py $(PURPOSES)

KILLS ?= 20

kills: $(INSTALLED) ## Kill jobs at 20 random moments each: they end in the very weights of those left alone (10 minutes)
	KILLS=$(KILLS) $(BIN)/python -m pytest tests/e2e/test_resume.py -q -s --timeout 3000

schedules: $(INSTALLED) ## Try 2,000 random schedules of requests: each gets what it gets alone (5 minutes)
	SCHEDULES=2000 $(BIN)/python -m pytest tests/integration/serving/test_schedules.py -q

hosted-fuzz: $(INSTALLED) ## Ask the hosted service 10,000 random things: none makes it fail (10 minutes)
	CASES=$(CASES) $(BIN)/python -m pytest tests/integration/hosted/test_openapi.py -q --timeout 3000

oracles: $(INSTALLED) ## Compare each task with a plain transformers Trainer (10 minutes)
	$(BIN)/python tests/oracles/compare.py

bench-minilm: $(INSTALLED) ## Fine-tune a real MiniLM to classify, beside a logistic regression (10 minutes)
	$(BIN)/python tests/bench/minilm.py

IMAGE_BUILD = PYTHONPATH=hack $(or $(wildcard $(BIN)/python),$(PYTHON)) -m image_build

images: $(if $(IMAGES),$(filter console,$(IMAGES:hosted=console)),console) ## Build the images that changed (IMAGES=, BASE_IMAGE=, BUILD_ARGS="TORCH_INDEX_URL=... ONNXRUNTIME=...")
	@$(IMAGE_BUILD) build $(IMAGES) --base-image "$(BASE_IMAGE)" $(foreach argument,$(BUILD_ARGS),--build-arg $(argument))

images-load: images ## Load them into the cluster of `make cluster-up` (NAME=full)
	@$(IMAGE_BUILD) load $(IMAGES) $(if $(NAME),--cluster $(NAME))

images-push: images ## Push them to a registry (REGISTRY=example.azurecr.io/ml)
	@$(IMAGE_BUILD) push $(REGISTRY) $(IMAGES)

images-sizes: ## Print their sizes, in total and over their base image
	@$(IMAGE_BUILD) sizes $(IMAGES)

cluster-up: ## Start Kubernetes on this machine (MODE=full; MODE=api: control plane only, no root)
	@PYTHONPATH=hack $(PYTHON) -m cluster up $(if $(MODE),--mode $(MODE)) $(if $(NAME),--name $(NAME))

cluster-down: ## Stop it and remove everything it left (both modes, or MODE=, NAME=)
	@PYTHONPATH=hack $(PYTHON) -m cluster down $(if $(MODE),--mode $(MODE)) $(if $(NAME),--name $(NAME))

cluster-status: ## Print which parts of it run
	@PYTHONPATH=hack $(PYTHON) -m cluster status $(if $(MODE),--mode $(MODE)) $(if $(NAME),--name $(NAME))

cluster-demo: $(INSTALLED) cluster-up ## Install Tunesmith in it, run examples/quickstart there, ask the served model
	PYTHONPATH=hack $(BIN)/python -m cluster_demo

clean: ## Remove the virtual environment and what jobs left in .tunesmith/
	rm -rf $(VENV) .tunesmith build *.egg-info
