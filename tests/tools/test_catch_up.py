"""start_lesson.py from the states in which a learner may be lost: make test-fast."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clone import ROOT

ONE, TWO, THREE = NAMES = ["1-first", "2-second", "3-third"]
TOOL = "start_lesson.py"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": "true",
}
IGNORED = ("logs/x/version_0/DONE.json", "lightning_logs/version_7/a", "slurm.7.out", "env/python")
ORIGIN = "rebase-merge/orig-head"
# hash of an empty file
EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
MAIN = "lesson = {}\n"


def write(folder, files):
    for name, text in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Learner:
    """A clone of a small course, and what a learner does in it."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *command, folder=".", env=CLEAN, **kwargs):
        pipes = {"capture_output": True, "text": True, **kwargs}
        return subprocess.run(command, cwd=self.folder / folder, env=env, **pipes)

    def git(self, *words, code=0):
        done = self.run("git", *words)
        assert done.returncode == code, f"git {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def edit(self, name="src/main.py", text="my line\n"):
        with (self.folder / name).open("a") as file:
            file.write(text)

    def commit(self, name="src/main.py", text="my line\n"):
        write(self.folder, {name: ""} if not (self.folder / name).exists() else {})
        self.edit(name, text)
        self.git("add", name)
        self.git("commit", "-q", "-m", "Mine")

    def start(self, number=2, code=0, folder=".", env=CLEAN):
        path = os.path.relpath(TOOL, folder)
        done = self.run(sys.executable, path, str(number), folder=folder, env=env)
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def contents(self):
        """Return the hashes of the files, staged files and commits; not of ignored files."""
        listing = self.git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        paths = {path for path in listing.split("\0") if (self.folder / path).is_file()}
        blobs = self.git("hash-object", "--", *sorted(paths)).split()
        staged = [line.split()[1] for line in self.git("ls-files", "-s").splitlines()]
        refs = self.git("for-each-ref", "--format=%(objectname)", "refs/heads", "refs/stash")
        head = self.run("git", "rev-parse", "-q", "--verify", "HEAD").stdout
        aside = (f".git/{name}" for name in ("MERGE_HEAD", "rebase-merge/autostash", ORIGIN))
        commits = [
            file.read_text().strip() for name in aside if (file := self.folder / name).exists()
        ]
        return {*blobs, *staged, *commits, *refs.split(), *head.split()} - {EMPTY}

    def kept(self):
        """Return what is on a branch, in the stash or in the files."""
        branches = ("--branches", "--glob=refs/stash")
        objects = self.git("rev-list", "--objects", "--no-object-names", *branches)
        return {*objects.split(), *self.contents()}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "course"
    ignore = "/env/\n/logs/\n/lightning_logs/\n*.out\n__pycache__/\n"
    write(folder, {"README.md": "course\n", ".gitignore": ignore, "docs/a.md": "a\n"})
    shutil.copy(ROOT / TOOL, folder)
    for path in (ROOT / "tools").glob("*.py"):
        write(folder, {f"tools/{path.name}": path.read_text()})
    for number, name in enumerate(NAMES, 1):
        write(folder, {f"lessons/{name}.txt": f"Lesson {number}: {name}\n"})
    (folder / f"lessons/{THREE}.txt").open("a").write("\nRemoves: run.sh\n")
    write(folder / "lessons" / ONE, {"src/main.py": MAIN.format(1), "run.sh": "one\n"})
    write(folder / "lessons" / TWO, {"src/main.py": MAIN.format(2), "run.sh": "two\n"})
    three = {"src/main.py": MAIN.format(3), "src/launch/job.py": "job\n"}
    write(folder, {**three, "src/utils/errors.py": "errors\n", "run.py": "run\n"})
    made = Learner(folder)
    made.git("init", "-q", "-b", "main")
    made.git("config", "user.name", "A Learner")
    made.git("config", "user.email", "learner@example.org")
    made.git("add", "-A")
    made.git("commit", "-q", "-m", "The course")
    write(folder, dict.fromkeys(IGNORED, "output\n"))
    return made


@pytest.fixture(scope="module")
def built(course):
    done = course.run(sys.executable, "tools/lessons.py", "branches")
    assert done.returncode == 0, done.stderr
    return course


@pytest.fixture
def learner(built, tmp_path):
    """A learner in lesson 2."""
    shutil.copytree(built.folder, tmp_path / "clone", symlinks=True)
    made = Learner(tmp_path / "clone")
    made.git("switch", "-q", TWO)
    return made


