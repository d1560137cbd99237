"""Read the files of each lesson: the program of lesson N is layers 1 to N on top of each other."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# the parts of the root that form the program of the last lesson; a layer contains no others
PROGRAM = ("run.py", "run.sh", "src", "configs")
# files that are the same on all lesson branches
SHARED = (
    *("README.md", "LICENSE", ".gitignore", ".img", "docs", "data", "cluster"),
    *("check.py", "checks", "start_lesson.py"),
    *("requirements.txt", "requirements.lock", "requirements-bolts.txt", "requirements-mlflow.txt"),
    "site.example.sh",
)
NAME = re.compile(r"([1-9][0-9]*)-[a-z0-9][a-z0-9-]*")

# path -> its line for `git update-index --index-info`, with mode and hash of the content
Files = dict[str, str]


@dataclass
class Lesson:
    """A lesson as stored in a tree of main."""

    number: int
    name: str
    message: str
    layer: Files = field(default_factory=dict)  # what it adds or changes
    program: Files = field(default_factory=dict)  # layers 1 to number, on top of each other

    @property
    def removes(self) -> list[str]:
        """The files of the previous lesson that this lesson removes."""
        return re.findall(r"^Removes: *(.*\S)", self.message, re.MULTILINE)


def git(
    *args: str, stdin: str = "", ok: int = 0, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git; an exit code above `ok` ends the program with git's message."""
    # GIT_DIR or GIT_INDEX_FILE from a caller, such as a hook, would select another repository
    foreign = re.compile("GIT_(?!CONFIG|EXEC_PATH|DISCOVERY|CEILING)")
    inherited = {k: v for k, v in os.environ.items() if not foreign.match(k)}
    inherited.update(GIT_NO_REPLACE_OBJECTS="1", GIT_OPTIONAL_LOCKS="0", **(env or {}))
    try:
        ran = subprocess.run(
            ("git", *args), input=os.fsencode(stdin), capture_output=True, env=inherited
        )
    except FileNotFoundError:
        raise SystemExit("git: command not found. Install git, or load its module.") from None
    out, err = os.fsdecode(ran.stdout), " ".join(os.fsdecode(ran.stderr).split())
    if not 0 <= ran.returncode <= ok:
        raise SystemExit(f"git {args[0]} failed: {err}")
    return subprocess.CompletedProcess(args, ran.returncode, out, err)


@contextmanager
def snapshot() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the working tree as a git tree, and the environment of the repository with that tree.

    The repository is temporary: the clone and its index do not change, and the folder need not be
    a clone. Ignored files are left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        env = {"GIT_DIR": folder, "GIT_WORK_TREE": str(Path.cwd())}
        git("init", "--quiet", env=env)
        present = [path for path in ("lessons", *PROGRAM, *SHARED) if os.path.lexists(path)]
        git("add", "--all", "--", *present, env=env)
        yield git("write-tree", env=env).stdout.strip(), env


def read_tree(treeish: str, env: Mapping[str, str] | None = None) -> Files:
    listing = git("ls-tree", "-r", "-z", "--full-tree", treeish, env=env).stdout
    lines = listing.split("\0")[:-1]
    return {line.partition("\t")[2]: line for line in lines}


def write_tree(files: Files, env: Mapping[str, str] | None = None) -> str:
    """Write the files as a tree through a private index, and return its hash."""
    with tempfile.TemporaryDirectory() as folder:
        private = {**(env or {}), "GIT_INDEX_FILE": str(Path(folder, "index"))}
        add_to_index(files, private)
        return git("write-tree", "--missing-ok", env=private).stdout.strip()


def add_to_index(files: Files, env: Mapping[str, str]) -> None:
    lines = "".join(f"{line}\0" for line in files.values())
    git("update-index", "-z", "--index-info", stdin=lines, env=env)


def below(files: Files, folder: str) -> Files:
    """Return the files in a folder, with paths relative to it."""
    found = {path: line for path, line in files.items() if path.startswith(f"{folder}/")}
    return {
        path[len(folder) + 1 :]: line.replace(f"\t{folder}/", "\t", 1)
        for path, line in found.items()
    }


def top_level(files: Files, parts: Iterable[str]) -> Files:
    """Return the files that are one of the parts or in one of them."""
    return {path: line for path, line in files.items() if path.split("/")[0] in parts}


