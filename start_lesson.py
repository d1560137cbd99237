#!/usr/bin/env python3
"""Start a lesson in its original state, and keep your work: python3 start_lesson.py 4

Your work is first saved on a branch: edits, staged edits, commits, and new files that are in src/
or in the way of the lesson's files. Nothing is overwritten before that. What git ignores, such as
env/, the data and logs/, stays where it is. Only git and the standard library are used; Python
3.6, which older systems have as python3, is enough.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

# git refuses to commit if it does not know who you are
UNKNOWN = ("-c", "user.name=Learner", "-c", "user.email=learner@localhost")
# new files here belong to the program and would affect the lesson
PROGRAM = ("src", "run.py", "run.sh", "configs")
# committer of the generated lessons: see tools/lessons.py on main
COURSE = "lessons@hpc-starter.invalid"
# set by callers such as a git hook; they would select another repository or index
FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
# file in the git folder -> command that ends the unfinished operation and keeps your files
UNFINISHED = {
    "rebase-merge": ("rebase", "--quit"),
    "rebase-apply/applying": ("am", "--quit"),
    "rebase-apply": ("rebase", "--quit"),
    "MERGE_HEAD": ("merge", "--quit"),
    "CHERRY_PICK_HEAD": ("cherry-pick", "--quit"),
    "REVERT_HEAD": ("revert", "--quit"),
    "sequencer": ("cherry-pick", "--quit"),
    "BISECT_START": ("bisect", "reset", "HEAD"),
}
# files in the git folder that name commits, which may be on no branch
REMEMBERED = (
    *("MERGE_HEAD", "CHERRY_PICK_HEAD", "BISECT_START"),
    *("rebase-merge/orig-head", "rebase-apply/orig-head"),
)


def run_git(
    words: Tuple[str, ...], stdin: str = "", index: Optional[Path] = None
) -> "subprocess.CompletedProcess[bytes]":
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    env["GIT_LITERAL_PATHSPECS"] = "1"
    if index:
        env["GIT_INDEX_FILE"] = str(index)
    pipe = subprocess.PIPE
    try:
        return subprocess.run(
            ("git", *words), input=os.fsencode(stdin), stdout=pipe, stderr=pipe, env=env
        )
    except FileNotFoundError:
        raise SystemExit("git: command not found. Install git, or load its module.") from None


def git(*words: str, stdin: str = "", index: Optional[Path] = None) -> str:
    """Return what git prints; if it fails, end the program with git's message."""
    done = run_git(words, stdin, index)
    if done.returncode:
        said = " ".join(os.fsdecode(done.stderr).split())
        raise SystemExit(f"git {words[0]} failed: {said}. Nothing is lost.")
    return os.fsdecode(done.stdout).rstrip("\n")


def ask(*words: str) -> str:
    """Return what git prints, or "" if it fails."""
    done = run_git(words)
    return "" if done.returncode else os.fsdecode(done.stdout).rstrip("\n")


def names(listing: str) -> List[str]:
    return [name for name in listing.split("\0") if name]


def git_path(name: str) -> Path:
    return Path(git("rev-parse", "--git-path", name))


# --- the lesson


def enter_clone() -> None:
    """Change to the top folder of the clone that contains this file."""
    # with `git show main:start_lesson.py | python3 - N`, this is the current folder
    os.chdir(Path(sys.argv[0]).resolve().parent)
    found = run_git(("rev-parse", "--show-toplevel"))
    if found.returncode:
        said = " ".join(os.fsdecode(found.stderr).split())
        raise SystemExit(f"{Path.cwd()} is not a git clone of the course ({said})")
    os.chdir(os.fsdecode(found.stdout).rstrip("\n"))


def find_lesson(number: int) -> str:
    """Return the name of a lesson's branch; refs/pristine/<name> is its original state."""
    main = main_of_course()
    pattern = f"refs/pristine/{number}-*"
    found = git("for-each-ref", "--format=%(refname:lstrip=2)", pattern).split()
    if not found and main:
        build_branches(main)
        found = git("for-each-ref", "--format=%(refname:lstrip=2)", pattern).split()
    # if a lesson was renamed, its old name is still there
    current = [name for name in found if ask("rev-parse", f"{main}:lessons/{name}.txt")]
    if not found:
        raise SystemExit(f"there is no lesson {number} here: {choose_from()}.")
    return (current or found)[0]


def main_of_course() -> str:
    """Return what names the newest main, or "" if it is not here."""
    for name in ("refs/heads/main", "refs/remotes/origin/main", "HEAD"):
        if ask("rev-parse", "-q", "--verify", f"{name}:tools/lessons.py"):
            return name
    return ""


def choose_from() -> str:
    """Return the numbers of the lessons, in words for a message."""
    main = main_of_course()
    if main and not ask("for-each-ref", "refs/pristine"):
        build_branches(main)
    known = ask("for-each-ref", "--format=%(refname:lstrip=2)", "refs/pristine").split()
    found = [re.match(r"([0-9]+)-", name) for name in known]
    numbers = sorted({int(match[1]) for match in found if match})
    return f"choose from {' '.join(map(str, numbers))}" if numbers else "run make lessons"


