"""What a run records in its folder to be repeated: make test-fast."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from clone import ARGUMENTS_LESSON
from login_node import FakeLoginNode

LESSONS = ["4-auto-slurm-script-generation", ARGUMENTS_LESSON]


@pytest.fixture(params=LESSONS)
def lesson(request):
    return request.param


@pytest.fixture
def login_node(lesson, module_clone, tmp_path):
    """A login node whose clone is on a lesson, without edits and logs."""
    module_clone.git("switch", "--quiet", lesson)
    yield FakeLoginNode(module_clone, tmp_path)
    module_clone.git("checkout", "--quiet", ".")
    module_clone.git("clean", "--quiet", "-d", "--force", "-x", "logs", "src", "mine")


def launched_run(login_node, *arguments):
    done = login_node.launch("--experiment_name=first", *arguments)
    assert done.returncode == 0, done.stderr
    return login_node.logs / "first/version_0"


def files(folder):
    """Return path -> content of the files in a folder, without byte code."""
    found = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_text() for path in found if path.is_file()}


def test_the_code_is_copied_as_it_was_at_the_launch(login_node):
    edited = login_node.folder / "src/main.py"
    edited.write_text(edited.read_text() + "# edited\n")
    (login_node.folder / "src/new.py").write_text("# not in git\n")

    run = launched_run(login_node)
    copy = files(run / "code")

    expected = {f"src/{name}": text for name, text in files(login_node.folder / "src").items()}
    for name in ("run.py", "data/__init__.py", "data/check.py"):
        expected[name] = (login_node.folder / name).read_text()
    assert copy == expected
    assert (run / "commit.txt").read_text() == login_node.clone.git("rev-parse", "HEAD")
    assert "+# edited" in (run / "changes.diff").read_text()


def test_without_edits_there_is_no_diff(login_node):
    run = launched_run(login_node)

    assert not (run / "changes.diff").exists()


def test_modules_outside_src_are_copied_if_the_program_imports_them(login_node):
    mine = login_node.folder / "mine/tools"
    mine.mkdir(parents=True)
    (login_node.folder / "mine/__init__.py").write_text("")
    (mine / "__init__.py").write_text("from . import colours\n")
    (mine / "colours.py").write_text("from ..names import NAMES\n")
    (mine.parent / "names.py").write_text("NAMES = []\n")
    (mine.parent / "unused.py").write_text("")
    with (login_node.folder / "src/main.py").open("a") as program:
        program.write("import mine.tools\n")

    run = launched_run(login_node)

    copied = {str(path.relative_to(run / "code")) for path in (run / "code/mine").rglob("*.py")}
    names = ("__init__.py", "names.py", "tools/__init__.py", "tools/colours.py")
    assert copied == {f"mine/{name}" for name in names}


def test_each_trial_records_its_own_command(login_node):
    run = launched_run(login_node, "--nb_trials=2")

    rates = []
    for number in (0, 1):
        words = shlex.split((run.with_name(f"version_{number}") / "command.txt").read_text())
        assert words[:2] == ["python", "run.py"]
        rates += [word for word in words if word.startswith("--learning_rate=")]
    assert len(set(rates)) == 2


def test_the_copy_of_a_copy_keeps_the_commit(login_node):
    edited = login_node.folder / "src/main.py"
    edited.write_text(edited.read_text() + "# edited\n")
    run = launched_run(login_node)
    login_node.clone.git("checkout", "--quiet", ".")
    login_node.clone.git("commit", "--quiet", "--allow-empty", "--message=Later")

    done = login_node.clone.run(
        *(sys.executable, str(run / "code/run.py"), "--experiment_name=again"), env=login_node.env
    )
    again = login_node.logs / "again/version_0"
    login_node.clone.git("reset", "--quiet", "--hard", "HEAD~1")

    assert done.returncode == 0, done.stderr
    assert (again / "commit.txt").read_text() == (run / "commit.txt").read_text()
    assert (again / "changes.diff").read_text() == (run / "changes.diff").read_text()
    assert files(again / "code") == files(run / "code")


def test_a_clone_without_git_says_so(login_node):
    login_node.install("git", "#!/bin/bash\nexit 128\n")

    run = launched_run(login_node)

    assert (run / "commit.txt").read_text().startswith("unknown")
    assert (run / "code/run.py").is_file()


@pytest.fixture
def small_disk(login_node):
    """A folder of the clone with less room than the program needs."""
    folder = login_node.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--local"]], ids=["job", "local"])
def test_a_start_on_a_full_disk_leaves_nothing(login_node, small_disk, arguments):
    done = login_node.launch("--experiment_name=first", "--log_path=small", *arguments)

    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "choose another --log_path" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not login_node.scripts()
    assert not [path for path in small_disk.rglob("*") if path.is_file()]
    assert not list(small_disk.rglob("version_*"))


@pytest.mark.slow
def test_a_run_is_repeated_by_its_recorded_command(login_node, lesson):
    python = {"python": sys.executable}
    arguments = ["--local", "--max_epochs=1", "--seed=7"]
    # lesson 4 has no other network
    arguments += ["--arch=fully_connected"] if lesson == ARGUMENTS_LESSON else []
    first = login_node.clone.run(sys.executable, "run.py", *arguments)
    assert first.returncode == 0, first.stderr
    [run] = login_node.logs.glob("*/version_0")
    command = [python.get(word, word) for word in shlex.split((run / "command.txt").read_text())]

    second = login_node.clone.run(*command, "--local")

    assert second.returncode == 0, second.stderr
    [again] = login_node.logs.glob("*/version_1")
    assert (again / "DONE.json").read_text() == (run / "DONE.json").read_text()
    settings = [yaml.safe_load((folder / "hparams.yaml").read_text()) for folder in (run, again)]
    assert {
        name: settings[0][name] for name in settings[0] if settings[0][name] != settings[1][name]
    } == {"run_number": 0}
    packages = (run / "packages.txt").read_text().splitlines()
    for name in ("torch", "lightning"):
        assert [package for package in packages if package.startswith(f"{name}==")]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["folder", "data"])
def test_a_start_that_fails_leaves_no_folder(login_node, what):
    broken = {"folder": "/dev/null/logs", "data": "logs"}[what]
    arguments = ["--local", f"--log_path={broken}", "--data_dir=nowhere"]

    done = login_node.clone.run(sys.executable, "run.py", *arguments)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not list(Path(login_node.logs).rglob("version_*"))
