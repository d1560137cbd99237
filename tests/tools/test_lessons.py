"""tools/lessons.py against real git in temporary folders: `pytest tests/tools/test_lessons.py`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "lessons.py"
NAMES = ["1-simple-model-training", "2-lightning-module", "3-improved-data-loading"]
ONE, TWO, THREE = NAMES
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
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
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
    """Lines of which every fifth says which lesson it is of."""
    return "".join(f"line_{k} = {0 if k % 5 else number}\n" for k in range(1, 24))


def course():
    files = {"README.md": "The course\n", ".gitignore": "/env/\n__pycache__/\n", "docs/a.md": "a\n"}
    for number, name in enumerate(NAMES, 1):
        files[f"lessons/{name}/src/main.py"] = lesson(number)
        files[f"lessons/{name}/run.sh"] = "#!/bin/bash\npython -m src.main\n"
        files[f"lessons/{name}.txt"] = f"Lesson {number}: do thing {number}\n\n- one idea é\n"
    return files


@pytest.fixture
def repo(tmp_path):
    """A main with three lessons, and a tool and tests that belong on no branch."""
    folder = tmp_path / "course"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder, course())
    for name in NAMES:
        (folder / "lessons" / name / "run.sh").chmod(0o755)
    commit(folder, {"tools/lessons.py": TOOL.read_text(), "tests/x.py": "x\n"}, "Start")
    return folder


@pytest.fixture
def built(repo):
    tool(repo, "branches")
    return repo


def change_lesson_two(folder):
    text = lesson(2).replace("line_9 = 0", "line_9 = 'new'")
    commit(folder, {f"lessons/{TWO}/src/main.py": text}, "Mend lesson 2")


def test_each_tree_is_the_shared_files_and_the_lesson(built):
    expected = {".gitignore", "README.md", "docs/a.md", "run.sh", "src/main.py"}

    for name in NAMES:
        paths = git(built, "ls-tree", "-r", "--name-only", name).splitlines()

        assert set(paths) == expected
        for path in ("run.sh", "src/main.py"):
            assert tip(built, f"{name}:{path}") == tip(built, f"main:lessons/{name}/{path}")
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


def test_lesson_eight_is_the_program_of_the_root(repo):
    files = {"run.py": "eight\n", "src/main.py": "eight\n", "check.py": "check\n"}
    for number in range(4, 8):
        files[f"lessons/{number}-x/src/main.py"] = f"{number}\n"
        files[f"lessons/{number}-x.txt"] = f"Lesson {number}: x\n"
    files["lessons/8-distributed-training.txt"] = "Lesson 8: many nodes\n"
    commit(repo, files)

    tool(repo, "branches")

    last = "8-distributed-training"
    assert git(repo, "rev-list", "--count", last) == "8"
    assert set(git(repo, "ls-tree", "--name-only", last).splitlines()) == {
        *(".gitignore", "README.md", "check.py", "docs", "run.py", "src")
    }


def test_lessons_after_a_gap_wait(repo):
    commit(repo, {"lessons/5-x/src/main.py": "5\n", "lessons/5-x.txt": "Lesson 5: x\n"})

    tool(repo, "branches")

    assert git(repo, "branch", "--format=%(refname:short)").split() == [*NAMES, "main"]


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
    # now git would like to write down in the index that this file is as it was
    os.utime(repo / "docs/a.md", (1, 1))
    index = (repo / ".git/index").read_bytes()

    output = tool(repo, "branches")

    assert (repo / ".git/index").read_bytes() == index
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(repo, "show", f"{ONE}:README.md") == "The course"
    assert "not in the branches until committed: README.md\n" in output


def test_a_branch_that_is_not_there_is_made(built):
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
            # the tool of another clone has made these; here nothing but the tip tells whose it is
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
    git(built, "rebase", "-q", "main", ONE)
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
    assert (built / "run.sh").read_text() == (
        "mine\n" if dirty else course()[f"lessons/{TWO}/run.sh"]
    )


def newer_tree(folder):
    """The tree of main with another lesson 2, made without a checkout."""
    env = CLEAN | {"GIT_INDEX_FILE": str(folder / ".git" / "index.newer")}
    blob = folder / ".git" / "newer.py"
    blob.write_text("newer\n")
    sha = git(folder, "hash-object", "-w", str(blob))
    git(folder, "read-tree", "main", env=env)
    path = f"100644,{sha},lessons/{TWO}/src/main.py"
    git(folder, "update-index", "--cacheinfo", path, env=env)
    return git(folder, "write-tree", env=env)


def test_the_remedy_refuses_where_an_edit_would_be_lost(built):
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


def test_a_branch_amid_a_rebase_is_kept(built):
    git(built, "switch", "-q", TWO)
    env = CLEAN | {"GIT_SEQUENCE_EDITOR": "sed -i 1s/pick/edit/"}
    git(built, "rebase", "-q", "-i", f"{TWO}~1", env=env)
    git(built, "worktree", "add", "-q", "../author", "main")
    old = tip(built, TWO)
    author = built.parent / "author"
    change_lesson_two(author)

    output = tool(author, "branches")

    assert tip(built, TWO) == old
    assert f"kept {TWO}: amid a rebase or bisect." in output


def test_a_namesake_branch_is_kept(repo):
    git(repo, "branch", TWO, "main")
    mine = tip(repo, TWO)

    output = tool(repo, "branches")

    assert tip(repo, f"refs/heads/{TWO}") == mine
    assert f"kept {TWO}: it has 1 commit of yours. New version: git diff pristine/{TWO}" in output
    assert tip(repo, THREE)


def test_a_branch_that_stands_on_another_lesson_is_kept(built):
    git(built, "branch", "-f", TWO, THREE)

    output = tool(built, "branches")

    assert tip(built, TWO) == tip(built, THREE)
    assert f"kept {TWO}: it stands on another lesson." in output


def test_a_branch_in_the_way_is_named(repo):
    git(repo, "branch", f"{TWO}/mine", "main")

    output = tool(repo, "branches")

    assert f"kept {TWO}: your branch {TWO}/mine is in its way." in output
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


def test_an_unpacked_archive_inside_another_clone_is_not_taken_for_it(repo, tmp_path):
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

    for args in (["branches"], ["branches", "--source", "nowhere"]):
        output = tool(tmp_path, *args, code=1)

        assert "is no commit with a folder lessons/" in output
        assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({f"lessons/{TWO}.txt": "no number\n"}, f"lessons/{TWO}.txt must exist and begin with"),
        ({f"lessons/{TWO}/docs/x": "x\n"}, f"lessons/{TWO}/docs has a shared file's name"),
        ({"lessons/2-other/src/a.py": "x\n"}, "lesson 2 is there twice"),
    ],
)
def test_a_fault_in_the_lessons_stops_before_any_branch(repo, files, sentence):
    commit(repo, files)

    output = tool(repo, "branches", code=1)

    assert sentence in output
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
def test_a_number_that_is_no_lesson_is_a_usage_error(repo, wanted):
    output = tool(repo, "diff", "--", wanted, code=2)

    assert f"no lesson '{wanted}' to diff; possible: 1 2 3\n" in output


def test_the_last_lesson_has_nowhere_to_carry_to(repo):
    assert "possible: 1 2\n" in tool(repo, "carry", "3", code=2)


def main_of(repo, name):
    return repo / "lessons" / name / "src" / "main.py"


def test_carry_takes_an_edit_into_the_later_lessons(repo):
    edited = lesson(1).replace("line_1 = 0", "line_1 = 'one'")
    write(repo, {f"lessons/{ONE}/src/main.py": edited, f"lessons/{ONE}/src/new.py": "new\n"})
    (repo / "lessons" / ONE / "run.sh").unlink()
    (repo / "lessons" / ONE / "src/new.py").chmod(0o755)

    tool(repo, "carry", "1")

    for number, name in ((2, TWO), (3, THREE)):
        expected = lesson(number).replace("line_1 = 0", "line_1 = 'one'")
        assert main_of(repo, name).read_text() == expected
        new = main_of(repo, name).parent / "new.py"
        assert new.read_text() == "new\n" and new.stat().st_mode & 0o100
        assert not (repo / "lessons" / name / "run.sh").exists()


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
    git(repo, "checkout", "-q", "--", "lessons")
    edited = main_of(repo, ONE).read_bytes().replace(b"line_1 = 0", b"line_1 = 'one'")
    main_of(repo, ONE).write_bytes(edited)

    tool(repo, "carry", "1")

    expected = lesson(3).replace("line_1 = 0", "line_1 = 'one'").replace("\n", "\r\n")
    assert main_of(repo, THREE).read_bytes() == expected.encode()


def test_carry_reaches_the_root(repo):
    files = {"run.py": "run\n", "src/main.py": lesson(8), "lessons/8-x.txt": "Lesson 8: x\n"}
    for number in range(4, 8):
        files[f"lessons/{number}-x/src/main.py"] = lesson(number)
    commit(repo, files)
    write(repo, {f"lessons/{ONE}/src/main.py": "first = 0\n" + lesson(1)})

    tool(repo, "carry", "1")

    assert (repo / "src/main.py").read_text() == "first = 0\n" + lesson(8)


def test_carry_stops_at_a_conflict_and_names_the_file(repo):
    edited = lesson(1).replace("line_5 = 1", "line_5 = 'mine'")
    write(repo, {f"lessons/{ONE}/src/main.py": edited, f"lessons/{ONE}/run.sh": "new\n"})

    output = tool(repo, "carry", "1", code=1)

    path = f"lessons/{TWO}/src/main.py"
    assert f"conflict in {path}: mend it by hand, then: python3 tools/lessons.py carry 2" in output
    assert "<<<<<<< " in (repo / path).read_text()
    assert (repo / "lessons" / TWO / "run.sh").read_text() == "new\n"
    assert git(repo, "status", "--porcelain", f"lessons/{THREE}") == ""
    assert f"conflict in {path}" in tool(repo, "carry", "2", code=1)

    (repo / path).write_text(lesson(2).replace("line_5 = 2", "line_5 = 'mended'"))
    tool(repo, "carry", "2", code=1)
    assert "<<<<<<< " in main_of(repo, THREE).read_text()


def test_carry_never_writes_over_uncommitted_edits(repo):
    write(repo, {f"lessons/{ONE}/src/main.py": "first = 0\n" + lesson(1)})
    mine = lesson(2) + "mine\n"
    write(repo, {f"lessons/{TWO}/src/main.py": mine})

    output = tool(repo, "carry", "1", code=1)

    assert f"lessons/{TWO}/src/main.py has uncommitted edits: commit them" in output
    assert main_of(repo, TWO).read_text() == mine
    assert main_of(repo, THREE).read_text() == lesson(3)


def test_carry_names_what_a_later_lesson_no_longer_has(repo):
    git(repo, "rm", "-q", f"lessons/{THREE}/run.sh")
    commit(repo, {f"lessons/{TWO}/src/main.py": "changed\n"})
    write(repo, {f"lessons/{ONE}/run.sh": "new\n"})
    main_of(repo, ONE).unlink()

    output = tool(repo, "carry", "1")

    assert f"left out lessons/{THREE}/run.sh: it is not there\n" in output
    assert f"left out lessons/{TWO}/src/main.py: it has changed\n" in output
    assert main_of(repo, TWO).read_text() == "changed\n"
    assert (repo / "lessons" / TWO / "run.sh").read_text() == "new\n"


def test_carry_without_an_edit_changes_nothing(repo):
    assert "lesson 1: no files with uncommitted edits" in tool(repo, "carry", "1")
    assert git(repo, "status", "--porcelain") == ""


def test_the_push_of_the_workflow_publishes_the_branches(built, tmp_path):
    workflow = (ROOT / ".github/workflows/publish.yml").read_text()
    push = re.search(r"run: (git push .*)", workflow)[1]
    git(tmp_path, "init", "-q", "--bare", "site.git")
    git(built, "remote", "add", "origin", str(tmp_path / "site.git"))

    subprocess.run(push, shell=True, cwd=built, check=True, env=CLEAN, capture_output=True)

    published = git(tmp_path / "site.git", "for-each-ref", "--format=%(refname:short)").split()
    assert published == NAMES


def test_the_tool_keeps_its_size():
    assert len(TOOL.read_text().splitlines()) <= 250