def read_lessons(files: Files, env: Mapping[str, str] | None = None) -> list[Lesson]:
    """Return the lessons of a tree in their order.

    Raises:
        SystemExit: if the layers do not make a course.
    """
    for path, line in files.items():
        if line.startswith("160000 "):
            raise SystemExit(f"{path} is a separate git repository: move it elsewhere.")
    entries = below(files, "lessons")
    lessons = [
        Lesson(number, name, read_message(entries[f"{name}.txt"], env))
        for number, name in numbered(entries).items()
    ]
    program: Files = {}
    for lesson in lessons:
        lesson.layer = below(entries, lesson.name)
        if lesson is lessons[-1]:
            use_the_root(lesson, top_level(files, PROGRAM), program)
        check_layer(lesson, program, files)
        kept = {path: line for path, line in program.items() if path not in lesson.removes}
        lesson.program = program = {**kept, **lesson.layer}
    if lessons:
        lessons[-1].program = top_level(files, PROGRAM)
    return lessons


def numbered(entries: Files) -> dict[int, str]:
    """Return number -> name, from the messages N-name.txt and layers N-name/ in lessons/."""
    messages = {path[:-4] for path in entries if path.endswith(".txt") and "/" not in path}
    found: dict[int, str] = {}
    for name in sorted({path.split("/")[0] for path in entries if "/" in path} | messages):
        match = NAME.fullmatch(name)
        if not match:
            raise SystemExit(
                f"lessons/{name} is not a lesson's name: call it N-name, such as 9-requeue"
            )
        other = found.setdefault(int(match[1]), name)
        if other != name:
            raise SystemExit(f"lesson {match[1]} exists twice: rename {other} or {name}.")
        if name not in messages:
            begin = f"write lessons/{name}.txt, beginning with `Lesson {match[1]}: `."
            raise SystemExit(f"lessons/{name}/ has no message: {begin}")
    strays = [path for path in entries if "/" not in path and not path.endswith(".txt")]
    if strays:
        raise SystemExit(f"lessons/{strays[0]} is neither a message N-name.txt nor a layer N-name/")
    for number in range(1, max(found, default=0)):
        if number not in found:
            raise SystemExit(f"lesson {number} is missing: lessons are numbered without gaps.")
    return dict(sorted(found.items()))


def read_message(line: str, env: Mapping[str, str] | None) -> str:
    return git("cat-file", "blob", line.split()[2], env=env).stdout.strip()


def use_the_root(lesson: Lesson, root: Files, before: Files) -> None:
    """Fill in the last lesson, which has no folder: its program is in the root.

    Raises:
        SystemExit: if it has a folder.
    """
    if lesson.layer:
        raise SystemExit(
            f"delete lessons/{lesson.name}/: the last lesson is the program in the root."
        )
    lesson.layer = {path: line for path, line in root.items() if before.get(path) != line}


def check_layer(lesson: Lesson, before: Files, files: Files) -> None:
    """Refuse shared files, files outside the program, and removals of files that do not exist."""
    where = f"lessons/{lesson.name}"
    for path in lesson.layer:
        first = path.split("/")[0]
        if first in SHARED:
            raise SystemExit(f"{where}/{path} has a shared file's name: rename it.")
        if first not in PROGRAM:
            raise SystemExit(
                f"{where}/{path} is not part of the program: it must be {' or '.join(PROGRAM)}."
            )
        kept = [other for other in before if other not in lesson.removes]
        if clash := [other for other in kept if is_below(path, other) or is_below(other, path)]:
            raise SystemExit(
                f"{where}/{path} clashes with {clash[0]}, both a file and a folder: rename one."
            )
    for path in lesson.removes:
        if path not in before or path in lesson.layer:
            has_it = path in lesson.layer
            why = "which it contains" if has_it else "which is not a file of an earlier lesson"
            raise SystemExit(f"{where}.txt removes {path}, {why}: delete that line.")
    if not lesson.message.startswith(f"Lesson {lesson.number}: "):
        raise SystemExit(f"{where}.txt must begin with `Lesson {lesson.number}: `.")


def uncommitted(*paths: str) -> list[str]:
    """Return the files below the paths that differ from the commit or are not in it."""
    listing = git("status", "--porcelain", "-z", "-uall", "--no-renames", "--", *paths).stdout
    return [entry[3:] for entry in listing.split("\0") if entry]


def is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def check_steps(lessons: list[Lesson]) -> None:
    """Refuse files that have no effect on a step, and removals that no message announces.

    The first are files of a layer that equal the file of an earlier layer; the second are files
    that are missing from the root although no message removes them.

    Raises:
        SystemExit: with the file and the remedy.
    """
    for lesson in lessons[1:]:
        before, where = lessons[lesson.number - 2], f"lessons/{lesson.name}"
        for path, line in lesson.layer.items():
            if before.program.get(path) == line:
                same = f"equals the file of lesson {before.number}"
                raise SystemExit(f"{where}/{path} {same}: delete it.")
        for path in before.program:
            if path not in lesson.program and path not in lesson.removes:
                raise SystemExit(
                    f"the root lacks {path}, which lesson {before.number} has: restore it,"
                    f" or add the line `Removes: {path}` to {where}.txt."
                )
