"""Build the lesson branches from the folders on main: `python3 tools/lessons.py branches`."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

LESSONS = Path("lessons")
LAST = 8  # has a message but no folder: its code is the root's own program
PROGRAM = ("run.py", "run.sh", "src")
SHARED = "README.md LICENSE .gitignore requirements.txt requirements-bolts.txt docs .img data"
SHARED_PATHS = (*SHARED.split(), "cluster", "check.py", "site.example.sh")
CONFLICT = re.compile("^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
# Author and committer of every generated commit. A learner's commit, amend or rebase has another
# committer: a tip with this one is ours, in any kind of clone and however far main has moved on.
STAMP = "HPC Starter <lessons@hpc-starter.invalid> 1735689600"


def git(*args: str, stdin: str = "", ok: int = 0) -> subprocess.CompletedProcess[str]:
    # GIT_DIR or GIT_INDEX_FILE of a caller, such as a hook, would lead into another repository
    foreign = re.compile("GIT_(?!CONFIG|EXEC_PATH|DISCOVERY|CEILING)")
    env = {k: v for k, v in os.environ.items() if not foreign.match(k)}
    env.update(GIT_NO_REPLACE_OBJECTS="1", GIT_OPTIONAL_LOCKS="0")
    try:
        ran = subprocess.run(("git", *args), input=os.fsencode(stdin), capture_output=True, env=env)
    except FileNotFoundError:
        raise SystemExit("git: command not found. Install git, or load its module.") from None
    out, err = os.fsdecode(ran.stdout), " ".join(os.fsdecode(ran.stderr).split())
    if not 0 <= ran.returncode <= ok:
        raise SystemExit(f"git {args[0]} failed: {err}")
    return subprocess.CompletedProcess(args, ran.returncode, out, err)


def enter_clone() -> None:
    """Go to the top of the clone, where all paths start; a bare one has no other folder."""
    unpacked = Path("tools/lessons.py").exists() and not Path(".git").exists()
    found = git("rev-parse", "--git-dir", ok=255)
    if unpacked or found.returncode:
        need = "is not a git clone; the lesson branches need one: git clone <address of the course>"
        raise SystemExit(f"{Path.cwd()} {need} ({found.stderr or 'no .git'})")
    os.chdir(git("rev-parse", "--show-toplevel", ok=255).stdout.strip("\n") or ".")


def tree(treeish: str) -> dict[str, str]:
    """Name -> its line of `git ls-tree`."""
    lines = git("ls-tree", "-z", treeish).stdout.split("\0")[:-1]
    return {line.partition("\t")[2]: line for line in lines}


def find_lessons(entries: list[str], has_program: bool) -> dict[int, str]:
    """Number -> name, from 1 to the first gap; `entries` is what lies in lessons/."""
    found: dict[int, str] = {}
    for entry in sorted(entries):
        match = re.fullmatch(rf"(([1-{LAST}])-[a-z0-9-]+)(\.txt)?", entry)
        if match and (not match[3] or (int(match[2]) == LAST and has_program)):
            other = found.setdefault(int(match[2]), match[1])
            if other != match[1]:
                raise SystemExit(f"lesson {match[2]} is there twice: rename {other} or {match[1]}.")
    return {n: found[n] for n in sorted(found) if set(range(1, n)) <= found.keys()}


def source_commit(wanted: str | None) -> tuple[str, str]:
    """Name and hash of the commit whose tree the branches are made of."""
    for name in [wanted] if wanted else ["refs/heads/main", "refs/remotes/origin/main", "HEAD"]:
        found = git("rev-parse", "-q", "--verify", f"{name}^{{commit}}", ok=255)
        if found.stdout and "lessons" in tree(found.stdout.strip()):
            return re.sub("^refs/(heads|remotes)/", "", name), found.stdout.strip()
    remedy = "fetch it (git fetch origin main:main), or name another commit with --source."
    raise SystemExit(f"{wanted or 'main'} is no commit with a folder lessons/: {remedy}")


def write_commit(source: str, name: str, root: str, parents: list[str]) -> str:
    words = git("cat-file", "blob", f"{source}:lessons/{name}.txt", ok=255).stdout.strip()
    if not words.startswith(f"Lesson {name[0]}: "):
        raise SystemExit(f"lessons/{name}.txt must exist and begin with `Lesson {name[0]}: `.")
    # not commit-tree: the bytes of the object are written here, so no setting can change them
    lines = [f"tree {root}".strip(), *(f"parent {commit}" for commit in parents)]
    text = "\n".join([*lines, f"author {STAMP} +0000", f"committer {STAMP} +0000", "", words, ""])
    return git("hash-object", "-t", "commit", "-w", "--stdin", stdin=text).stdout.strip()


def build(source: str) -> dict[str, str]:
    """Branch -> its new commit, each the child of the one before."""
    top, folder = tree(source), tree(f"{source}:lessons")
    commits: dict[str, str] = {}
    for name in find_lessons(list(folder), "src" in top).values():
        files = {path: line for path, line in top.items() if path in SHARED_PATHS}
        own = {path: line for path, line in top.items() if path in PROGRAM}
        for path, line in (tree(f"{source}:lessons/{name}") if name in folder else own).items():
            if files.setdefault(path, line) != line:
                raise SystemExit(f"lessons/{name}/{path} has a shared file's name: rename it.")
        root = git("mktree", "-z", "--missing", stdin="\0".join([*files.values(), ""])).stdout
        commits[name] = write_commit(source, name, root, list(commits.values())[-1:])
    return commits


def checked_out() -> dict[str, str]:
    """Ref -> the folder of the worktree that stands on it; "" amid a rebase or bisect of it."""
    places: dict[str, str] = {}
    for block in git("worktree", "list", "--porcelain").stdout.strip().split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in block.splitlines())
        place = places[fields.get("branch", "")] = fields["worktree"]
        own = git("-C", place, "rev-parse", "--absolute-git-dir", ok=255).stdout.strip()
        for file in (*Path(own).glob("rebase-*/head-name"), *Path(own).glob("BISECT_START")):
            places["refs/heads/" + file.read_text().strip().replace("refs/heads/", "")] = ""
    return places


def reason_to_keep(name: str, new: str, refs: dict[str, str], places: dict[str, str]) -> str:
    """Why the learner's branch stays where it is, and what to do; empty if it may move."""
    head, version = f"refs/heads/{name}", f"New version: git diff pristine/{name}"
    tip = refs.get(head, new)
    form = "--pretty=format:%an <%ae> %at%x09%cn <%ce> %ct%x09%s"
    log = git("rev-list", "--encoding=UTF-8", form, tip).stdout.strip("\n").split("\n")
    yours = sum(f"\t{STAMP}\t" not in line for line in log[1::2])
    if yours:
        also = " on top of the newest version" if f"commit {new}" in log else ""
        return f"it has {yours} commit{'s' * (yours > 1)} of yours{also}. {version}"
    if not log[1].startswith(f"{STAMP}\t{STAMP}\tLesson {name[0]}: "):
        return f"it stands on another lesson. {version}"
    if head in places and refs.get(head) != new:
        # --keep takes uncommitted edits along, or refuses and changes nothing
        take = f"New version: git -C '{places[head]}' reset --keep pristine/{name}"
        return f"checked out. {take}" if places[head] else f"amid a rebase or bisect. {version}"
    nested = [ref[11:] for ref in refs if ref.startswith(f"{head}/")]
    return f"your branch {nested[0]} is in its way. {version}" if nested else ""