# --- states in which a learner may be lost


def uncommitted_edits(learner):
    learner.edit()
    (learner.folder / "run.sh").unlink()


def staged_edits(learner):
    learner.edit(text="staged\n")
    learner.git("add", "-A")
    learner.edit(text="not staged\n")


def staged_edits_that_are_undone_in_the_file(learner):
    staged_edits(learner)
    (learner.folder / "src/main.py").write_text(MAIN.format(2))


def hidden_edits(learner):
    learner.edit("run.sh")
    learner.git("update-index", "--skip-worktree", "run.sh")
    learner.edit("src/main.py")
    learner.git("update-index", "--assume-unchanged", "src/main.py")


def own_commits(learner):
    learner.commit()
    learner.commit("src/own.py")


def own_commits_and_edits(learner):
    own_commits(learner)
    learner.edit()
    learner.edit("src/new.py")


def own_commits_of_this_lesson_and_edits_of_another(learner):
    own_commits(learner)
    learner.git("switch", "-q", THREE)
    learner.edit()


def an_unfinished_merge(learner):
    learner.commit()
    learner.edit("src/main.py", "")
    learner.git("merge", THREE, code=1)


def an_unfinished_merge_of_a_commit_on_no_branch(learner):
    learner.git("switch", "-q", "--detach", THREE)
    learner.commit("src/main.py", "theirs\n")
    learner.git("switch", "-q", TWO)
    learner.commit("src/main.py", "ours\n")
    learner.git("merge", "HEAD@{2}", code=1)
    learner.git("checkout", "--ours", "src/main.py")
    learner.git("add", "-A")


def an_unfinished_rebase(learner):
    own_commits(learner)
    learner.git("rebase", "--onto", THREE, f"pristine/{TWO}", code=1)


def an_unfinished_rebase_of_a_detached_head(learner):
    learner.git("switch", "-q", "--detach")
    own_commits(learner)
    learner.git("rebase", "--onto", THREE, f"pristine/{TWO}", code=1)


def an_unfinished_rebase_with_edits_set_aside(learner):
    learner.commit()
    learner.edit("docs/a.md", "set aside\n")
    learner.git("rebase", "--autostash", "--onto", THREE, f"pristine/{TWO}", code=1)
    learner.edit("src/main.py", "resolving\n")


def a_rebase_that_stopped_to_edit(learner):
    own_commits(learner)
    learner.git("-c", "sequence.editor=sed -i 1s/pick/edit/", "rebase", "-i", f"pristine/{TWO}")
    learner.git("commit", "-q", "--amend", "-m", "Amended")


def an_unfinished_cherry_pick(learner):
    learner.commit()
    learner.git("cherry-pick", THREE, code=1)


def an_unfinished_revert(learner):
    learner.commit("src/main.py", "a\n")
    learner.commit("src/main.py", "b\n")
    learner.git("revert", "--no-edit", "HEAD^", code=1)


def an_unfinished_am(learner):
    patch = learner.git("format-patch", "--stdout", "-1", THREE)
    learner.commit("src/main.py", "mine\n")
    (learner.folder / "logs/patch").write_text(patch.replace("lesson", "other"))
    learner.git("am", "logs/patch", code=128)


def a_bisect(learner):
    learner.commit()
    learner.git("bisect", "start", "HEAD", ONE)
    learner.edit("docs/a.md")


def a_detached_head(learner):
    learner.git("switch", "-q", "--detach")
    learner.commit()


def a_detached_head_without_commits(learner):
    learner.git("switch", "-q", "--detach", ONE)
    learner.edit()


def edits_of_main(learner):
    learner.git("switch", "-q", "main")
    learner.edit("tools/lessons.py", "# mine\n")
    learner.commit("README.md")


def edits_of_another_lesson(learner):
    learner.git("switch", "-q", THREE)
    learner.edit("src/launch/job.py")


def a_stash(learner):
    learner.edit()
    learner.git("stash")
    learner.edit("run.sh")


def new_files_in_the_program(learner):
    write(learner.folder, {"src/utils/foo.py": "mine\n", "src/launch/job.py": "left over\n"})
    write(learner.folder, {"src/a b é.py": "mine\n", "run.py": "mine\n"})


