"""Build, show, export and extend the lessons, which are layers on main."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from carry import carry
from endings import quiet_interrupt
from layers import (
    NAME,
    PROGRAM,
    SHARED,
    Files,
    Lesson,
    add_to_index,
    check_steps,
    git,
    read_lessons,
    read_tree,
    snapshot,
    top_level,
    uncommitted,
    write_tree,
)

LESSONS = Path("lessons")
# Author and committer of every generated commit. A learner's commit, amend or rebase has another
# committer, so a tip with this one is ours, in any kind of clone and however far main has advanced.
STAMP = "HPC Starter <lessons@hpc-starter.invalid> 1735689600"


def enter_clone() -> None:
    """Change to the top folder of the clone, to which all paths are relative."""
    unpacked = Path("tools/lessons.py").exists() and not Path(".git").exists()
    found = git("rev-parse", "--git-dir", ok=255)
    if unpacked or found.returncode:
        need = "is not a git clone; the lesson branches need one: git clone <address of the course>"
        raise SystemExit(f"{Path.cwd()} {need} ({found.stderr or 'no .git'})")
    os.chdir(git("rev-parse", "--show-toplevel", ok=255).stdout.strip("\n") or ".")


# --- branches


def source_commit(wanted: str | None) -> tuple[str, str]:
    """Return name and hash of the commit from which the branches are built."""
    for name in (
        [wanted] if wanted is not None else ["refs/heads/main", "refs/remotes/origin/main", "HEAD"]
    ):
        found = git("rev-parse", "-q", "--verify", f"{name}^{{commit}}", ok=255)
        if found.stdout and git("ls-tree", found.stdout.strip(), "lessons").stdout:
            return re.sub("^refs/(heads|remotes)/", "", name), found.stdout.strip()
    remedy = "fetch it (git fetch origin main:main), or name another commit with --source."
    label = repr(wanted) if wanted is not None else "main"
    raise SystemExit(f"{label} is missing, or has no folder lessons/: {remedy}")


def write_commit(lesson: Lesson, root: str, parents: list[str]) -> str:
    # not commit-tree: the object is written byte by byte, so that no git setting can change it
    lines = [f"tree {root}", *(f"parent {commit}" for commit in parents)]
    stamps = [f"author {STAMP} +0000", f"committer {STAMP} +0000"]
    text = "\n".join([*lines, *stamps, "", lesson.message, ""])
    return git("hash-object", "-t", "commit", "-w", "--stdin", stdin=text).stdout.strip()


def build(source: str) -> dict[str, str]:
    """Return branch -> new commit; each commit is the child of the previous one."""
    files = read_tree(source)
    shared, lessons = top_level(files, SHARED), read_lessons(files)
    check_steps(lessons)
    commits: dict[str, str] = {}
    for lesson in lessons:
        root = write_tree({**shared, **lesson.program})
        commits[lesson.name] = write_commit(lesson, root, list(commits.values())[-1:])
    return commits


def checked_out() -> dict[str, str]:
    """Return ref -> folder of the worktree that has it checked out; "" during rebase or bisect."""
    places: dict[str, str] = {}
    for block in git("worktree", "list", "--porcelain").stdout.strip().split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in block.splitlines())
        place = places[fields.get("branch", "")] = fields["worktree"]
        own = git("-C", place, "rev-parse", "--absolute-git-dir", ok=255).stdout.strip()
        for file in (*Path(own).glob("rebase-*/head-name"), *Path(own).glob("BISECT_START")):
            places["refs/heads/" + file.read_text().strip().replace("refs/heads/", "")] = ""
    return places


def reason_to_keep(name: str, new: str, refs: dict[str, str], places: dict[str, str]) -> str:
    """Return why the learner's branch must not move, and what to do; empty if it may move."""
    head, version = f"refs/heads/{name}", f"New version: git diff pristine/{name}"
    tip = refs.get(head, new)
    form = "--pretty=format:%an <%ae> %at%x09%cn <%ce> %ct%x09%s"
    log = git("rev-list", "--encoding=UTF-8", form, tip).stdout.strip("\n").split("\n")
    yours = sum(f"\t{STAMP}\t" not in line for line in log[1::2])
    if yours:
        also = " on top of the newest version" if f"commit {new}" in log else ""
        return f"it has {yours} commit{'s' * (yours > 1)} of yours{also}. {version}"
    if not log[1].startswith(f"{STAMP}\t{STAMP}\tLesson {name.split('-')[0]}: "):
        return f"it points at another lesson. {version}"
    if head in places and refs.get(head) != new:
        # --keep preserves uncommitted edits, or refuses and changes nothing
        take = f"New version: git -C '{places[head]}' reset --keep pristine/{name}"
        return (
            f"checked out. {take}"
            if places[head]
            else f"in the middle of a rebase or bisect. {version}"
        )
    nested = [ref[11:] for ref in refs if ref.startswith(f"{head}/")]
    return f"your branch {nested[0]} blocks its name. {version}" if nested else ""


