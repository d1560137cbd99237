"""make setup with small packages instead of PyPI's, and the lock files: make test."""

import functools
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from clone import ROOT, Clone, clean_environment
from processes import accept_signals

LOCKS = {"requirements.txt": "requirements.lock", "requirements-dev.txt": "requirements-dev.lock"}
PINS = dict(re.findall(r"^([a-z-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
PACKAGES = {**PINS, "setuptools": "99.0", "nvidia-cublas": "1.0"}
PYTHON = str(Path(sysconfig.get_config_var("BINDIR"), "python3"))
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}
PLATFORMS = {
    f"{python}-{machine}-{system['sys_platform']}": {
        **system,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for python, (system, machine) in itertools.product(
        ("3.11", "3.12", "3.13"), ((LINUX, "x86_64"), (LINUX, "aarch64"), (MACOS, "arm64"))
    )
}


def read_lock(text):
    """Return the requirements of a lock, each with its hashes."""
    lines = re.sub(r"\\\n|^ *#.*", "", text, flags=re.MULTILINE).splitlines()
    entries = (re.split(r" +--hash=", line) for line in lines if line)
    return [(Requirement(entry[0]), entry[1:]) for entry in entries]


def wheel(folder, name, version, main=""):
    """Create the wheel of a package that can be imported and run with -m; return its path."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        f"{module}/__main__.py": main,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def index(folder, wheels):
    """Create a package index of wheels and return its address."""
    for path in wheels:
        page = folder / canonicalize_name(path.name.split("-")[0]) / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="{path.as_uri()}#sha256={sha256(path)}">{path.name}</a>')
    return folder.as_uri()


def lock(wheels):
    """Return the lock of wheels; those for NVIDIA GPUs are for Linux only."""
    lines = []
    for path in wheels:
        name, version = path.name.split("-")[:2]
        marker = " ; sys_platform == 'linux'" * name.startswith("nvidia")
        pin = f"{canonicalize_name(name)}=={version}{marker}"
        lines.append(f"{pin} \\\n    --hash=sha256:{sha256(path)}\n    # via nothing\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return [wheel(folder, name, version) for name, version in PACKAGES.items()]


@pytest.fixture(scope="module")
def cpu_index(tmp_path_factory):
    """An index like PyTorch's for CPU-only builds."""
    folder = tmp_path_factory.mktemp("cpu")
    names = ("torch", "torchvision")
    return index(folder / "simple", [wheel(folder, n, f"{PINS[n]}+cpu") for n in names])


def make_bare(course, wheels, home):
    """Return a clone with a lock of small packages, and make an index that has them."""
    course.git("clone", "--quiet", str(course.folder), str(home / "hpc-starter"))
    folder = home / "hpc-starter"
    (folder / "requirements.lock").write_text(lock(wheels))
    env = {k: v for k, v in clean_environment(home).items() if not k.startswith(("PIP", "UV"))}
    del env["VENV"]
    env["PIP_CONFIG_FILE"] = os.devnull
    env["PIP_INDEX_URL"] = index(home / "simple", wheels)
    env["PYTHON3"] = PYTHON
    return Clone(folder, env)


@pytest.fixture(scope="module")
def quick_python(tmp_path_factory):
    """A python3 whose -m venv env copies pip, which takes seconds less than to install it."""
    folder = tmp_path_factory.mktemp("python")
    packages = "env/lib/python3.*/site-packages"
    lines = [
        f'case "$*" in "-m venv "*env) ;; *) exec "{PYTHON}" "$@" ;; esac',
        f'[ -d "{folder}/env" ] || "{PYTHON}" -m venv "{folder}/env"',
        f'"{PYTHON}" "$@" --without-pip',
        f'cp -a "{folder}"/{packages}/. {packages}',
    ]
    script(folder / "python3", "\n".join(lines))
    return str(folder / "python3")


@pytest.fixture
def bare(course, wheels, tmp_path, quick_python):
    """A clone with a lock of small packages, whose PYTHON3 makes an environment quickly."""
    clone = make_bare(course, wheels, tmp_path)
    clone.env["PYTHON3"] = quick_python
    return clone


@pytest.fixture(scope="module")
def ready(course, wheels, tmp_path_factory):
    """A clone after make setup, and how make setup ended."""
    clone = make_bare(course, wheels, tmp_path_factory.mktemp("ready"))
    return clone, clone.run("make", "setup")


def installed(clone):
    """Return the names and versions of the packages that env/bin/python finds."""
    code = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    done = clone.run("env/bin/python", "-c", code)
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


def file_of(clone, module, python="env/bin/python"):
    done = clone.run(python, "-c", f"import {module}; print({module}.__file__)")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.parametrize(("requirements", "lock"), LOCKS.items())
def test_a_lock_agrees_with_the_pins(requirements, lock):
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / requirements).read_text(), re.MULTILINE))

    locked = {r.name: r for r, _ in read_lock((ROOT / lock).read_text())}

    assert len(pins) >= 8
    for name, version in pins.items():
        assert str(locked[name].specifier) == f"=={version}", "run make lock"
        assert locked[name].marker is None