def new_files_in_the_way(learner):
    for name in ("run.sh", "docs/a.md", "src/main.py"):
        learner.git("rm", "-q", "--cached", name)
        learner.edit(name, "not tracked\n")


def a_file_in_place_of_a_folder(learner):
    shutil.rmtree(learner.folder / "docs")
    write(learner.folder, {"docs": "a file\n"})


def a_folder_in_place_of_a_file(learner):
    (learner.folder / "run.sh").unlink()
    write(learner.folder, {"run.sh/mine": "mine\n", "run.sh/mine.out": "ignored\n"})


def a_link_in_place_of_a_folder(learner):
    shutil.rmtree(learner.folder / "docs")
    (learner.folder / "docs").symlink_to("logs")


def a_new_file_that_git_only_knows_by_name(learner):
    write(learner.folder, {"src/new.py": "mine\n"})
    learner.git("add", "-N", "src/new.py")


def a_branch_without_commits(learner):
    learner.git("checkout", "-q", "--orphan", "empty")
    learner.git("commit", "-q", "-m", "First")
    learner.git("checkout", "-q", "--orphan", "other")


STATES = [
    *(uncommitted_edits, staged_edits, staged_edits_that_are_undone_in_the_file, hidden_edits),
    *(own_commits, own_commits_and_edits, own_commits_of_this_lesson_and_edits_of_another),
    *(an_unfinished_merge, an_unfinished_merge_of_a_commit_on_no_branch, an_unfinished_rebase),
    an_unfinished_rebase_of_a_detached_head,
    *(an_unfinished_rebase_with_edits_set_aside, a_rebase_that_stopped_to_edit),
    *(an_unfinished_cherry_pick, an_unfinished_revert, an_unfinished_am, a_bisect),
    *(a_detached_head, a_detached_head_without_commits, edits_of_main, edits_of_another_lesson),
    *(a_stash, new_files_in_the_program, new_files_in_the_way, a_file_in_place_of_a_folder),
    *(a_folder_in_place_of_a_file, a_link_in_place_of_a_folder),
    *(a_new_file_that_git_only_knows_by_name, a_branch_without_commits),
]


def is_original(learner, name=TWO):
    assert learner.git("symbolic-ref", "--short", "HEAD") == name
    assert learner.git("rev-parse", "HEAD") == learner.git("rev-parse", f"pristine/{name}")
    assert learner.git("status", "--porcelain") == ""
    assert "in progress" not in (status := learner.git("status")) and "currently" not in status
    for path in learner.git("ls-files").splitlines():
        expected = learner.git("show", f"pristine/{name}:{path}")
        assert (learner.folder / path).read_text().strip() == expected


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_lesson_starts_in_its_original_state_and_nothing_is_lost(learner, state):
    state(learner)
    before = learner.contents()

    output = learner.start()

    is_original(learner)
    assert before <= learner.kept()
    for name in IGNORED:
        assert (learner.folder / name).read_text() == "output\n"
    assert output.endswith(f"Lesson 2 is in its original state, on the branch {TWO}.\n")
    [line, *_] = [line for line in output.splitlines() if "git switch" in line]
    learner.git(*line.partition(": git ")[2].split())
    assert learner.git("status", "--porcelain") == ""

    refs = learner.git("for-each-ref")
    assert learner.start() == f"Lesson 2 is in its original state, on the branch {TWO}.\n"
    assert learner.git("for-each-ref") == refs
    is_original(learner)


# --- what is saved, and where


def test_edits_and_commits_are_on_one_branch_named_after_the_lesson(learner):
    own_commits_and_edits(learner)

    output = learner.start()

    assert output.splitlines()[0] == (
        "Your work is saved on the branch my-lesson-2. To return to it: git switch my-lesson-2"
    )
    learner.git("switch", "-q", "my-lesson-2")
    assert (learner.folder / "src/main.py").read_text() == MAIN.format(2) + 2 * "my line\n"
    assert (learner.folder / "src/new.py").read_text() == "my line\n"
    assert len(learner.git("log", "--format=%s", f"pristine/{TWO}..").splitlines()) == 3


def test_the_next_branch_gets_the_next_number(learner):
    for name in ("my-lesson-2", "my-lesson-2-2", "my-lesson-2-3"):
        learner.edit(text=f"{name}\n")

        assert f"git switch {name}\n" in learner.start()


