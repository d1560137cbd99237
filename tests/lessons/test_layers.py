"""The layers of this course, tested in clones: make test-fast."""

import subprocess
import sys

import pytest

from clone import ROOT, Clone

NAMES = sorted(path.stem for path in (ROOT / "lessons").glob("*-*.txt"))


def lessons_py(clone, *args):
    done = clone.run(sys.executable, "tools/lessons.py", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree_of(folder, clone):
    """Return the git tree of all files in a folder."""
    for command in (["init", "--quiet"], ["add", "--all", "--force"]):
        subprocess.run(["git", *command], cwd=folder, env=clone.env, check=True)
    command = ["git", "write-tree"]
    done = subprocess.run(command, cwd=folder, env=clone.env, check=True, capture_output=True)
    return done.stdout.decode().strip()


def clone_of(course, folder):
    course.git("clone", "--quiet", str(course.folder), str(folder))
    clone = Clone(folder, course.env)
    clone.git("config", "user.name", "An Author")
    clone.git("config", "user.email", "author@example.org")
    return clone


@pytest.fixture
def scratch(course, tmp_path):
    """A clone of the course to which a test may add lessons."""
    return clone_of(course, tmp_path / "scratch")


@pytest.fixture(scope="module")
def built(course, tmp_path_factory):
    """A clone of the course with its lesson branches."""
    clone = clone_of(course, tmp_path_factory.mktemp("built") / "clone")
    lessons_py(clone, "branches")
    return clone


@pytest.mark.parametrize("name", NAMES)
def test_the_export_of_a_lesson_is_the_tree_of_its_branch(built, tmp_path, name):
    lessons_py(built, "export", name.split("-")[0], str(tmp_path / "export"))

    branch = built.git("rev-parse", f"{name}^{{tree}}").strip()
    assert tree_of(tmp_path / "export", built) == branch


def test_three_more_lessons_can_follow(scratch, tmp_path):
    first = len(NAMES) + 1
    names = [f"{number}-one-more" for number in range(first, first + 3)]
    main = scratch.folder / "src/main.py"
    beginning = main.read_text().partition("\n")[0]
    for number, name in enumerate(names, first):
        lessons_py(scratch, "new", name)
        main.write_text(main.read_text() + f"\n\nLESSON = {number}\n" * (number == first))
        main.write_text(main.read_text().replace(f"LESSON = {number - 1}", f"LESSON = {number}"))
        scratch.git("add", "--all")
        scratch.git("commit", "--quiet", "--message", f"Begin lesson {number}")

    lessons_py(scratch, "branches")

    subjects = scratch.git("log", "--format=%s", names[-1]).splitlines()
    assert len(subjects) == first + 2
    assert subjects[0] == f"Lesson {first + 2}: one more"
    assert scratch.git("diff", "--name-only", *names[:2]) == "src/main.py\n"
    assert f"+LESSON = {first + 1}" in lessons_py(scratch, "diff", str(first + 1))
    layer = scratch.folder / "lessons" / names[0] / "src/main.py"
    layer.write_text(layer.read_text().replace(beginning, f"{beginning} !", 1))
    lessons_py(scratch, "carry", str(first))
    for path in (scratch.folder / "lessons" / names[1] / "src/main.py", main):
        assert path.read_text().startswith(f"{beginning} !\n")
    for number, name in enumerate(names, first):
        folder = tmp_path / name
        lessons_py(scratch, "export", str(number), str(folder))
        text = (folder / "src/main.py").read_text()
        assert f"LESSON = {number}\n" in text and text.startswith(f"{beginning} !\n")
        assert (folder / "src/launch/job.py").is_file()


def test_a_new_lesson_keeps_the_trees_of_all_earlier_lessons(scratch):
    lessons_py(scratch, "branches")
    before = [scratch.git("rev-parse", f"{name}^{{tree}}") for name in NAMES]

    lessons_py(scratch, "new", f"{len(NAMES) + 1}-one-more")
    scratch.git("add", "--all")
    scratch.git("commit", "--quiet", "--message=Begin a lesson")
    lessons_py(scratch, "branches")

    assert [scratch.git("rev-parse", f"{name}^{{tree}}") for name in NAMES] == before