@pytest.mark.parametrize("lock", LOCKS.values())
def test_every_package_in_a_lock_has_an_exact_version_and_hashes(lock):
    for requirement, hashes in read_lock((ROOT / lock).read_text()):
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", found) for found in hashes)


@pytest.mark.parametrize("lock", LOCKS.values())
def test_a_lock_names_no_address_and_no_folder(lock):
    text = (ROOT / lock).read_text()

    assert "/" not in text
    assert text.splitlines()[1].split() == ["#", "make", "lock"]


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_a_lock_is_complete_for_each_python_and_platform(platform):
    both = [r for name in LOCKS.values() for r, _ in read_lock((ROOT / name).read_text())]

    applies = [r for r in both if r.marker is None or r.marker.evaluate(platform)]

    names = {requirement.name for requirement in applies}
    assert len({(r.name, str(r.specifier)) for r in applies}) == len(names)
    assert set(PINS) <= names
    cuda = {"triton", "nvidia-cudnn-cu13", "cuda-toolkit"}
    assert names & cuda == (cuda if platform["sys_platform"] == "linux" else set())


def test_for_another_torch_setup_leaves_out_torch_and_the_packages_for_linux_only():
    pattern = re.search(r'drop "([^"]+)"', (ROOT / "tools/setup.sh").read_text())[1]
    packages = [r for r, _ in read_lock((ROOT / "requirements.lock").read_text())]

    left_out = {r.name for r in packages if re.fullmatch(pattern, r.name)}

    linux = {r.name for r in packages if 'sys_platform == "linux"' in str(r.marker)}
    assert left_out == {"torch", "torchvision", *linux}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("TORCH=gpu", "TORCH=gpu is not known: use pypi (PyTorch with CUDA on Linux), cpu"),
        ("INSTALLER=conda", "INSTALLER=conda is not known: use uv or pip."),
    ],
)
def test_an_unknown_choice_is_refused_in_one_sentence(bare, option, sentence):
    done = bare.run("make", "setup", option)

    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 2  # and the line of make
    assert not (bare.folder / "env").exists()


def test_a_folder_that_setup_did_not_make_is_left_alone(bare):
    (bare.folder / "env").mkdir()
    (bare.folder / "env/thesis.tex").write_text("mine")

    done = bare.run("make", "setup")

    assert done.returncode == 2
    assert "env exists, but make setup did not create it: delete it, or name" in done.stderr
    assert [path.name for path in (bare.folder / "env").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("option", "variables", "first"),
    [
        ("INSTALLER=", {}, "uv"),
        ("TORCH=cpu", {}, "uv"),
        ("INSTALLER=", {"PIP_INDEX_URL": "https://mirror.example"}, "setuptools"),
        ("INSTALLER=", {"REQUESTS_CA_BUNDLE": "ca.pem"}, "setuptools"),
        ("PIP_ARGS=--no-cache-dir", {}, "setuptools"),
        ("INSTALLER=pip", {}, "setuptools"),
        ("INSTALLER=uv", {"PIP_INDEX_URL": "https://mirror.example"}, "uv"),
    ],
)
def test_setup_uses_uv_unless_pip_has_settings(bare, tmp_path, option, variables, first):
    # in this environment, pip prints the settings in its variables and installs nothing
    pip = 'case "$*" in *config*) env | grep ^PIP_ || true ;; *) exit 1 ;; esac'
    environment, python, real = tmp_path / "python", tmp_path / "python3", bare.env["PYTHON3"]
    script(environment, pip)
    venv = f'mkdir -p env/bin; cp "{environment}" env/bin/python; exit'
    script(python, f'case "$*" in "-m venv "*) {venv} ;; esac\nexec "{real}" "$@"')
    ours = ("PIP_", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    clean = {k: v for k, v in bare.env.items() if not k.startswith(ours)}
    env = {**clean, "PYTHON3": str(python), **variables}

    done = bare.run("make", "setup", option, env=env)

    assert done.returncode == 2
    assert "pip could not install the packages" in done.stderr
    assert ("use TORCH=pypi" in done.stderr) == (option == "TORCH=cpu")
    assert (bare.folder / "env/part.lock").read_text().startswith(f"{first}==")


@pytest.mark.slow
def test_setup_installs_the_lock_and_the_next_call_does_nothing(ready):
    clone, first = ready
    second = clone.run("make", "setup")

    assert first.returncode == 0, first.stderr
    assert PACKAGES.items() <= installed(clone).items()
    assert "uv" not in installed(clone)  # pip has settings here
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


@pytest.mark.slow
def test_setup_with_uv_installs_the_lock_and_keeps_no_cache(bare, wheels, tmp_path):
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if not uv:
        pytest.skip("run make setup-dev: uv is missing")
    main = f"import os, sys\nos.execv({uv!r}, ['uv', *sys.argv[1:]])\n"
    uv_wheel = wheel(tmp_path, "uv", "0.1", main)
    index(tmp_path / "simple", [uv_wheel])
    (bare.folder / "requirements-dev.lock").write_text(lock([uv_wheel]))
    env = {**bare.env, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels[0].parent)}

    done = bare.run("make", "setup", "INSTALLER=uv", env=env)

    assert done.returncode == 0, done.stderr
    assert PACKAGES.items() <= installed(bare).items()
    assert file_of(bare, "lightning").parent.joinpath("__pycache__").is_dir()
    assert not (bare.folder / "env/.cache").exists()