def test_staged_files_are_a_commit_of_their_own(learner):
    staged_edits(learner)

    learner.start()

    assert learner.git("show", "my-lesson-2^:src/main.py").endswith("\nstaged")
    assert learner.git("show", "my-lesson-2:src/main.py").endswith("\nstaged\nnot staged")


def test_two_places_with_work_become_two_branches(learner):
    own_commits_of_this_lesson_and_edits_of_another(learner)

    output = learner.start()

    assert "git switch my-lesson-3\n" in output and "git switch my-lesson-2\n" in output


def test_edits_that_a_rebase_set_aside_are_in_the_stash(learner):
    an_unfinished_rebase_with_edits_set_aside(learner)

    output = learner.start()

    assert "The edits that git had set aside for it are in git stash list.\n" in output
    assert "set aside" in learner.git("stash", "show", "-p")


def test_new_files_beside_the_program_stay(learner):
    write(learner.folder, {"notes.txt": "mine\n", "photos/a/1.png": "mine\n"})

    output = learner.start(3)

    assert "saved" not in output
    assert learner.git("status", "--porcelain") == "?? notes.txt\n?? photos/"


def test_a_clean_lesson_is_left_as_it_is(learner):
    before = learner.git("for-each-ref")

    assert "saved" not in learner.start()
    assert learner.git("for-each-ref") == before
    is_original(learner)


def test_an_older_version_of_the_lesson_is_not_your_work(learner):
    learner.git("switch", "-q", "main")
    learner.commit("README.md", "new\n")
    learner.git("switch", "-q", TWO)
    learner.git("worktree", "add", "-q", "../main", "main")
    done = learner.run(sys.executable, "tools/lessons.py", "branches", folder="../main")
    assert f"kept {TWO}: checked out" in done.stdout

    output = learner.start()

    assert "saved" not in output
    is_original(learner)
    assert (learner.folder / "README.md").read_text() == "course\nnew\n"


def test_work_is_saved_for_a_learner_whom_git_does_not_know(learner):
    learner.edit()
    for name in ("user.name", "user.email"):
        learner.git("config", "--unset", name)
    learner.git("config", "user.useConfigOnly", "true")

    assert "git switch my-lesson-2\n" in learner.start()


# --- where the command is started


def test_lessons_that_are_not_built_are_built(course, tmp_path):
    course.git("clone", "-q", "--single-branch", "-b", "main", ".", str(tmp_path / "clone"))
    fresh = Learner(tmp_path / "clone")
    assert not fresh.git("for-each-ref", "refs/pristine")

    fresh.start()

    is_original(fresh)


def test_a_shell_in_a_folder_that_the_lesson_lacks_is_told_where_to_go(learner):
    learner.git("switch", "-q", THREE)

    output = learner.start(folder="src/launch")

    is_original(learner)
    assert output.endswith(
        f"\nThis lesson does not contain the folder of your shell: cd '{learner.folder}'\n"
    )


def test_a_shell_in_a_folder_of_the_lesson_stays_there(learner):
    learner.git("switch", "-q", THREE)

    assert learner.start(folder="src").endswith(f"on the branch {TWO}.\n")


def test_a_branch_without_this_file_can_use_that_of_main(learner):
    learner.git("rm", "-q", TOOL)
    learner.edit("src/main.py")

    command = f"git show main:{TOOL} | '{sys.executable}' - 2"
    done = learner.run("bash", "-o", "pipefail", "-c", command, folder="src")

    assert done.returncode == 0, done.stderr
    is_original(learner)


# --- when it cannot start the lesson


def of_another_worktree(learner):
    learner.git("switch", "-q", ONE)
    learner.git("worktree", "add", "-q", "../other", TWO)
    place = learner.folder.parent / "other"
    return 2, f"{TWO} is checked out in {place}: continue there, or first run git worktree remove"


def of_a_rebase_in_another_worktree(learner):
    sentence = of_another_worktree(learner)
    write(learner.folder / "../other", {"src/main.py": "mine\n"})
    learner.git("-C", "../other", "commit", "-aqm", "Mine")
    learner.git("-C", "../other", "rebase", THREE, code=1)
    return sentence


def that_another_command_locks(learner):
    write(learner.folder, {".git/index.lock": ""})
    lock = learner.folder / ".git/index.lock"
    return 2, f"another git command is running here ({lock} exists): wait until"


def that_does_not_exist(learner):
    return 9, "there is no lesson 9 here: choose from 1 2 3."