def uncommitted(*paths: str) -> list[str]:
    listing = git("status", "--porcelain", "-z", "-uall", "--no-renames", "--", *paths).stdout
    return [entry[3:] for entry in listing.split("\0") if entry]


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
    # one transaction: it fails as a whole if any ref is not what it was a moment ago
    lines = [f"update {k} {new} {refs.get(k, '0' * len(new))}\n" for k, new in changed.items()]
    git("update-ref", "-m", f"lessons from {source}", "--stdin", stdin="".join(lines))
    for ref in (ref for ref in changed if ref.startswith("refs/heads/")):
        print("moved" if ref in refs else "made", ref[11:])
    if LESSONS.is_dir() and (edits := uncommitted("lessons", *PROGRAM, *SHARED_PATHS)):
        print(f"not in the branches until committed: {', '.join(edits)}")
    print(f"{len(commits)} branches from {label} {source[:7]}{': nothing changed' * (not changed)}")


def show_diff(homes: dict[int, Path], number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for side, lesson in (("a", number - 1), ("b", number)):
            Path(folder, side).mkdir()
            for part in PROGRAM if lesson else ():
                code, copy = homes[lesson] / part, Path(folder, side, part)
                if code.is_dir():
                    shutil.copytree(code, copy, ignore=shutil.ignore_patterns("__pycache__"))
                elif code.exists():
                    shutil.copy(code, copy)
        done = subprocess.run(("git", "diff", "--no-index", "--no-prefix", "a", "b"), cwd=folder)
    raise SystemExit(done.returncode > 1)


def read(path: Path) -> str | None:
    return os.fsdecode(path.read_bytes()) if path.is_file() else None


def merged(origin: Path, target: Path) -> str | None:
    """The text of the target with the uncommitted edit of the origin; None if it is deleted."""
    head = git("cat-file", "--filters", f"HEAD:{origin}", ok=255)
    before = None if head.returncode else head.stdout
    edited, current = read(origin), read(target)
    if current in (before, edited):
        return edited
    if current is None or edited is None:
        print(f"left out {target}: {'it is not there' if edited else 'it has changed'}")
        return current
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "before").write_bytes(os.fsencode(before or ""))
        sides = (str(target), f"{folder}/before", str(origin))
        return git("merge-file", "-p", *sides, ok=127).stdout