@pytest.mark.slow
def test_a_package_with_another_hash_is_refused(bare, wheels):
    lock = bare.folder / "requirements.lock"
    [lightning] = [path for path in wheels if path.name.startswith("lightning-")]
    lock.write_text(lock.read_text().replace(sha256(lightning), 64 * "0"))

    done = bare.run("make", "setup")

    assert done.returncode == 2
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("pip could not install the packages: see its")
    assert not (bare.folder / "env/.setup").exists()


@pytest.mark.slow
def test_a_new_lock_is_installed_over_the_old_one(bare, ready, wheels, tmp_path):
    shutil.copytree(ready[0].folder / "env", bare.folder / "env", symlinks=True)
    mark = file_of(bare, "lightning").parent / "mark"
    mark.touch()
    other = wheel(tmp_path, "torchmetrics", "99.0")
    shutil.rmtree(tmp_path / "simple/torchmetrics")
    index(tmp_path / "simple", [other])
    new = [path for path in wheels if not path.name.startswith("torchmetrics")] + [other]
    (bare.folder / "requirements.lock").write_text(lock(new))

    done = bare.run("make", "setup")

    assert done.returncode == 0, done.stderr
    assert installed(bare)["torchmetrics"] == "99.0"
    assert mark.exists()


@pytest.mark.slow
def test_the_cpu_builds_come_from_their_index_and_stay(bare, cpu_index):
    first = bare.run("make", "setup", "TORCH=cpu", f"CPU_INDEX={cpu_index}")
    cpu = installed(bare)
    second = bare.run("make", "setup")
    activated = {**bare.env, "PYTHON3": "env/bin/python3"}
    third = bare.run("make", "setup", "TORCH=pypi", env=activated)

    assert first.returncode == 0, first.stderr
    assert cpu["torch"] == PINS["torch"] + "+cpu"
    assert cpu["torchvision"] == PINS["torchvision"] + "+cpu"
    assert cpu["lightning"] == PINS["lightning"]
    assert "nvidia-cublas" not in cpu
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert third.returncode == 0, third.stderr
    assert PACKAGES.items() <= installed(bare).items()


