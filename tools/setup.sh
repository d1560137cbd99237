#!/usr/bin/env bash
# Creates the Python environment, for "make setup"; with the argument dev, for "make setup-dev".
set -euo pipefail

# unset because pip would read a variable of this name as a setting
options=$PIP_ARGS
unset PIP_ARGS
python=$VENV/bin/python
# where PyTorch comes from; written first, it also shows that setup created this folder
choice=$VENV/.torch
# shows that everything is installed; renamed during an installation
stamp=$VENV/.setup
before=$VENV/.setup-before
# the part of a lock that is installed next
part=$VENV/part.lock

die() {
  echo "$*" >&2
  exit 1
}
trap 'die "interrupted: run make setup again; it starts from the beginning"' INT TERM

# unlike an interruption, an error leaves no package half installed
failed() {
  if [ -e "$before" ]; then mv "$before" "$stamp"; fi
  remedy="see its messages above, fix the cause and run make again."
  if [ "$TORCH" = cpu ]; then
    remedy="$remedy If this machine cannot reach $CPU_INDEX, use TORCH=pypi, which is larger."
  fi
  die "$1 could not install the packages: $remedy"
}

# pick NAMES <LOCK prints the packages whose names match, drop NAMES <LOCK all others
pick() { awk -v names="^($1)==" '/^[a-z0-9]/ { found = $0 ~ names } found'; }
drop() { awk -v names="^($1)==" '/^[a-z0-9]/ { found = $0 ~ names } !found'; }

# shellcheck disable=SC2086 # several words
pip_install() { "$python" -m pip install --no-deps $options "$@" || failed pip; }

# install LOCK [OPTION...] installs exactly what it lists and checks each file by its hash
install() {
  if [ "$INSTALLER" = pip ]; then
    pip_install --require-hashes -r "$@"
    return
  fi
  # A cache in the same folder takes no space: uv links its files into the environment.
  # Compile now, as pip does; otherwise each process of the first job would.
  "$python" -m uv pip install --python "$python" --cache-dir "${UV_CACHE_DIR:-$VENV/.cache}" \
    --compile-bytecode --no-deps --require-hashes -r "$@" || failed uv
}

# uv is faster, but does not read pip's settings, such as the address of a mirror
choose_installer() {
  local settings
  settings=$options${REQUESTS_CA_BUNDLE:-}${CURL_CA_BUNDLE:-}$("$python" -m pip config list)
  if [ -z "$INSTALLER" ]; then
    if [ -z "$settings" ]; then INSTALLER=uv; else INSTALLER=pip; fi
  fi
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  if [ "$INSTALLER" = uv ]; then
    pick uv <requirements-dev.lock >"$part"
    pip_install --quiet --require-hashes -r "$part"
  fi
}

