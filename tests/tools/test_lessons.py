"""tools/lessons.py against real git in temporary folders: `pytest tests/tools/test_lessons.py`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from processes import accept_signals

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "lessons.py"
NAMES = ["1-simple-model-training", "2-lightning-module", "3-improved-data-loading"]
ONE, TWO, THREE = NAMES
RUN_SH = "#!/bin/bash\npython -m src.main\n"
IDENTITY = {"NAME": "Ada Author", "EMAIL": "ada@example.org", "DATE": "2024-05-06T07:08:09+0000"}
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in IDENTITY.items()},
}


def git(folder, *args, env=CLEAN):
    done = subprocess.run(("git", *args), cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def tool(folder, *args, env=CLEAN, code=0):
    command = (sys.executable, str(TOOL), *args)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    done = subprocess.run(command, cwd=folder, env=env, preexec_fn=accept_signals, **pipes)
    assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def write(folder, files):
    for name, text in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(folder, files, message="Change"):
    write(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)


def tip(folder, ref):
    return git(folder, "rev-parse", "--verify", ref)


def refs(folder):
    return git(folder, "for-each-ref", "--format=%(refname) %(objectname)")


def lesson(number):
    """Return lines of which every fifth names its lesson."""
    return "".join(f"line_{k} = {0 if k % 5 else number}\n" for k in range(1, 24))


def course():
    """Three lessons: the first adds run.sh, the third (the root) removes src/old.py."""
    files = {"README.md": "The course\n", ".gitignore": "/env/\n__pycache__/\n", "docs/a.md": "a\n"}
    for number, name in enumerate(NAMES, 1):
        files[f"lessons/{name}.txt"] = f"Lesson {number}: do thing {number}\n\n- one idea é\n"
    files[f"lessons/{THREE}.txt"] += "\nRemoves: src/old.py\n"
    files |= {f"lessons/{ONE}/src/main.py": lesson(1), f"lessons/{TWO}/src/main.py": lesson(2)}
    files |= {f"lessons/{ONE}/run.sh": RUN_SH, f"lessons/{ONE}/src/old.py": "old\n"}
    return files | {"src/main.py": lesson(3), "run.sh": RUN_SH}


@pytest.fixture(scope="module")
def shared_repo(tmp_path_factory):
    """A main with three lessons, and with a tool and tests that no lesson branch gets."""
    folder = tmp_path_factory.mktemp("course")
    git(folder, "init", "-q", "-b", "main")
    write(folder, course())
    for path in ("run.sh", f"lessons/{ONE}/run.sh"):
        (folder / path).chmod(0o755)
    tools = {f"tools/{path.name}": path.read_text() for path in TOOL.parent.glob("*.py")}
    commit(folder, {**tools, "tests/x.py": "x\n"}, "Start")
    return folder


@pytest.fixture(scope="module")
def shared_built(shared_repo, tmp_path_factory):
    folder = shutil.copytree(shared_repo, tmp_path_factory.mktemp("built") / "course")
    tool(folder, "branches")
    return folder


@pytest.fixture
def repo(shared_repo, tmp_path):
    return shutil.copytree(shared_repo, tmp_path / "course")


@pytest.fixture
def built(shared_built, tmp_path):
    """The course with its lesson branches."""
    return shutil.copytree(shared_built, tmp_path / "course")


def change_lesson_two(folder):
    text = lesson(2).replace("line_9 = 0", "line_9 = 'new'")
    commit(folder, {f"lessons/{TWO}/src/main.py": text}, "Fix lesson 2")


def test_each_tree_contains_the_shared_files_and_the_layers_up_to_the_lesson(built):
    expected = {".gitignore", "README.md", "docs/a.md", "run.sh", "src/main.py"}

    for number, name in enumerate(NAMES, 1):
        paths = git(built, "ls-tree", "-r", "--name-only", name).splitlines()

        assert set(paths) == expected | ({"src/old.py"} if number < 3 else set())
        assert git(built, "show", f"{name}:src/main.py") == lesson(number).strip()
        assert tip(built, f"{name}:run.sh") == tip(built, "main:run.sh")
        assert tip(built, f"{name}:docs") == tip(built, "main:docs")
        assert git(built, "ls-tree", name, "run.sh").startswith("100755")


def test_parents_form_a_chain_and_the_log_is_the_syllabus(built):
    log = git(built, "log", "--format=%s", THREE).splitlines()

    assert log == ["Lesson 3: do thing 3", "Lesson 2: do thing 2", "Lesson 1: do thing 1"]
    assert git(built, "log", "-1", "--format=%b", ONE) == "- one idea é"
    for name, parent in ((TWO, ONE), (THREE, TWO)):
        assert tip(built, f"{name}^") == tip(built, parent)


def test_the_diff_of_two_branches_shows_only_the_lesson(built):
    diff = git(built, "diff", "--name-only", ONE, TWO)

    assert diff == "src/main.py"


def test_pristine_resolves_like_a_branch(built):
    assert tip(built, f"pristine/{TWO}") == tip(built, TWO)
    assert git(built, "diff", f"pristine/{TWO}", TWO) == ""


def test_the_last_lesson_is_the_program_of_the_root(repo):
    write(repo, {"run.py": "three\n", "check.py": "check\n"})
    commit(repo, {"src/launch/job.py": "job\n"})

    tool(repo, "branches")

    assert git(repo, "rev-list", "--count", THREE) == "3"
    assert set(git(repo, "ls-tree", "-r", "--name-only", THREE).splitlines()) == {
        *(".gitignore", "README.md", "check.py", "docs/a.md"),
        *("run.py", "run.sh", "src/launch/job.py", "src/main.py"),
    }


def test_a_branch_of_the_earlier_tool_moves(built):
    # the earlier tool made the same commits from complete snapshots of each lesson
    text = git(built, "cat-file", "commit", TWO).replace("- one idea é", "- another idea")
    earlier = subprocess.run(
        *(("git", "hash-object", "-t", "commit", "-w", "--stdin"),),
        **{"cwd": built, "env": CLEAN, "input": text, "text": True, "capture_output": True},
    ).stdout.strip()
    git(built, "update-ref", f"refs/heads/{TWO}", earlier)

    output = tool(built, "branches")

    assert f"moved {TWO}\n" in output
    assert tip(built, f"refs/heads/{TWO}") == tip(built, f"pristine/{TWO}") != earlier


def test_a_second_run_changes_nothing_and_says_so_in_one_line(built):
    before = refs(built)

    output = tool(built, "branches")

    assert refs(built) == before
    assert re.fullmatch(r"3 branches from main [0-9a-f]{7}: nothing changed\n", output)


def test_hostile_settings_change_no_hash(built, tmp_path):
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(built), str(other))
    for name in NAMES:
        git(other, "update-ref", "-d", f"refs/remotes/origin/{name}")
    hostile = {
        "user.name": "Zoë", "user.email": "z@example.org", "core.autocrlf": "true",
        "core.fileMode": "false", "core.eol": "crlf", "commit.gpgSign": "true",
        "gpg.program": "false", "i18n.commitEncoding": "UTF-16", "core.quotePath": "false",
        "i18n.logOutputEncoding": "UTF-16", "log.showSignature": "true", "core.abbrev": "5",
        "commit.template": "/nowhere", "status.short": "true", "color.ui": "always",
        "diff.noprefix": "true", "core.logAllRefUpdates": "false", "core.safecrlf": "true",
    }  # fmt: skip
    for key, value in hostile.items():
        git(other, "config", key, value)
    env = CLEAN | {
        "TZ": "Asia/Kathmandu", "LC_ALL": "C", "GIT_AUTHOR_NAME": "X", "GIT_COMMITTER_NAME": "Y",
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00+1200", "GIT_COMMITTER_EMAIL": "y@example.org",
        "GIT_COMMITTER_DATE": "2002-01-01T00:00:00-1200", "GIT_DIR": str(built / ".git"),
        "GIT_INDEX_FILE": str(tmp_path / "index"), "GIT_WORK_TREE": str(tmp_path),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "objects"), "GIT_NAMESPACE": "elsewhere",
        "GIT_LITERAL_PATHSPECS": "0", "GIT_EXTERNAL_DIFF": "false",
    }  # fmt: skip
    before = refs(built)

    old = os.umask(0o077)
    try:
        tool(other, "branches", env=env)
    finally:
        os.umask(old)

    for name in NAMES:
        assert tip(other, f"refs/heads/{name}") == tip(built, f"refs/heads/{name}")
    assert refs(built) == before
    assert not (tmp_path / "index").exists()


def test_a_replaced_commit_changes_no_hash(built):
    before = refs(built)
    main = tip(built, "main")
    change_lesson_two(built)
    git(built, "replace", main, "main")
    git(built, "reset", "-q", "--soft", main)

    tool(built, "branches")

    git(built, "replace", "-d", main)
    assert refs(built) == before


def test_the_working_tree_and_the_index_stay_as_they_are(repo):
    write(repo, {"README.md": "edited\n", "new.txt": "new\n"})
    git(repo, "add", "new.txt")
    # now git status would refresh the index entry of this unchanged file
    os.utime(repo / "docs/a.md", (1, 1))
    index = (repo / ".git/index").read_bytes()

    output = tool(repo, "branches")

    assert (repo / ".git/index").read_bytes() == index
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(repo, "show", f"{ONE}:README.md") == "The course"
    assert "not in the branches until committed: README.md\n" in output


def test_a_missing_branch_is_made(built):
    expected = tip(built, TWO)
    git(built, "branch", "-D", TWO)

    output = tool(built, "branches")

    assert tip(built, f"refs/heads/{TWO}") == expected
    assert f"made {TWO}\n" in output


def test_an_untouched_branch_moves(built):
    old = tip(built, TWO)
    change_lesson_two(built)

    output = tool(built, "branches")

    assert tip(built, TWO) != old
    assert "'new'" in git(built, "show", f"{TWO}:src/main.py")
    assert f"moved {TWO}\n" in output
    assert f"moved {ONE}\n" not in output


def test_an_untouched_branch_moves_after_main_moved_on_twice(built):
    for number in (1, 2):
        commit(built, {f"lessons/{TWO}/src/main.py": f"change {number}\n"})
        if number == 1:
            # the tool in another clone made these branches; here only the tip tells who made them
            git(built, "update-ref", "-d", f"refs/pristine/{TWO}")

        tool(built, "branches")

    assert git(built, "show", f"{TWO}:src/main.py") == "change 2"


def test_a_branch_with_learner_commits_is_kept(built, tmp_path):
    git(built, "switch", "-q", TWO)
    for number in (1, 2):
        commit(built, {"src/main.py": f"mine {number}\n"})
    mine = tip(built, TWO)
    git(built, "switch", "-q", "main")
    change_lesson_two(built)

    output = tool(built, "branches")

    remedy = f"New version: git diff pristine/{TWO}"
    assert tip(built, TWO) == mine
    assert f"kept {TWO}: it has 2 commits of yours. {remedy}\n" in output
    git(built, "switch", "-q", TWO)
    assert "'new'" in git(built, "diff", f"pristine/{TWO}")
    assert "nothing changed" in tool(built, "branches", "--source", "main")


def test_learner_commits_on_the_newest_version_are_named_as_such(built):
    git(built, "switch", "-q", TWO)
    commit(built, {"src/main.py": "mine\n"})
    git(built, "switch", "-q", "main")

    output = tool(built, "branches")

    assert f"kept {TWO}: it has 1 commit of yours on top of the newest version." in output
    assert "nothing changed" in output


def test_an_amended_branch_is_kept(built):
    git(built, "switch", "-q", TWO)
    write(built, {"src/main.py": "mine\n"})
    git(built, "commit", "-q", "-a", "--amend", "--no-edit")
    mine = tip(built, TWO)
    git(built, "switch", "-q", "main")
    change_lesson_two(built)

    output = tool(built, "branches")

    assert tip(built, TWO) == mine
    assert f"kept {TWO}: it has 1 commit of yours. New version: git diff pristine/{TWO}\n" in output


def test_an_amend_that_changes_only_the_message_is_kept(built):
    git(built, "switch", "-q", TWO)
    git(built, "commit", "-q", "--amend", "-m", "Lesson 2: my words")
    mine = tip(built, TWO)
    git(built, "switch", "-q", "main")

    tool(built, "branches")

    assert tip(built, TWO) == mine


def test_a_rebased_branch_is_kept(built):
    git(built, "switch", "-q", TWO)
    commit(built, {"mine.txt": "mine\n"})
    git(built, "switch", "-q", "main")
    change_lesson_two(built)
    tool(built, "branches")
    git(built, "rebase", "-q", "--onto", f"pristine/{TWO}", f"{TWO}~1", TWO)
    commit(built, {"more.txt": "more\n"})
    mine = tip(built, TWO)
    git(built, "switch", "-q", "main")
    commit(built, {"README.md": "changed\n"})

    output = tool(built, "branches")

    assert tip(built, TWO) == mine
    assert f"kept {TWO}: it has 2 commits of yours. " in output


def test_a_branch_rebased_on_main_is_kept(built):
    git(built, "rebase", "-q", "--strategy-option=theirs", "main", ONE)
    mine = tip(built, ONE)
    git(built, "switch", "-q", "main")

    output = tool(built, "branches")

    assert tip(built, ONE) == mine
    assert f"kept {ONE}: it has 2 commits of yours. " in output


@pytest.mark.parametrize("dirty", [False, True])
def test_a_checked_out_branch_is_kept_and_its_edits_survive_the_remedy(built, dirty):
    git(built, "switch", "-q", TWO)
    if dirty:
        write(built, {"run.sh": "mine\n"})
    git(built, "update-ref", "refs/heads/next", "main")
    new = git(built, "commit-tree", "-m", "next", "-p", "main", f"{newer_tree(built)}")
    git(built, "update-ref", "refs/heads/main", new)
    old = tip(built, TWO)

    output = tool(built, "branches")

    line = re.search(
        rf"kept {TWO}: checked out. New version: (git -C .* reset --keep .*)\n", output
    )
    assert tip(built, TWO) == old
    assert line, output
    subprocess.run(line[1], shell=True, check=True, env=CLEAN)
    assert tip(built, TWO) == tip(built, f"pristine/{TWO}") != old
    assert (built / "run.sh").read_text() == ("mine\n" if dirty else RUN_SH)


def newer_tree(folder):
    """Make the tree of main with a changed lesson 2, without a checkout."""
    env = CLEAN | {"GIT_INDEX_FILE": str(folder / ".git" / "index.newer")}
    blob = folder / ".git" / "newer.py"
    blob.write_text("newer\n")
    sha = git(folder, "hash-object", "-w", str(blob))
    git(folder, "read-tree", "main", env=env)
    path = f"100644,{sha},lessons/{TWO}/src/main.py"
    git(folder, "update-index", "--cacheinfo", path, env=env)
    return git(folder, "write-tree", env=env)


def test_the_remedy_refuses_if_an_edit_would_be_lost(built):
    git(built, "switch", "-q", TWO)
    write(built, {"src/main.py": "mine\n"})
    new = git(built, "commit-tree", "-m", "next", "-p", "main", newer_tree(built))
    git(built, "update-ref", "refs/heads/main", new)
    output = tool(built, "branches")
    remedy = re.search(r"New version: (git -C .* reset --keep .*)\n", output)[1]

    done = subprocess.run(remedy, shell=True, env=CLEAN, capture_output=True)

    assert done.returncode != 0
    assert (built / "src/main.py").read_text() == "mine\n"


def test_a_branch_checked_out_in_another_worktree_is_kept(built, tmp_path):
    other = tmp_path / "other"
    git(built, "worktree", "add", "-q", str(other), TWO)
    old = tip(built, TWO)
    change_lesson_two(built)

    output = tool(built, "branches")

    assert tip(built, TWO) == old
    assert git(other, "status", "--porcelain") == ""
    assert f"git -C '{other}' reset --keep pristine/{TWO}\n" in output


def test_a_branch_in_the_middle_of_a_rebase_is_kept(built):
    git(built, "switch", "-q", TWO)
    env = CLEAN | {"GIT_SEQUENCE_EDITOR": "sed -i 1s/pick/edit/"}
    git(built, "rebase", "-q", "-i", f"{TWO}~1", env=env)
    git(built, "worktree", "add", "-q", "../author", "main")
    old = tip(built, TWO)
    author = built.parent / "author"
    change_lesson_two(author)

    output = tool(author, "branches")

    assert tip(built, TWO) == old
    assert f"kept {TWO}: in the middle of a rebase or bisect." in output


def test_a_namesake_branch_is_kept(repo):
    git(repo, "branch", TWO, "main")
    mine = tip(repo, TWO)

    output = tool(repo, "branches")

    assert tip(repo, f"refs/heads/{TWO}") == mine
    assert f"kept {TWO}: it has 1 commit of yours. New version: git diff pristine/{TWO}" in output
    assert tip(repo, THREE)


def test_a_branch_that_points_at_another_lesson_is_kept(built):
    git(built, "branch", "-f", TWO, THREE)

    output = tool(built, "branches")

    assert tip(built, TWO) == tip(built, THREE)
    assert f"kept {TWO}: it points at another lesson." in output


def test_a_branch_in_the_way_is_named(repo):
    git(repo, "branch", f"{TWO}/mine", "main")

    output = tool(repo, "branches")

    assert f"kept {TWO}: your branch {TWO}/mine blocks its name." in output
    assert tip(repo, f"pristine/{TWO}") and tip(repo, THREE)


def test_a_fresh_clone_of_published_branches_follows_them(built, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(built), str(clone))
    git(clone, "branch", "-q", TWO, f"origin/{TWO}")
    change_lesson_two(clone)

    output = tool(clone, "branches")

    assert "'new'" in git(clone, "show", f"{TWO}:src/main.py")
    assert f"made {ONE}\n" in output and f"moved {TWO}\n" in output


def test_a_clone_with_only_a_detached_head_builds_from_it(built, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(built), str(clone))
    git(clone, "switch", "-q", "--detach", "origin/main")
    git(clone, "branch", "-q", "-D", "main")
    for ref in git(clone, "for-each-ref", "--format=%(refname)", "refs/remotes").splitlines():
        git(clone, "update-ref", "--no-deref", "-d", ref)

    output = tool(clone, "branches")

    assert tip(clone, THREE) == tip(built, THREE)
    assert "3 branches from HEAD " in output


def test_a_shallow_clone_gives_the_same_hashes(built, tmp_path):
    commit(built, {"README.md": "second\n"})
    tool(built, "branches")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", "--no-single-branch", built.as_uri(), str(clone))
    git(clone, "branch", "-q", TWO, f"origin/{TWO}")

    tool(clone, "branches")

    assert tip(clone, THREE) == tip(built, THREE)
    change_lesson_two(clone)
    assert f"moved {TWO}\n" in tool(clone, "branches")


def test_a_bare_clone_gives_the_same_hashes(built, tmp_path):
    git(tmp_path, "clone", "-q", "--bare", str(built), "bare.git")
    git(tmp_path / "bare.git", "branch", "-q", "-D", *NAMES)

    tool(tmp_path / "bare.git", "branches")

    assert tip(tmp_path / "bare.git", THREE) == tip(built, THREE)


def test_a_clone_without_main_uses_the_one_of_origin(built, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--branch", THREE, str(built), str(clone))

    output = tool(clone, "branches")

    assert "3 branches from origin/main " in output
    assert tip(clone, f"refs/heads/{ONE}") == tip(built, ONE)


def test_another_commit_can_be_the_source(built):
    old = tip(built, TWO)
    change_lesson_two(built)
    tool(built, "branches")

    tool(built, "branches", "--source", "main~1")

    assert tip(built, TWO) == old


def test_it_runs_from_any_folder_of_the_clone(repo):
    tool(repo / "docs", "branches")

    assert tip(repo, THREE)


def test_a_folder_without_git_gets_one_sentence(repo):
    shutil.rmtree(repo / ".git")

    output = tool(repo, "branches", code=1)

    assert f"{repo} is not a git clone; the lesson branches need one: git clone <" in output
    assert output.count("\n") == 1


def test_an_unpacked_archive_inside_another_clone_is_not_taken_for_the_clone(repo, tmp_path):
    shutil.rmtree(repo / ".git")
    git(tmp_path, "init", "-q", "-b", "main")

    output = tool(repo, "branches", code=1)

    assert "is not a git clone" in output


def test_a_missing_git_gets_one_sentence(repo, tmp_path):
    output = tool(repo, "branches", env=CLEAN | {"PATH": str(tmp_path)}, code=1)

    assert output == "git: command not found. Install git, or load its module.\n"


def test_a_source_without_lessons_gets_one_sentence(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    commit(tmp_path, {"a": "a\n"})

    for args in (["branches"], ["branches", "--source=nowhere"], ["branches", "--source="]):
        output = tool(tmp_path, *args, code=1)

        assert "has no folder lessons/: fetch it" in output
        assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({f"lessons/{TWO}.txt": "no number\n"}, f"lessons/{TWO}.txt must begin with `Lesson 2: `."),
        ({f"lessons/{TWO}/docs/x": "x\n"}, f"lessons/{TWO}/docs/x has a shared file's name"),
        ({f"lessons/{TWO}/notes": "x\n"}, f"lessons/{TWO}/notes is not part of the program"),
        ({"lessons/2-other.txt": "Lesson 2: x\n"}, "lesson 2 exists twice: rename 2-improved"),
        ({"lessons/2-other/src/a.py": "x\n"}, "lesson 2 exists twice"),
        ({"lessons/4-x/src/a.py": "x\n"}, "lessons/4-x/ has no message: write lessons/4-x.txt"),
        ({"lessons/5-x.txt": "Lesson 5: x\n"}, "lesson 4 is missing: lessons are numbered without"),
        ({"lessons/notes.md": "x\n"}, "lessons/notes.md is neither a message N-name.txt nor a"),
        ({"lessons/02-x.txt": "x\n"}, "lessons/02-x is not a lesson's name: call it N-name"),
        ({f"lessons/{THREE}/src/a.py": "x\n"}, f"delete lessons/{THREE}/: the last lesson is"),
        ({f"lessons/{TWO}/run.sh": RUN_SH}, f"lessons/{TWO}/run.sh equals the file of lesson 1"),
        ({f"lessons/{TWO}/src/old.py/x": "x\n"}, "src/old.py/x clashes with src/old.py"),
        ({f"lessons/{TWO}/run.sh/x": "x\n"}, f"lessons/{TWO}/run.sh/x clashes with run.sh"),
        (
            {f"lessons/{TWO}.txt": "Lesson 2: x\n\nRemoves: src/a.py\n"},
            f"lessons/{TWO}.txt removes src/a.py, which is not a file of an earlier lesson",
        ),
        (
            {f"lessons/{TWO}.txt": "Lesson 2: x\n\nRemoves: src/main.py\n"},
            f"lessons/{TWO}.txt removes src/main.py, which it contains",
        ),
        (
            {f"lessons/{THREE}.txt": "Lesson 3: x\n"},
            "the root lacks src/old.py, which lesson 2 has: restore it, or add the line",
        ),
    ],
)
def test_a_fault_in_the_lessons_stops_before_any_branch(repo, files, sentence):
    write(repo, files)
    for path in files:
        (repo / path).chmod(0o755 if path.endswith("run.sh") else 0o644)
    commit(repo, {})

    output = tool(repo, "branches", code=1)

    assert sentence.replace("2-improved", "2-lightning-module") in output
    assert output.count("\n") == 1
    assert git(repo, "branch", "--format=%(refname:short)") == "main"


def test_a_ref_that_cannot_move_leaves_all_where_they_are(built):
    change_lesson_two(built)
    before = refs(built)
    (built / f".git/refs/heads/{THREE}.lock").touch()

    output = tool(built, "branches", code=1)

    assert "git update-ref failed" in output
    assert refs(built) == before


def test_list_prints_the_lessons(repo):
    assert tool(repo, "list").split() == NAMES


def test_a_reader_that_ends_early_is_not_an_error(repo):
    read_end, write_end = os.pipe()
    os.close(read_end)

    command = [sys.executable, str(TOOL), "list"]
    done = subprocess.run(command, cwd=repo, env=CLEAN, stdout=write_end, stderr=subprocess.PIPE)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_named_without_a_file(repo):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, str(TOOL), "list"]
        done = subprocess.run(command, cwd=repo, env=CLEAN, stdout=full, stderr=subprocess.PIPE)

    assert (done.returncode, done.stderr) == (1, b"No space left on device\n")


def test_diff_names_paths_as_the_branch_has_them(built):
    output = tool(built, "diff", "2")

    assert "diff --git a/src/main.py b/src/main.py\n" in output
    assert "-line_5 = 1\n" in output and "+line_5 = 2\n" in output
    assert "run.sh" not in output


def test_diff_of_lesson_one_shows_every_file_of_it(repo):
    shutil.rmtree(repo / ".git")

    output = tool(repo, "diff", "1")

    assert "+++ b/run.sh\n" in output and "+++ b/src/main.py\n" in output


@pytest.mark.parametrize("wanted", ["0", "4", "two", "-1", "02"])
def test_an_unknown_lesson_number_is_a_usage_error(repo, wanted):
    output = tool(repo, "diff", "--", wanted, code=2)

    assert f"cannot diff lesson '{wanted}'; choose from 1 2 3\n" in output


def test_the_last_lesson_has_nowhere_to_carry_to(repo):
    assert "choose from 1 2\n" in tool(repo, "carry", "3", code=2)


def test_export_gives_the_tree_of_each_branch(built, tmp_path):
    write(built, {"env/x": "ignored\n", "src/__pycache__/x.pyc": "ignored\n"})
    for number, name in enumerate(NAMES, 1):
        folder = tmp_path / "out" / name

        output = tool(built, "export", str(number), str(folder))

        assert output == f"{name} is in {folder}\n"
        git(folder, "init", "-q")
        git(folder, "add", "--all", "--force")
        assert git(folder, "write-tree") == tip(built, f"{name}^{{tree}}")
    assert git(built, "status", "--porcelain") == ""


def test_export_includes_uncommitted_edits(repo, tmp_path):
    write(repo, {f"lessons/{TWO}/src/new.py": "new\n", f"lessons/{ONE}/src/old.py": "edited\n"})

    tool(repo, "export", "2", str(tmp_path / "two"))

    assert (tmp_path / "two/src/new.py").read_text() == "new\n"
    assert (tmp_path / "two/src/old.py").read_text() == "edited\n"


def test_export_works_in_an_unpacked_archive(repo, tmp_path):
    shutil.rmtree(repo / ".git")

    tool(repo, "export", "1", str(tmp_path / "one"))

    assert (tmp_path / "one/src/main.py").read_text() == lesson(1)


@pytest.mark.parametrize("target", ["a file", "a folder with files"])
def test_export_never_writes_over_files(repo, tmp_path, target):
    path = tmp_path / "target"
    write(tmp_path, {"target" if target == "a file" else "target/mine": "mine\n"})

    output = tool(repo, "export", "1", str(path), code=1)

    assert output == f"{path} is not an empty folder: name a new one.\n"
    assert [p.read_text() for p in (path, path / "mine") if p.is_file()] == ["mine\n"]


def test_lessons_nine_to_eleven_can_be_added(repo, tmp_path):
    """The tool has no limit on the number of lessons: 10 follows 9, and 11 follows 10."""
    for number in range(4, 12):
        tool(repo, "new", f"{number}-lesson")
        write(repo, {"src/main.py": lesson(number), f"src/part_{number}.py": f"{number}\n"})
        if number == 10:
            (repo / "src/part_9.py").unlink()
            message = repo / "lessons/10-lesson.txt"
            message.write_text(message.read_text() + "\nRemoves: src/part_9.py\n")
        commit(repo, {})

    tool(repo, "branches")

    names = [*NAMES, *(f"{number}-lesson" for number in range(4, 12))]
    assert tool(repo, "list").split() == names
    log = git(repo, "log", "--format=%s", "11-lesson").splitlines()
    assert log[:3] == ["Lesson 11: lesson", "Lesson 10: lesson", "Lesson 9: lesson"]
    assert len(log) == 11
    assert {path.name for path in (repo / "lessons/9-lesson/src").iterdir()} == {
        *("main.py", "part_9.py")
    }
    changed = tool(repo, "diff", "10")
    assert "deleted file mode 100644" in changed and "+++ b/src/part_10.py" in changed
    tool(repo, "export", "11", str(tmp_path / "eleven"))
    assert (tmp_path / "eleven/src/part_10.py").exists()
    assert not (tmp_path / "eleven/src/part_9.py").exists()
    edited = "first = 0\n" + lesson(9)
    write(repo, {"lessons/9-lesson/src/main.py": edited, "lessons/9-lesson/src/part_8.py": "8!\n"})
    tool(repo, "carry", "9")
    assert (repo / "lessons/10-lesson/src/main.py").read_text() == "first = 0\n" + lesson(10)
    assert (repo / "src/main.py").read_text() == "first = 0\n" + lesson(11)
    assert (repo / "src/part_8.py").read_text() == "8!\n"
    assert not (repo / "lessons/10-lesson/src/part_8.py").exists()


def test_a_new_lesson_leaves_the_branches_as_they_are(built):
    before = {name: tip(built, f"{name}^{{tree}}") for name in NAMES}

    output = tool(built, "new", "4-next")
    commit(built, {})
    tool(built, "branches")

    assert f"lesson 3 is now the layer lessons/{THREE}/: 1 files\n" in output
    assert {name: tip(built, f"{name}^{{tree}}") for name in NAMES} == before
    assert tip(built, "4-next^{tree}") == before[THREE]
    assert git(built, "ls-files", "lessons/" + THREE) == f"lessons/{THREE}/src/main.py"


def test_a_repository_inside_the_program_is_not_exported_as_an_empty_folder(repo, tmp_path):
    write(repo, {"src/nested/a.py": "a\n"})
    git(repo / "src/nested", "init", "-q")
    git(repo / "src/nested", "add", "a.py")
    git(repo / "src/nested", "commit", "-q", "-m", "nested")

    output = tool(repo, "export", "3", str(tmp_path / "three"), code=1)

    assert output == "src/nested is a separate git repository: move it elsewhere.\n"
    assert not (tmp_path / "three").exists()


def test_a_link_of_the_program_stays_a_link(repo):
    (repo / "src/link.py").symlink_to("main.py")
    commit(repo, {})

    tool(repo, "new", "4-next")

    assert str((repo / "lessons" / THREE / "src/link.py").readlink()) == "main.py"


@pytest.mark.parametrize("command", [["list"], ["new", "1-x"], ["carry", "2"], ["diff", "1"]])
def test_a_folder_without_lessons_gets_one_sentence(tmp_path, command):
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "lessons").mkdir()

    output = tool(tmp_path, *command, code=1)

    assert output == f"{tmp_path} has no lessons: this command needs the files of main.\n"


def test_the_folder_docs_lessons_is_not_taken_for_the_lessons(repo):
    write(repo, {"docs/lessons/1.md": "page\n"})

    assert tool(repo / "docs", "list").split() == NAMES


def test_a_new_lesson_takes_no_uncommitted_edit_into_the_previous_one(built):
    write(built, {"src/main.py": "edited\n"})

    output = tool(built, "new", "4-next", code=1)

    assert output.startswith(f"src/main.py: edits would end up in {THREE}; commit them, or")
    assert git(built, "status", "--porcelain").split() == ["M", "src/main.py"]
    assert (built / "src/main.py").read_text() == "edited\n"


def test_ctrl_c_ends_with_one_word_and_changes_nothing(built, tmp_path):
    before = git(built, "for-each-ref")
    (tmp_path / "bin").mkdir()
    script = f'#!/bin/sh\n[ "$1" = ls-tree ] && kill -INT $PPID\nexec {shutil.which("git")} "$@"\n'
    (tmp_path / "bin/git").write_text(script)
    (tmp_path / "bin/git").chmod(0o755)
    env = {**CLEAN, "PATH": f"{tmp_path / 'bin'}:{CLEAN['PATH']}"}

    assert tool(built, "branches", env=env, code=130) == "interrupted\n"
    assert git(built, "for-each-ref") == before


@pytest.mark.parametrize("name", ["5-next", "3-next", "next", "4", "4-Next", "4-a b"])
def test_a_new_lesson_with_a_wrong_name_changes_nothing(repo, name):
    output = tool(repo, "new", name, code=1)

    assert f"{name!r} is not the name of the next lesson: call it 4-name" in output
    assert git(repo, "status", "--porcelain") == ""


def main_of(repo, name):
    return repo / "src/main.py" if name == THREE else repo / "lessons" / name / "src" / "main.py"


def test_carry_takes_an_edit_into_the_later_lessons_and_the_root(repo):
    edited = lesson(1).replace("line_1 = 0", "line_1 = 'one'")
    write(repo, {f"lessons/{ONE}/src/main.py": edited, f"lessons/{ONE}/src/new.py": "new\n"})
    (repo / "lessons" / ONE / "run.sh").unlink()
    (repo / "lessons" / ONE / "src/new.py").chmod(0o755)

    tool(repo, "carry", "1")

    for number, name in ((2, TWO), (3, THREE)):
        expected = lesson(number).replace("line_1 = 0", "line_1 = 'one'")
        assert main_of(repo, name).read_text() == expected
    assert (repo / "src/new.py").read_text() == "new\n"
    assert (repo / "src/new.py").stat().st_mode & 0o100
    assert not (repo / "run.sh").exists()
    # lesson 2 has these files from the layer of lesson 1
    assert [path.name for path in (repo / "lessons" / TWO).rglob("*")] == ["src", "main.py"]


def test_carry_does_not_bring_back_what_a_later_lesson_removes(repo):
    write(repo, {f"lessons/{ONE}/src/old.py": "edited\n"})

    tool(repo, "carry", "1")

    assert not (repo / "src/old.py").exists()


def test_carry_starts_from_the_file_of_the_layer_below(repo):
    commit(repo, {"run.sh": RUN_SH + "echo three\n"})
    write(repo, {f"lessons/{TWO}/run.sh": RUN_SH.replace("#!/bin/bash\n", "#!/bin/bash\nset -e\n")})

    tool(repo, "carry", "2")

    expected = "#!/bin/bash\nset -e\npython -m src.main\necho three\n"
    assert (repo / "run.sh").read_text() == expected


def test_carry_twice_changes_nothing_more(repo):
    write(repo, {f"lessons/{ONE}/src/main.py": lesson(1) + "last = 1\n"})
    tool(repo, "carry", "1")
    before = git(repo, "diff")

    tool(repo, "carry", "1")

    assert git(repo, "diff") == before


def test_carry_keeps_the_line_ends_of_the_clone(repo):
    git(repo, "config", "core.autocrlf", "true")
    for name in NAMES:
        main_of(repo, name).unlink()
    git(repo, "checkout", "-q", "--", "lessons", "src")
    edited = main_of(repo, ONE).read_bytes().replace(b"line_1 = 0", b"line_1 = 'one'")
    main_of(repo, ONE).write_bytes(edited)

    tool(repo, "carry", "1")

    expected = lesson(3).replace("line_1 = 0", "line_1 = 'one'").replace("\n", "\r\n")
    assert main_of(repo, THREE).read_bytes() == expected.encode()


def test_carry_stops_at_a_conflict_and_names_the_file(repo):
    edited = lesson(1).replace("line_5 = 1", "line_5 = 'mine'")
    write(repo, {f"lessons/{ONE}/src/main.py": edited, f"lessons/{ONE}/src/new.py": "new\n"})

    output = tool(repo, "carry", "1", code=1)

    path = f"lessons/{TWO}/src/main.py"
    again = "resolve it by hand, then: python3 tools/lessons.py carry 2"
    assert f"conflict in {path}: {again}" in output
    assert f"<<<<<<< {path}\n" in (repo / path).read_text()
    assert f">>>>>>> lessons/{ONE}/src/main.py\n" in (repo / path).read_text()
    assert git(repo, "status", "--porcelain", "src") == ""
    assert f"conflict in {path}" in tool(repo, "carry", "2", code=1)

    (repo / path).write_text(lesson(2).replace("line_5 = 2", "line_5 = 'resolved'"))
    output = tool(repo, "carry", "2", code=1)
    assert "conflict in src/main.py: resolve it by hand\n" in output
    assert "<<<<<<< " in main_of(repo, THREE).read_text()


def test_carry_never_writes_over_uncommitted_edits(repo):
    write(repo, {f"lessons/{ONE}/src/main.py": "first = 0\n" + lesson(1)})
    mine = lesson(2) + "mine\n"
    write(repo, {f"lessons/{TWO}/src/main.py": mine})

    output = tool(repo, "carry", "1", code=1)

    assert f"lessons/{TWO}/src/main.py has uncommitted edits: commit them" in output
    assert main_of(repo, TWO).read_text() == mine
    assert main_of(repo, THREE).read_text() == lesson(3)


def test_carry_names_what_a_later_lesson_has_changed(repo):
    commit(repo, {"src/main.py": "changed\n"})
    main_of(repo, TWO).unlink()
    main_of(repo, ONE).unlink()

    output = tool(repo, "carry", "1")

    assert "skipped src/main.py: it has changed\n" in output
    assert main_of(repo, THREE).read_text() == "changed\n"


def test_carry_without_an_edit_changes_nothing(repo):
    assert "lesson 1: carried no files with uncommitted edits" in tool(repo, "carry", "1")
    assert git(repo, "status", "--porcelain") == ""


def test_the_push_of_the_workflow_publishes_the_branches(built, tmp_path):
    workflow = (ROOT / ".github/workflows/publish.yml").read_text()
    push = re.search(r"run: (git push .*)", workflow)[1]
    git(tmp_path, "init", "-q", "--bare", "site.git")
    git(built, "remote", "add", "origin", str(tmp_path / "site.git"))

    subprocess.run(push, shell=True, cwd=built, check=True, env=CLEAN, capture_output=True)

    published = git(tmp_path / "site.git", "for-each-ref", "--format=%(refname:short)").split()
    assert published == NAMES


def test_the_workflow_publishes_the_site_beside_the_branches_with_no_more_rights_than_needed():
    text = (ROOT / ".github/workflows/publish.yml").read_text()
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    build, publish = jobs["build-site"], jobs["publish-site"]

    assert workflow["permissions"] == {}
    # one run at a time, so that an older main never overwrites a newer one
    assert workflow["concurrency"].startswith("${{ github.event_name == 'push' && 'publish'")
    assert jobs["publish"]["permissions"] == {"contents": "write"}
    assert build["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    assert "permissions" not in jobs["refuse"]
    # a pull request, which may come from anybody, builds and publishes nothing
    assert build["if"] == jobs["publish"]["if"] == "github.event_name == 'push'"
    assert publish["needs"] == "build-site" and "if" not in publish
    assert {"needs", "steps"} & jobs["publish"].keys() == {"steps"}
    makes, upload = build["steps"][-2:]
    assert makes["run"].startswith("make site")
    assert upload == {"uses": "actions/upload-pages-artifact@v3", "with": {"path": "site"}}
    assert publish["steps"] == [{"id": "deployment", "uses": "actions/deploy-pages@v4"}]