def module(folder, name, version):
    """Create a package in a folder, as a module of the site provides it."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"__version__ = {version!r}\n")
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def site_in_a_virtual_environment(clone, tmp_path):
    command = [clone.env["PYTHON3"], "-m", "venv", "--without-pip", str(tmp_path / "site")]
    subprocess.run(command, check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    clone.env["PYTHON3"] = str(tmp_path / "site/bin/python")
    return tmp_path / "site/lib" / version / "site-packages"


def site_in_a_module(clone, tmp_path):
    clone.env["PYTHONPATH"] = str(tmp_path / "module")
    return tmp_path / "module"


def site_beside_python(clone, tmp_path):
    # of the folders with a Python's own packages, only this one can be moved
    clone.env["PYTHONUSERBASE"] = str(tmp_path / "base")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return tmp_path / "base/lib" / version / "site-packages"


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_site", [site_in_a_virtual_environment, site_in_a_module, site_beside_python]
)
def test_the_torch_of_a_site_is_used_and_not_replaced(bare, make_site, tmp_path):
    site = make_site(bare, tmp_path)
    for name in ("torch", "torchvision"):
        module(site, name, "2.5.1")

    done = bare.run("make", "setup", "TORCH=site")

    assert done.returncode == 0, done.stderr
    found = installed(bare)
    assert file_of(bare, "torch").parent == site / "torch"
    assert found["torch"] == "2.5.1"
    assert found["lightning"] == PINS["lightning"]
    assert "nvidia-cublas" not in found
    assert "warning" not in done.stdout


@pytest.mark.slow
def test_a_module_that_hides_a_locked_package_is_named(bare, tmp_path):
    site = site_in_a_module(bare, tmp_path)
    for name, version in (("torch", "2.5.1"), ("torchvision", "0.20.1"), ("lightning", "2.0.0")):
        module(site, name, version)

    done = bare.run("make", "setup", "TORCH=site")

    assert done.returncode == 0, done.stderr
    pin = PINS["lightning"]
    warning = f"warning: Python imports lightning 2.0.0 of your site, not the installed {pin}"
    assert warning in done.stdout


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (None, "cannot import torch and torchvision (ModuleNotFoundError: No module named 'torch'"),
        ("1.13.1", "has PyTorch 1.13.1 and the lessons need PyTorch 2: load another module, or"),
    ],
)
def test_an_unfit_torch_of_a_site_is_refused_in_one_sentence(bare, tmp_path, version, sentence):
    site = site_in_a_module(bare, tmp_path)
    if version:
        for name in ("torch", "torchvision"):
            module(site, name, version)

    done = bare.run("make", "setup", "TORCH=site")

    assert done.returncode == 2
    assert done.stderr.startswith(f"TORCH=site, but {bare.env['PYTHON3']} {sentence}")
    assert done.stderr.count("\n") == 2  # and the line of make
    assert not (bare.folder / "env").exists()


def kill_when(begun, clone, number):
    """Send a signal to all processes of make setup once `begun` returns True; return its errors."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    session = {"start_new_session": True, "preexec_fn": accept_signals}
    process = subprocess.Popen(
        ["make", "setup"], cwd=clone.folder, env=clone.env, **pipes, **session
    )
    while process.poll() is None and not begun():
        time.sleep(0.02)
    assert process.returncode is None, "setup ended by itself"
    os.killpg(process.pid, number)
    _, errors = process.communicate()
    assert process.returncode != 0
    return errors


@pytest.mark.slow
def test_a_setup_that_is_killed_while_it_makes_the_environment_is_repeated(bare, tmp_path):
    real, wrapper, begun = bare.env["PYTHON3"], tmp_path / "python3", tmp_path / "begun"
    half = f'mkdir -p env/bin; echo half >env/bin/python; touch "{begun}"; exec sleep 600'
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in "-m venv "*) {half} ;; esac\nexec "{real}" "$@"\n')
    wrapper.chmod(0o755)
    bare.env["PYTHON3"] = str(wrapper)
    kill_when(begun.exists, bare, signal.SIGKILL)
    bare.env["PYTHON3"] = real

    done = bare.run("make", "setup")

    assert done.returncode == 0, done.stderr
    assert PACKAGES.items() <= installed(bare).items()


@pytest.fixture
def slow_index(wheels, tmp_path):
    """An index on loopback that holds back lightning until an event is set."""
    asked, go_on = threading.Event(), threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/wheels/lightning-"):
                asked.set()
                go_on.wait()
            super().do_GET()

        def log_message(self, *args):
            pass

    shutil.copytree(wheels[0].parent, tmp_path / "wheels")
    for path in wheels:
        page = tmp_path / "index" / canonicalize_name(path.name.split("-")[0]) / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f'<a href="/wheels/{path.name}">{path.name}</a>')
    handler = functools.partial(Handler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index", asked, go_on
    go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "sentence"),
    [(signal.SIGINT, "interrupted: run make setup again"), (signal.SIGKILL, "")],
    ids=["Ctrl-C", "kill"],
)
def test_a_setup_that_is_interrupted_while_it_installs_is_repeated(
    bare, slow_index, number, sentence
):
    bare.env["PIP_INDEX_URL"], asked, go_on = slow_index
    errors = kill_when(asked.is_set, bare, number)
    finished = (bare.folder / "env/.setup").exists()
    [packages] = (bare.folder / "env/lib").glob("python3.*/site-packages")
    (packages / "half_a_package").mkdir()

    go_on.set()
    done = bare.run("make", "setup")

    assert sentence in errors
    assert not finished
    assert done.returncode == 0, done.stderr
    assert PACKAGES.items() <= installed(bare).items()
    assert not (packages / "half_a_package").exists()