def number_of(text: str) -> int:
    """Return a lesson's number.

    Raises:
        SystemExit: if it is none, such as abc, 1_0 or a long line of digits.
    """
    if re.fullmatch(r"[0-9]{1,4}", text):
        return int(text)
    given = ascii(text if len(text) <= 40 else f"{text[:40]}...")
    raise SystemExit(f"{given} is not the number of a lesson: {choose_from()}.")


def build_branches(main: str) -> None:
    """Build the lesson branches with the tools of main, which may not be checked out."""
    with tempfile.TemporaryDirectory() as folder:
        for name in git("ls-tree", "--name-only", f"{main}:tools").splitlines():
            if name.endswith(".py"):
                text = git("show", f"{main}:tools/{name}") + "\n"
                Path(folder, name).write_bytes(os.fsencode(text))
        command = (sys.executable, str(Path(folder, "lessons.py")), "branches")
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        said = os.fsdecode(done.stderr).strip()
        raise SystemExit(f"the lesson branches cannot be built: {said}")


def refuse_if_in_use(name: str) -> None:
    """Refuse while another git command runs, or if another worktree uses the branch."""
    lock = Path.cwd() / git_path("index.lock")
    if lock.exists():
        remedy = "wait until it has ended; if none is running, delete that file."
        raise SystemExit(f"another git command is running here ({lock} exists): {remedy}")
    here = git("rev-parse", "--absolute-git-dir")
    for block in git("worktree", "list", "--porcelain").split("\n\n"):
        place = block.splitlines()[0].partition(" ")[2]
        folder = ask("-C", place, "rev-parse", "--absolute-git-dir")
        used = [line[7:] for line in block.splitlines() if line.startswith("branch ")]
        for pattern in ("rebase-*/head-name", "BISECT_START") if folder else ():
            used += [file.read_text().strip() for file in Path(folder).glob(pattern)]
        if folder != here and {name, f"refs/heads/{name}"} & set(used):
            remedy = f"continue there, or first run git worktree remove '{place}'."
            raise SystemExit(f"{name} is checked out in {place}: {remedy}")


# --- what to save


def snapshot(folder: Path, name: str) -> Tuple[str, str]:
    """Return two trees: what is staged, and the files; the index and the files do not change."""
    staged, files = folder / "staged", folder / "files"
    if git_path("index").exists():
        shutil.copy(git_path("index"), staged)
    unmerged = names(git("ls-files", "-z", "--unmerged", index=staged))
    add(["--all"], [line.partition("\t")[2] for line in unmerged], staged)
    trees = [git("write-tree", index=staged)]
    # a new index, because flags such as skip-worktree in the old one would hide edits
    git("read-tree", trees[0], index=files)
    git("add", "--update", index=files)
    others = ("ls-files", "-z", "--others")
    new = names(git(*others, "--exclude-standard", "--", *PROGRAM, index=files))
    places = in_the_way(name, set(names(git("ls-files", "-z", index=files))))
    if places:
        new += names(git(*others, "--", *places, index=files))
    for path in new:
        if path.endswith("/"):
            raise SystemExit(f"{path} is a separate git repository: move it elsewhere.")
    # even what git ignores: the lesson's file would replace it
    add(["--force"], new, files)
    return trees[0], git("write-tree", index=files)


def add(options: List[str], paths: List[str], index: Path) -> None:
    if paths:
        words = ("add", *options, "--pathspec-from-file=-", "--pathspec-file-nul")
        git(*words, stdin="\0".join(paths), index=index)


def in_the_way(name: str, tracked: Set[str]) -> List[str]:
    """Return what blocks the lesson's files: anything at their paths, or a file as a folder."""
    found = set()
    lesson = names(git("ls-tree", "-r", "-z", "--name-only", f"refs/pristine/{name}"))
    for path in map(Path, lesson):
        if str(path) in tracked:
            continue
        found |= {
            str(folder)
            for folder in path.parents
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir())
        }
        if os.path.lexists(path):
            found.add(str(path))
    return sorted(found)


def commit_files(head: str, name: str) -> str:
    """Return a commit of everything here: HEAD itself, or a new commit that is on no branch."""
    with tempfile.TemporaryDirectory() as folder:
        staged, files = snapshot(Path(folder), name)
    committed = git("rev-parse", f"{head}^{{tree}}") if head else ""
    trees = [staged] if staged not in (committed, files) else []
    trees += [files] if files != (trees or [committed])[-1] else []
    if not trees:
        return head
    with_head = ("--contains", head) if head else ()
    for branch in git("for-each-ref", "--format=%(refname)", *with_head, "refs/heads").split():
        # an interrupted start has already saved it
        saved = git("rev-list", "--format=%T", f"-{len(trees)}", branch).splitlines()[1::2]
        if saved == trees[::-1] and branch != f"refs/heads/{name}":
            return git("rev-parse", branch)
    for tree in trees:
        what = "Edits" if tree == files else "Staged edits"
        head = commit(tree, head, f"{what} before a new start of {name}")
    return head