def branches(wanted: str | None) -> None:
    label, source = source_commit(wanted)
    commits, places = build(source), checked_out()
    listing = git("for-each-ref", "--format=%(refname) %(objectname)").stdout.splitlines()
    refs = dict(line.split(" ") for line in listing)
    goal = {f"refs/pristine/{name}": new for name, new in commits.items()}
    for name, new in commits.items():
        reason = reason_to_keep(name, new, refs, places)
        if reason:
            print(f"kept {name}: {reason}")
        else:
            goal[f"refs/heads/{name}"] = new
    changed = {ref: new for ref, new in goal.items() if refs.get(ref) != new}
    # one transaction: it fails as a whole if any ref has changed in the meantime
    lines = [f"update {k} {new} {refs.get(k, '0' * len(new))}\n" for k, new in changed.items()]
    git("update-ref", "-m", f"lessons from {source}", "--stdin", stdin="".join(lines))
    for ref in (ref for ref in changed if ref.startswith("refs/heads/")):
        print("moved" if ref in refs else "made", ref[11:])
    if LESSONS.is_dir() and (edits := uncommitted("lessons", *PROGRAM, *SHARED)):
        print(f"not in the branches until committed: {', '.join(edits)}")
    print(f"{len(commits)} branches from {label} {source[:7]}{': nothing changed' * (not changed)}")


# --- diff, export, new: of the working tree


def show_diff(lessons: list[Lesson], number: int, env: Mapping[str, str]) -> None:
    sides: list[Files] = [{}, *(lesson.program for lesson in lessons)]
    trees = [write_tree(side, env) for side in sides[number - 1 : number + 1]]
    done = subprocess.run(("git", "diff", *trees), env={**os.environ, **env})
    raise SystemExit(done.returncode)


def export(lesson: Lesson, files: Files, folder: Path, env: Mapping[str, str]) -> None:
    """Write the complete files of a lesson to a new or empty folder.

    Raises:
        SystemExit: if the folder contains files.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise SystemExit(f"{folder} is not an empty folder: name a new one.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        private = {**env, "GIT_INDEX_FILE": str(Path(scratch, "index"))}
        add_to_index({**top_level(files, SHARED), **lesson.program}, private)
        git("checkout-index", "--all", f"--prefix={folder.absolute()}/", env=private)
    print(f"{lesson.name} is in {folder}")


def new(lessons: list[Lesson], name: str) -> None:
    """Save the program in the root as the layer of the last lesson, and begin the next lesson.

    Raises:
        SystemExit: if the name does not fit the next lesson, or if the program
            has uncommitted edits.
    """
    number, last = len(lessons) + 1, lessons[-1]
    match = NAME.fullmatch(name)
    if not match or int(match[1]) != number:
        rule = f"call it {number}-name, with lower-case letters, digits and dashes."
        raise SystemExit(f"{name!r} is not the name of the next lesson: {rule}")
    if Path(".git").exists() and (edits := uncommitted(*PROGRAM)):
        remedy = f"commit them, or stash them until lesson {number} has begun"
        raise SystemExit(f"{', '.join(edits)}: edits would end up in {last.name}; {remedy}.")
    for path in last.layer:
        target = LESSONS / last.name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target, follow_symlinks=False)
    title = name.partition("-")[2].replace("-", " ")
    message = LESSONS / f"{name}.txt"
    message.write_text(f"Lesson {number}: {title}\n\n- what it teaches, one idea per line\n")
    print(f"lesson {last.number} is now the layer {LESSONS / last.name}/: {len(last.layer)} files")
    page = f"write its page, docs/lessons/{number}.md"
    print(f"lesson {number} is the program in the root: change that, fill in {message}, and {page}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("branches", help="build the lesson branches from main")
    make.add_argument("--source", metavar="REV", help="commit to build from instead of main")
    commands.add_parser("list", help="print the names of the lessons")
    changes = commands.add_parser("diff", help="print what lesson N changes")
    changes.add_argument("N", help="number of the lesson")
    whole = commands.add_parser("export", help="write all files of lesson N to a folder")
    whole.add_argument("N", help="number of the lesson")
    whole.add_argument("DIR", type=Path, help="new or empty folder")
    begin = commands.add_parser("new", help="begin a lesson after the last one")
    begin.add_argument("NAME", help="name of the lesson, such as 9-requeue-and-resume")
    along = commands.add_parser(
        "carry", help="apply uncommitted edits of lesson N to later lessons"
    )
    along.add_argument("N", help="number of the lesson")
    return parser.parse_args()


def choose(lessons: list[Lesson], args: argparse.Namespace) -> int:
    """Return the lesson's number; exit with code 2 if the command cannot use it."""
    possible = [str(lesson.number) for lesson in lessons]
    if args.command == "carry":
        possible.pop()
    if args.N not in possible:
        known = f"choose from {' '.join(possible)}"
        print(f"lessons.py: cannot {args.command} lesson {args.N!r}; {known}", file=sys.stderr)
        raise SystemExit(2)
    return int(args.N)


def main() -> None:
    args = parse_args()
    if args.command == "branches":
        enter_clone()
        return branches(args.source)
    if args.command == "carry" or not (LESSONS.is_dir() and Path("tools/lessons.py").is_file()):
        enter_clone()
    with snapshot() as (tree, env):
        files = read_tree(tree, env)
        lessons = read_lessons(files, env)
        if not lessons:
            raise SystemExit(f"{Path.cwd()} has no lessons: this command needs the files of main.")
        if args.command == "list":
            print("\n".join(lesson.name for lesson in lessons))
        elif args.command == "new":
            new(lessons, args.NAME)
        elif args.command == "carry":
            carry(lessons, choose(lessons, args))
        elif args.command == "diff":
            show_diff(lessons, choose(lessons, args), env)
        else:
            export(lessons[choose(lessons, args) - 1], files, args.DIR, env)


if __name__ == "__main__":
    try:
        with quiet_interrupt():
            main()
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader of the output has ended, as head does; Python would try to write again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # an error of the output itself has no file name
        raise SystemExit(": ".join(filter(None, (error.filename, error.strerror)))) from None
