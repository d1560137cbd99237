# The entry point of the project; "make help" lists what it can do.
# Needs git, make and python3 (3.11, 3.12 or 3.13) with venv; everything else goes into env/.

PYTHON3 ?= python3
VENV ?= env
# a value for the shell, which may contain spaces and quotes
quoted = '$(subst ','\'',$(1))'
DATA := $(call quoted,$(or $(DATA_DIR),data))
PYTHON := $(VENV)/bin/python
# where PyTorch comes from: pypi (with CUDA on Linux), cpu (CPU-only builds) or site (what PYTHON3
# can import); env/ remembers the choice
MADE_WITH := $(or $(shell cat $(call quoted,$(VENV))/.torch 2>/dev/null),pypi)
TORCH ?= $(MADE_WITH)
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# uv or pip; if empty, the faster uv, or pip if it has settings or PIP_ARGS
INSTALLER ?=
PIP_ARGS ?=
SETUP = $(foreach name,PYTHON3 VENV TORCH CPU_INDEX INSTALLER PIP_ARGS,$(name)=$(call quoted,$($(name)))) \
  bash tools/setup.sh
# more options for uv in make lock, such as --upgrade
UV_ARGS ?=
# what "make run" passes to run.py: three of ten epochs show that everything works
ARGS ?= trainer.max_epochs=3
SCRIPTS := $(wildcard data/*.sh cluster/*.sh src/launch/submit.sh src/utils/*.sh lessons/*/src/*/submit.sh \
  lessons/*/src/utils/*.sh tools/*.sh .ci/run site.example.sh)
# here $PYTHON may be several words, which the shell has to split: SC2086 would require quotes
BATCH_SCRIPTS := run.sh $(wildcard lessons/*/run.sh)

$(if $(word 2,$(VENV)),$(error VENV is "$(VENV)", but make cannot use a path with spaces: choose another))
# the shell would take these for its own
SPECIAL := ; & | < > " ' ` $$ * ? \ (
$(if $(strip $(foreach one,$(SPECIAL),$(findstring $(one),$(VENV)))),$(error VENV is "$(VENV)", but make cannot use a path with a special character of the shell: choose another))

.PHONY: help setup setup-dev lock data run lessons diff check test test-fast test-long docs pictures screenshots cheat-sheet site bench measure class preflight cluster-up cluster-down clean needs needs-python another-torch safe-loads

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.setup  ## create env/ from requirements.lock (1 to 3 minutes, 6 GB); TORCH=cpu or site: see README.md

needs:
	@command -v git >/dev/null || { echo "git is missing: install it with your system's packages (Debian: apt-get install git)." >&2; exit 1; }
	@command -v $(PYTHON3) >/dev/null || { echo "$(PYTHON3) is missing: install Python 3.11, 3.12 or 3.13, or name yours: make PYTHON3=python3.11" >&2; exit 1; }

# the versions that the pinned packages support
needs-python: needs
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "$(PYTHON3) is $$($(PYTHON3) --version 2>&1), but the pinned packages need 3.11, 3.12 or 3.13: name one, such as make PYTHON3=python3.11" >&2; exit 1; }
	@$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON3) has no venv module: install it (Debian: apt-get install python3-venv)." >&2; exit 1; }

$(VENV)/.setup: requirements.lock $(if $(filter-out $(MADE_WITH),$(TORCH)),another-torch) | needs-python
	@$(SETUP)

setup-dev: $(VENV)/.setup-dev
$(VENV)/.setup-dev: requirements-dev.lock $(VENV)/.setup
	@$(SETUP) dev

LOCK := uv pip compile --quiet --universal --generate-hashes --fork-strategy fewest \
  --python-version 3.11 --custom-compile-command "make lock"

lock: $(VENV)/.setup-dev  ## update requirements.lock and requirements-dev.lock
	$(VENV)/bin/$(LOCK) $(UV_ARGS) requirements.txt -o requirements.lock
	$(VENV)/bin/$(LOCK) $(UV_ARGS) requirements-dev.txt -c requirements.lock -o requirements-dev.lock

data: $(VENV)/.setup  ## fetch the data that are missing; without internet, generate small samples
	@[ -e $(DATA)/MNIST ] || bash data/get_mnist.sh $(DATA) || $(PYTHON) data/make_sample.py $(DATA)
	@[ -e $(DATA)/cifar-10-batches-py ] || bash data/get_cifar10.sh $(DATA) || $(PYTHON) data/make_sample.py $(DATA)

