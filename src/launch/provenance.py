"""Record in a run's folder what is needed to repeat the run: code, command, commit, packages."""

import ast
import errno
import os
import shlex
import shutil
import subprocess
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# whether this program is the copy in a run's folder, which has only what it imports
IS_COPY = not (ROOT / "cluster").is_dir()
# what this file writes into the folder of a run
RECORDS = ("code", "config.yaml", "command.txt", "commit.txt", "changes.diff", "packages.txt")


def record_run(folder, arguments):
    """Copy the program to folder/code, and write the command and the commit beside it.

    A job runs this copy: while it waits, the files of the repository may change.

    Raises:
        OSError: if something cannot be written.
    """
    copy_program(folder / "code")
    record_command(folder, arguments)
    record_commit(folder)


def record_command(folder, arguments, mode="w"):
    """Write the command; mode="a" adds that of a continuation."""
    command = shlex.join(["python", "run.py", *arguments])
    with (folder / "command.txt").open(f"{mode}b") as file:
        file.write(os.fsencode(command + "\n"))


def record_packages(folder):
    """Write the versions of all installed packages, in the format of requirements.txt."""
    found = {f"{package.name}=={package.version}\n" for package in distributions()}
    (folder / "packages.txt").write_text("".join(sorted(found, key=str.lower)))


def record_commit(folder):
    """Write the commit, and the edits since then if there are any."""
    if IS_COPY:
        for name in ("commit.txt", "changes.diff"):
            if (ROOT.parent / name).is_file():
                shutil.copy(ROOT.parent / name, folder)
        return
    commit = git("rev-parse", "HEAD")
    (folder / "commit.txt").write_text(commit or "unknown: git does not know this folder\n")
    changes = git(
        "diff", "--no-ext-diff", "HEAD", "--", "run.py", "configs", "src", "data", "cluster"
    )
    if changes:
        (folder / "changes.diff").write_text(changes)


def git(*words):
    """Return the output of a git command in the repository, or "" if it fails."""
    command = ["git", "-C", str(ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError:  # git is not installed
        return ""
    return done.stdout if done.returncode == 0 else ""


def copy_program(target):
    """Copy src, and the other files of the repository that it imports."""
    shutil.rmtree(target, ignore_errors=True)  # of an earlier run with the same number
    leave_out = shutil.ignore_patterns("__pycache__", ".*")
    try:
        shutil.copytree(
            ROOT / "src",
            target / "src",
            ignore=leave_out,
            ignore_dangling_symlinks=True,
        )
    except shutil.Error as error:  # lists all files that it could not copy
        _, file, reason = error.args[0][0]
        raise OSError(errno.EIO, reason, file) from None
    to_read = [file.relative_to(target) for file in target.rglob("*.py")]
    while to_read:
        for file in imported_files(to_read.pop()):
            if (ROOT / file).is_file() and not (target / file).exists():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, target / file)
                to_read.append(file)


def imported_files(file):
    """Return the files that a Python file would import if they are in the repository."""
    try:
        tree = ast.parse((ROOT / file).read_bytes())
    except (SyntaxError, ValueError):
        return set()  # Python reports the error when it imports the file
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {Path(*alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else Path()
            module = start.joinpath(*(node.module or "").split("."))
            names |= {module, *(module / alias.name for alias in node.names)}
    packages = {package for name in names for package in (name, *name.parents)}
    return {name.with_suffix(".py") for name in names if name.name} | {
        package / "__init__.py" for package in packages
    }