def with_a_number_in_other_digits(learner):
    return "\u0662", "'\\u0662' is not the number of a lesson: choose from 1 2 3."


def with_a_number_as_python_may_write_it(learner):
    return "0_2", "'0_2' is not the number of a lesson: choose from 1 2 3."


def with_a_name_instead_of_a_number(learner):
    learner.git("update-ref", "refs/pristine/foo", "HEAD")
    return "abc", "'abc' is not the number of a lesson: choose from 1 2 3."


def with_very_many_digits(learner):
    return "3" * 3000, f"'{'3' * 40}...' is not the number of a lesson: choose from 1 2 3."


def beside_a_reference_of_another_name(learner):
    learner.git("update-ref", "refs/pristine/foo", "HEAD")
    return 77, "there is no lesson 77 here: choose from 1 2 3."


def outside_a_clone(learner):
    (learner.folder / ".git").rename(learner.folder / "not.git")
    return 2, f"{learner.folder} is not a git clone of the course ("


def with_a_clone_in_the_program(learner):
    learner.git("clone", "-q", ".", "src/other")
    return 2, "src/other/ is a separate git repository: move it elsewhere."


REFUSED = [
    *(of_another_worktree, of_a_rebase_in_another_worktree, that_another_command_locks),
    *(that_does_not_exist, outside_a_clone, with_a_clone_in_the_program),
    *(with_a_number_in_other_digits, with_a_number_as_python_may_write_it),
    *(with_a_name_instead_of_a_number, with_very_many_digits, beside_a_reference_of_another_name),
]


@pytest.mark.parametrize("state", REFUSED, ids=lambda state: state.__name__)
def test_a_lesson_is_refused_in_one_sentence_and_nothing_changes(learner, state):
    number, sentence = state(learner)
    learner.edit()
    listing = learner.run("git", "for-each-ref").stdout
    status = learner.run("git", "status", "--porcelain").stdout

    output = learner.start(number, code=1)

    assert output.startswith(sentence) and output.count("\n") == 1, output
    assert learner.run("git", "for-each-ref").stdout == listing
    assert learner.run("git", "status", "--porcelain").stdout == status


# --- when something happens in the middle


def with_git(folder, script):
    """Return an environment in which a script is called before the real git."""
    (folder / "bin").mkdir()
    (folder / "bin/git").write_text(f'#!/bin/bash\n{script}\nexec {shutil.which("git")} "$@"\n')
    (folder / "bin/git").chmod(0o755)
    return {**CLEAN, "PATH": f"{folder / 'bin'}:{CLEAN['PATH']}"}


STEPS = ["update-ref", "rebase", "read-tree", "update-index", "symbolic-ref", "checkout"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_start_that_is_killed_loses_nothing_and_can_be_repeated(learner, tmp_path, step, moment):
    an_unfinished_rebase_with_edits_set_aside(learner)
    new_files_in_the_program(learner)
    learner.git("add", "src/utils/foo.py")
    learner.edit("src/utils/foo.py")
    before = learner.contents()
    real = f'{shutil.which("git")} "$@"' if moment == "after" else "true"
    # symbolic-ref is also used to ask, and read-tree for a private index
    last = '[[ $* == *refs/heads/* || $1 != symbolic-ref ]] && [ -z "$GIT_INDEX_FILE" ]'
    script = f'if [ "$1" = {step} ] && {last}; then {real}; kill -9 $PPID; exit; fi'

    learner.start(code=-9, env=with_git(tmp_path, script))

    assert before <= learner.kept()
    learner.start()
    is_original(learner)
    assert before <= learner.kept()


def test_a_file_that_is_edited_meanwhile_is_not_overwritten(learner, tmp_path):
    learner.git("switch", "-q", ONE)
    script = 'if [ "$1" = checkout ]; then echo late >src/main.py; echo late >src/new.py; fi'

    output = learner.start(3, code=1, env=with_git(tmp_path, script))

    assert output.startswith("git checkout failed: error: Your local changes to the following")
    assert output.endswith("Nothing is lost.\n")
    assert (learner.folder / "src/main.py").read_text() == "late\n"


# --- the pages


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/lessons/*.md")), ids=lambda page: page.stem)
def test_the_page_of_a_lesson_names_the_command(page):
    text = page.read_text()

    assert f"`python3 {TOOL} {page.stem}`" in text.split("## Get the code")[1].split("\n## ")[0]