def carry_file(origin: Path, target: Path) -> None:
    result = merged(origin, target)
    if result == read(target):
        return
    if uncommitted(str(target)):  # only what git can bring back is ever written to
        raise SystemExit(f"{target} has uncommitted edits: commit them, then carry again.")
    print(f"carried {origin} into {target}")
    if result is None:
        return target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(os.fsencode(result))
    shutil.copymode(origin, target)


def carry(homes: dict[int, Path], number: int) -> None:
    edits = [Path(path) for path in uncommitted(*(str(homes[number] / part) for part in PROGRAM))]
    for lesson in range(number, len(homes) + 1):  # in its own place, only a conflict can be found
        targets = {path: homes[lesson] / path.relative_to(homes[number]) for path in edits}
        for path, target in targets.items():
            carry_file(path, target)
        found = (str(path) for path in targets.values() if CONFLICT.search(read(path) or ""))
        if stuck := ", ".join(found):
            then = f", then: python3 tools/lessons.py carry {lesson}" * (lesson < len(homes))
            raise SystemExit(f"conflict in {stuck}: mend it by hand{then}")
    print(f"lesson {number}: {len(edits) or 'no'} files with uncommitted edits carried")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("branches", help="build the branches from the commit of main")
    make.add_argument("--source", metavar="REV", help="another commit to build them from")
    commands.add_parser("list", help="print the lessons")
    commands.add_parser("diff", help="print what lesson N changes").add_argument("N")
    commands.add_parser("carry", help="take the edit of lesson N into later ones").add_argument("N")
    args = parser.parse_args()
    if args.command in ("branches", "carry") or not LESSONS.is_dir():
        enter_clone()
    if args.command == "branches":
        return branches(args.source)
    found = find_lessons([path.name for path in LESSONS.glob("*")], Path("src").is_dir())
    if args.command == "list":
        return print("\n".join(found.values()))
    possible = [str(n) for n in found][: -1 if args.command == "carry" else None]
    if args.N not in possible:
        parser.error(f"no lesson {args.N!r} to {args.command}; possible: {' '.join(possible)}")
    homes = {n: own if (own := LESSONS / name).is_dir() else Path() for n, name in found.items()}
    return {"diff": show_diff, "carry": carry}[args.command](homes, int(args.N))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}") from None