# if env/ is activated, python3 is in the folder to be emptied: use the Python that env/ is based on
leave_environment() {
  local base
  base=$("$PYTHON3" -c 'import os, sys
if os.path.realpath(sys.prefix) == os.path.realpath(sys.argv[1]):
    print(sys._base_executable)' "$VENV")
  PYTHON3=${base:-$PYTHON3}
}

# print the file and version of a Python's torch, or why it cannot import it
torch_of() {
  "$1" - 2>/dev/null <<'END' | tail -n 1
try:
    import torch, torchvision
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    raise SystemExit(1)
print(torch.__file__, torch.__version__)
END
}

check_site_torch() {
  local major
  major=$(sed -n 's/^torch==\([0-9]*\).*/\1/p' requirements.txt)
  site_torch=$(torch_of "$PYTHON3") ||
    die "TORCH=site, but $PYTHON3 cannot import torch and torchvision ($site_torch): load your site's PyTorch module, or name the Python that has them: make setup TORCH=site PYTHON3=<path>"
  [[ ${site_torch##* } == "$major".* ]] ||
    die "TORCH=site, but $PYTHON3 has PyTorch ${site_torch##* } and the lessons need PyTorch $major: load another module, or install PyTorch with make setup TORCH=pypi"
}

# start from scratch after an interruption and for another TORCH
make_environment() {
  if [ ! -e "$choice" ] && [ ! -e "$before" ] && [ -n "$(ls -A "$VENV" 2>/dev/null)" ]; then
    die "$VENV exists, but make setup did not create it: delete it, or name another folder: make setup VENV=env2"
  fi
  mkdir -p "$VENV"
  echo "$TORCH" >"$choice"
  # keep what uv has downloaded
  find -H "$VENV" -mindepth 1 -maxdepth 1 ! -name .torch ! -name .cache -exec rm -rf {} +
  local module=(-m venv)
  if [ "$TORCH" = site ]; then module+=(--system-site-packages); fi
  "$PYTHON3" "${module[@]}" "$VENV" ||
    die "$PYTHON3 could not create $VENV: see its message above, fix the cause and run make again."
  if [ "$TORCH" = site ]; then
    # if PYTHON3 is in a virtual environment, the option adds only the packages of its base
    "$PYTHON3" -c 'import sys, sysconfig
if sys.prefix != sys.base_prefix:
    print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
      >"$(echo "$VENV"/lib/python3.*/site-packages)/site-torch.pth"
  fi
}

install_packages() {
  # test-tube is built from source, with the locked setuptools instead of the newest one
  pick setuptools <requirements.lock >"$part"
  install "$part"
  # the builds for macOS are CPU-only everywhere
  if [ "$TORCH" = pypi ] || [ "$TORCH-$(uname)" = cpu-Darwin ]; then
    cp requirements.lock "$part"
  else
    drop "torch|torchvision|triton|cuda-.*|nvidia-.*" <requirements.lock >"$part"
    if [ "$TORCH" = cpu ]; then
      # These are not in the lock; pip checks them by the hashes in this index.
      # torchvision for ARM has no +cpu in its version.
      # shellcheck disable=SC2046 # two words
      pip_install --index-url "$CPU_INDEX" \
        $(sed -n -e 's/^torch==.*/&+cpu/p' -e '/^torchvision==/p' requirements.txt)
    fi
  fi
  install "$part" --no-build-isolation
}

check_site_packages() {
  local found
  found=$(torch_of "$python") || true
  [ "$found" = "$site_torch" ] ||
    die "TORCH=site: $python finds a different PyTorch than $PYTHON3 ($found instead of $site_torch): unset PYTHONPATH, or name the Python that has PyTorch: make setup TORCH=site PYTHON3=<path>"
  "$python" - <<'END'
from importlib.metadata import version
from pathlib import Path

for line in Path("requirements.txt").read_text().splitlines():
    name, _, pin = line.partition("==")
    if pin and name not in ("torch", "torchvision") and version(name) != pin:
        print(f"warning: Python imports {name} {version(name)} of your site, not the installed {pin}; check PYTHONPATH")
END
}

case $TORCH in
  pypi | cpu | site) ;;
  *) die "TORCH=$TORCH is not known: use pypi (PyTorch with CUDA on Linux), cpu (PyTorch without CUDA) or site (the PyTorch that $PYTHON3 has)." ;;
esac
case $INSTALLER in
  "" | uv | pip) ;;
  *) die "INSTALLER=$INSTALLER is not known: use uv or pip." ;;
esac

case $PWD in
  *[%\\\"]*) echo "warning: Slurm cannot write the logs of jobs below $PWD: clone to a path without % and without \\ or \"" >&2 ;;
esac

if [ "${1:-}" = dev ]; then
  mv "$stamp" "$before"
  choose_installer
  install requirements-dev.lock
  mv "$before" "$stamp"
  touch "$VENV/.setup-dev"
else
  leave_environment
  if [ "$TORCH" = site ]; then check_site_torch; fi
  finished=no
  if [ -e "$stamp" ]; then
    finished=$(cat "$choice" 2>/dev/null || echo pypi)
    mv "$stamp" "$before"
  fi
  # a new lock is installed over the old one
  if [ "$finished" != "$TORCH" ] || [ ! -x "$python" ]; then make_environment; fi
  choose_installer
  install_packages
  if [ "$TORCH" = site ]; then check_site_packages; fi
  touch "$stamp"
fi
rm -rf "$VENV/.cache" "$before" "$part"