# an experiment of its own, so that the first run of each lesson is version_0
run: $(VENV)/.setup data  ## set up what is missing, then train ResNet-18 on CIFAR-10 for three epochs
	@$(PYTHON3) tools/lessons.py branches || echo "continuing without the lesson branches"
	@DATA_DIR=$(DATA) $(PYTHON) -u run.py --local experiment_name=first_run $(ARGS)
	@echo "To see the curves, run $(VENV)/bin/tensorboard --logdir logs and open http://localhost:6006"

lessons: needs  ## build the lesson branches from main
	@$(PYTHON3) tools/lessons.py branches

diff: needs  ## show what a lesson changes: make diff N=3
	@$(PYTHON3) tools/lessons.py diff $(call quoted,$(N))

check: $(VENV)/.setup-dev safe-loads  ## style, types, shell scripts and spelling
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(VENV)/bin/shellcheck $(SCRIPTS)
	$(VENV)/bin/shellcheck --exclude=SC2086 $(BATCH_SCRIPTS)
	$(VENV)/bin/codespell

# checkpoints are pickles, which can run code: UNSAFE must match nothing, and each match of LOADS must say
# weights_only=True
UNSAFE := weights_only *= *[^T ]|NO_WEIGHTS_ONLY_LOA[D]
LOADS := (torch[.]load|load_from_checkpoint)[(]

safe-loads:
	@! git grep -nE '$(UNSAFE)' || { echo "A file that is loaded must not run code: leave weights_only at True." >&2; exit 1; }
	@! git grep -nE '$(LOADS)' | grep -v 'weights_only=True' || { echo "Add weights_only=True." >&2; exit 1; }

test-fast: $(VENV)/.setup-dev  ## the quick tests, which do not need Slurm
	$(PYTHON) -m pytest -m "not slurm and not slow and not gpu and not long"

test: $(VENV)/.setup-dev  ## every test but the longest; as root on Debian or Ubuntu it installs Slurm's packages
	$(PYTHON) -m pytest -m "not long" --numprocesses=2 --dist=loadfile --durations=10

test-long: $(VENV)/.setup-dev  ## the longest tests, which make test leaves out
	$(PYTHON) -m pytest -m long --durations=0

docs: $(VENV)/.setup  ## run the commands of the pages, and compare what they print (15 minutes); ONLY=3: one lesson; CHANGED=20: and count how many changed words are noticed
	$(PYTHON) tools/$(if $(CHANGED),changed_words.py --number $(call quoted,$(CHANGED)),run_docs.py $(if $(ONLY),--only $(call quoted,$(ONLY)))) --venv $(VENV)

bench: $(VENV)/.setup data  ## measure training steps, loading and start-up (10 minutes)
	$(PYTHON) benchmarks/steps.py
	$(PYTHON) benchmarks/loading.py $(DATA)
	$(PYTHON) benchmarks/startup.py

pictures: needs  ## draw the pictures of the pages into .img/
	@$(PYTHON3) tools/pictures.py

screenshots: $(VENV)/.setup-dev  ## take the pictures of TensorBoard's tabs anew; needs Debian or Ubuntu's chromium
	@PYTHONPATH=tests/helpers $(PYTHON) tools/screenshots.py

cheat-sheet: $(VENV)/.setup-dev  ## write docs/cheat-sheet.md to cheat-sheet.pdf, one A4 page for printing
	@$(PYTHON) tools/cheat_sheet.py

site: $(VENV)/.setup-dev  ## render the pages as a web site in site/, which needs no server
	@$(PYTHON) tools/make_site.py

# the numbers of the pages: see tools/measure.py
measure: $(VENV)/.setup  ## measure the numbers of the pages (45 minutes); ONLY=lesson-2: one; LIST, INSERT or CHECK=1
	@$(PYTHON) tools/measure.py --data_dir $(DATA) --venv $(VENV) $(if $(ONLY),--only $(call quoted,$(ONLY))) \
	  $(if $(LIST),--list) $(if $(CHECK),--check) $(if $(INSERT),--insert)

class: needs  ## show who is at which lesson and whose last job failed; DIR='/home/*/hpc-starter': the clones (default: beside this one)
	@$(PYTHON3) tools/class_view.py $(if $(DIR),$(call quoted,$(DIR)))

preflight: needs  ## check whether this site can run the course (1 minute, on a login node); FULL=1: also train on two nodes; WAIT=3600: wait longer in the queue
	@$(PYTHON3) tools/preflight.py $(if $(FULL),--full) $(if $(WAIT),--wait=$(call quoted,$(WAIT)))

cluster-up: needs  ## start the practice cluster: Slurm with two nodes on this machine
	@$(PYTHON3) cluster/practice up

cluster-down: needs  ## stop the practice cluster
	@$(PYTHON3) cluster/practice down

clean:  ## remove the caches of Python and of the tools; logs, data and env/ stay
	@find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .ruff_cache .mypy_cache
