"""The Makefile on machines with missing tools, and make run in a fresh clone: make test."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clone import Clone, clean_environment
from log_lines import unexpected_lines

# treats the environment as up to date, whatever the age of the clone's files
UP_TO_DATE = [
    "--assume-old=requirements.lock",
    f"VENV={sys.prefix}",
    "MADE_WITH=pypi",
    "TORCH=pypi",
]
NOWHERE = "https://127.0.0.1:9/mnist"


@pytest.fixture
def bare(course, tmp_path):
    """A clone without branches and data."""
    course.git("clone", "--quiet", str(course.folder), str(tmp_path / "hpc-starter"))
    return Clone(tmp_path / "hpc-starter", clean_environment(tmp_path))


@pytest.fixture
def only(tmp_path):
    """Return a function that makes a folder for PATH with only the named tools."""

    def link(*names):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(shutil.which(name))
        return str(folder)

    return link


def test_help_is_the_default_and_names_every_target(bare):
    shown = bare.run("make").stdout
    phony = re.search(r"^\.PHONY: (.*)", (bare.folder / "Makefile").read_text(), re.MULTILINE)[1]

    internal = {"needs", "needs-python", "another-torch", "safe-loads", "setup-dev"}
    targets = set(phony.split()) - internal

    assert set(re.findall(r"^make ([a-z-]+)", shown, re.MULTILINE)) == targets


@pytest.mark.parametrize(
    ("target", "marks"),
    [
        ("test-fast", '"not slurm and not slow and not gpu and not long"'),
        ("test", '"not long"'),
        ("test-long", "long"),
    ],
)
def test_each_test_target_chooses_its_tests(bare, target, marks):
    done = bare.run("make", *UP_TO_DATE, "--assume-old=requirements-dev.lock", "-n", target)

    assert f"-m pytest -m {marks} " in f"{done.stdout} ".replace("\n", " "), done.stderr


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        ([], "git is missing: install it with your system's packages"),
        (["git"], "python3 is missing: install Python 3.11, 3.12 or 3.13"),
    ],
)
def test_a_missing_tool_is_named_in_one_sentence(bare, only, there, sentence):
    path = only("make", "sh", *there)

    done = bare.run(shutil.which("make"), "setup", env={**bare.env, "PATH": path})

    assert done.returncode == 2
    assert sentence in done.stderr
    assert len([line for line in done.stderr.splitlines() if "***" not in line]) == 1


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        ("version_info", "but the pinned packages need 3.11, 3.12 or 3.13: name one, such as make"),
        (
            "ensurepip",
            "python3 has no venv module: install it (Debian: apt-get install python3-venv)",
        ),
    ],
)
def test_an_unsupported_python_is_reported_in_one_sentence(bare, only, fails, sentence):
    path = only("make", "sh", "git", "grep")
    python = Path(path, "python3")
    python.write_text(f'#!/bin/sh\necho "$*" | grep -q {fails} && exit 1\nexit 0\n')
    python.chmod(0o755)

    done = bare.run(shutil.which("make"), "setup", env={**bare.env, "PATH": path})

    assert done.returncode == 2
    assert sentence in done.stderr


@pytest.mark.slow
def test_make_run_from_a_bare_clone_trains_on_the_sample(bare):
    env = {**bare.env, "MNIST_MIRRORS": NOWHERE, "CIFAR10_MIRRORS": NOWHERE}

    by_default = bare.run("make", *UP_TO_DATE, "--dry-run", "run").stdout
    words = ["ARGS=trainer.max_epochs=1", "run"]
    done = bare.run("make", *UP_TO_DATE, *words, env=env, stderr=subprocess.STDOUT)

    assert " trainer.max_epochs=3\n" in by_default
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert "python data/make_sample.py" in done.stdout  # the sentence of get_mnist.sh
    assert "made 1-simple-model-training" in lines
    assert len(re.findall(r"test loss [\d.]+ acc [\d.]+", done.stdout)) == 1
    assert len(lines) <= 40
    training = "\n".join(lines[next(k for k, line in enumerate(lines) if " INFO " in line) : -1])
    assert unexpected_lines(training) == []
    assert "INFO data: cifar-10-batches-py, sample: 1800 drawn shapes" in training
    # logs/cifar10 is left to the lessons, whose pages show version_0
    assert lines[-2].endswith(" INFO logs: logs/first_run/version_0")
    assert (bare.folder / "logs/first_run/version_0/DONE.json").is_file()
    assert [path.name for path in (bare.folder / "logs").iterdir()] == ["first_run"]
    assert lines[-1].startswith("To see the curves, run ")
    assert lines[-1].endswith("/tensorboard --logdir logs and open http://localhost:6006")


@pytest.mark.slow
def test_make_run_uses_existing_data(bare, sample_data):
    mirrors = {"MNIST_MIRRORS": NOWHERE, "CIFAR10_MIRRORS": NOWHERE}
    env = {**bare.env, **mirrors, "DATA_DIR": str(sample_data)}

    done = bare.run("make", *UP_TO_DATE, "data", env=env)

    assert done.returncode == 0, done.stderr
    assert not (bare.folder / "data/MNIST").exists()
    assert not (bare.folder / "data/cifar-10-batches-py").exists()


def test_a_path_that_slurm_would_expand_is_reported_before_the_first_job(bare):
    clone = bare.folder.rename(bare.folder.with_name("100%j"))
    (clone / "mine").mkdir()
    (clone / "mine/notes.txt").touch()

    done = bare.run("make", "setup", "VENV=mine", cwd=clone)

    assert f"warning: Slurm cannot write the logs of jobs below {clone}: clone to" in done.stderr


@pytest.mark.slow
def test_the_path_of_the_clone_may_contain_special_characters(bare):
    clone = bare.folder.rename(bare.folder.with_name("it's mine (2) & ~x"))

    done = bare.run("make", *UP_TO_DATE, "run", "ARGS=--dry-run", cwd=clone)

    assert done.returncode == 0, done.stderr
    assert f'#SBATCH --chdir="{clone}"' in done.stdout


def test_the_data_folder_may_contain_a_space(bare, sample_data):
    folder = bare.folder.with_name("my data")
    folder.symlink_to(sample_data)

    done = bare.run("make", *UP_TO_DATE, "--dry-run", "run", f"DATA_DIR={folder}")

    assert done.returncode == 0, done.stderr
    assert re.search(f"^DATA_DIR='{folder}' .*python -u run.py --local ", done.stdout, re.MULTILINE)


def test_an_environment_with_a_space_in_its_path_is_refused(bare):
    done = bare.run("make", "VENV=my env")

    assert done.returncode == 2
    assert (
        'VENV is "my env", but make cannot use a path with spaces: choose another.' in done.stderr
    )


@pytest.mark.parametrize("special", [";", "(", "'", "$$(id)", "\\"])
def test_an_environment_with_a_special_character_in_its_path_is_refused(bare, special):
    done = bare.run("make", f"VENV=my{special}env")

    assert done.returncode == 2
    sentence = "but make cannot use a path with a special character of the shell: choose another."
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (["docs", "ONLY={}"], "--only {}"),
        (["docs", "CHANGED={}"], "--number {}"),
        (["measure", "ONLY={}"], "--only {}"),
        (["-B", "setup", "PIP_ARGS={}"], "PIP_ARGS={}"),
    ],
)
def test_the_shell_runs_nothing_of_a_value(bare, words, quoted):
    value = "3; echo it's \"$(id)"
    given = [word.format(value.replace("$", "$$")) for word in words]

    shown = bare.run("make", "-n", *UP_TO_DATE, *given)

    assert quoted.format(shlex.quote(value)) in shown.stdout.replace("'\\''", "'\"'\"'")


def test_make_diff_takes_its_number_for_one_word(bare):
    done = bare.run("make", "diff", "N=3; echo more")

    assert done.returncode == 2
    assert done.stdout == ""
    assert "lessons.py: cannot diff lesson '3; echo more'; choose from 1 2" in done.stderr


def test_make_lessons_says_when_nothing_changed(bare):
    first = bare.run("make", "lessons").stdout
    second = bare.run("make", "lessons").stdout

    assert "made 3-improved-data-loading" in first
    assert second.count("\n") == 1
    assert second.endswith("nothing changed\n")


def test_make_clean_keeps_logs_data_and_environment(bare):
    kept = ["logs/mnist", "lightning_logs/version_0", "data/MNIST", "env/lib/__pycache__"]
    for name in [*kept, "src/__pycache__", ".ruff_cache"]:
        (bare.folder / name).mkdir(parents=True)

    bare.run("make", "clean", "VENV=env")

    assert all((bare.folder / name).exists() for name in kept)
    assert not (bare.folder / "src/__pycache__").exists()
    assert not (bare.folder / ".ruff_cache").exists()


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("torch.{load}(path, {safe}=False)", "leave weights_only at True"),
        ("export TORCH_FORCE_NO_WEIGHTS_ONLY_{LOAD}=1", "leave weights_only at True"),
        ("torch.{load}(path)", "Add weights_only=True."),
        ("Classifier.{load}_from_checkpoint(path)", "Add weights_only=True."),
    ],
)
def test_make_check_refuses_a_load_that_could_run_code(bare, line, remedy):
    before = bare.run("make", "safe-loads")
    with (bare.folder / "src/main.py").open("a") as file:
        # split, or make check would refuse this file too
        file.write(line.format(load="load", LOAD="LOAD", safe="weights_only") + "\n")

    after = bare.run("make", "safe-loads")

    assert before.returncode == 0, before.stderr
    assert after.returncode == 2
    assert "src/main.py:" in after.stdout
    assert remedy in after.stderr