def commit(tree: str, parent: str, message: str) -> str:
    you = () if ask("var", "GIT_COMMITTER_IDENT") else UNKNOWN
    parents = ("-p", parent) if parent else ()
    return git(*you, "commit-tree", tree, *parents, "-m", message)


def remembered() -> List[str]:
    """Return the commits in which an unfinished merge, rebase or bisect began."""
    files = [git_path(name) for name in REMEMBERED]
    words = [word for file in files if file.is_file() for word in file.read_text().split()]
    return [ask("rev-parse", "-q", "--verify", word) for word in words]


def is_yours(commit: str, name: str, kept: List[str]) -> bool:
    """Return whether a commit or one before it is yours, and on no branch but the lesson's."""
    elsewhere = (f"--exclude={name}", "--branches", f"--exclude=*/{name}", "--remotes")
    history = git("rev-list", "--format=%ce", commit, "--not", *kept, *elsewhere)
    return any(line != COURSE for line in history.splitlines()[1::2])


def current_branch() -> str:
    """Return the branch that is checked out or being rebased, or "" if there is none."""
    for file in map(git_path, ("rebase-merge/head-name", "rebase-apply/head-name")):
        if file.is_file():
            return file.read_text().strip().partition("refs/heads/")[2]
    return ask("symbolic-ref", "-q", "--short", "HEAD")


def free_name(branch: str, taken: Set[str]) -> str:
    """Return the name of a new branch: my-lesson-4, or my-lesson-4-2 if that exists."""
    lesson = re.match(r"(\d+)-", branch)
    mine = branch if branch.startswith("my-") else f"my-{branch or 'work'}"
    first = name = f"my-lesson-{lesson[1]}" if lesson else mine.replace("/", "-")
    number = 1
    while name in taken or git("for-each-ref", f"refs/heads/{name}"):
        number += 1
        name = f"{first}-{number}"
    return name


def save(head: str, name: str) -> str:
    """Save your work on new branches, and return the commit of everything here."""
    files, branch = commit_files(head, name), current_branch()
    lesson = ask("rev-parse", "-q", "--verify", f"refs/heads/{name}")
    new: Dict[str, str] = {}
    tips = [(branch, tip) for tip in (files, *remembered())]
    for origin, tip in [*tips, (name, lesson)]:
        if tip and is_yours(tip, name, list(new.values())):
            new[free_name(origin, set(new))] = tip
    lines = [f"create refs/heads/{branch} {tip}\n" for branch, tip in new.items()]
    git("update-ref", "-m", "start_lesson.py", "--stdin", stdin="".join(lines))
    saved = list(new)
    if files not in (head, *new.values()):
        saved.insert(0, branch_at(files))
    for branch in saved:
        again = f"To return to it: git switch {branch}"
        # printed at once, so that you know the branch even if the rest is interrupted
        print(f"Your work is saved on the branch {branch}. {again}", flush=True)
    return files


def branch_at(commit: str) -> str:
    found = git("for-each-ref", "--points-at", commit, "--format=%(refname:lstrip=2)", "refs/heads")
    return found.split()[0]


# --- start


def end_unfinished() -> None:
    """End a merge, rebase, cherry-pick, revert or bisect; index and files stay as they are."""
    for name, words in UNFINISHED.items():
        if git_path(name).exists():
            stashes = git("stash", "list")
            git(*words)
            print(f"The unfinished {words[0]} has been ended.")
            if git("stash", "list") != stashes:
                print("The edits that git had set aside for it are in git stash list.")


def start(name: str, head: str, files: str) -> None:
    """Check out the lesson; git itself refuses to overwrite what has changed since the saving."""
    if files:
        git("read-tree", files)
        ask("update-index", "-q", "--refresh")
    end_unfinished()
    if files != head:
        # what is here is now exactly this commit
        git("symbolic-ref", "-m", "start_lesson.py", "HEAD", f"refs/heads/{branch_at(files)}")
    options = ("-q", "--no-track", "--no-overwrite-ignore")
    git("checkout", *options, "-B", name, f"refs/pristine/{name}", "--")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("N", help="number of the lesson")
    given = parser.parse_args().N
    shell = os.open(".", os.O_RDONLY)
    enter_clone()
    number = number_of(given)
    name = find_lesson(number)
    refuse_if_in_use(name)
    head = ask("rev-parse", "-q", "--verify", "HEAD")
    start(name, head, save(head, name))
    print(f"Lesson {number} is in its original state, on the branch {name}.")
    clone = Path.cwd()
    try:
        os.fchdir(shell)
        Path.cwd()
    except OSError:
        print(f"This lesson does not contain the folder of your shell: cd '{clone}'")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; nothing is lost. Run the same command again.") from None
    except OSError as error:
        raise SystemExit(": ".join(filter(None, (error.filename, error.strerror)))) from None
