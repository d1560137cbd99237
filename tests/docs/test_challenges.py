"""The challenges on the pages, their checks and their solutions: make test-fast."""

import re
import subprocess

import pytest

from checks.challenges import CHALLENGES
from clone import ROOT
from lesson_diffs import lessons

PAGES = {int(path.stem): path.read_text() for path in ROOT.glob("docs/lessons/*.md")}
PATCHES = sorted(ROOT.glob("docs/solutions/*.patch"))
CHECKED = [(number, name) for number, names in CHALLENGES.items() for name in names]


def changed_lines(diff):
    """Return the lines that a diff removes and adds, without its headers."""
    lines = [line for line in diff.splitlines() if line.startswith(("+", "-"))]
    return [line for line in lines if not line.startswith(("--- ", "+++ "))]


def sections(number):
    """Return the challenges of a page, each from its heading to the next one."""
    return re.findall(r"^## Challenge: (?:.*\n)*?(?=## )", PAGES[number], re.MULTILINE)


def section(number, name):
    [found] = [text for text in sections(number) if f"check.py --challenge {name}\n" in text]
    return found


@pytest.mark.parametrize("number", sorted(CHALLENGES))
def test_a_lesson_has_a_challenge_before_its_key_points(number):
    titles = [line for line in PAGES[number].splitlines() if line.startswith("## ")]
    kinds = [title.partition(":")[0] for title in titles]

    count = kinds.count("## Challenge")
    assert count == len(CHALLENGES[number]) >= 1
    assert kinds[-count - 2 :] == [
        "## When it goes wrong",
        *["## Challenge"] * count,
        "## Key points",
    ]


@pytest.mark.parametrize(("number", "name"), CHECKED)
def test_a_challenge_is_checked_before_and_after_its_solution(number, name):
    task, _, solution = section(number, name).partition("<details>\n<summary>Solution</summary>\n")
    patch = f"docs/solutions/{number}-{name}.patch"
    check = rf"python check\.py --challenge {name}\n"
    passes = rf"PASS (?P<n>\d+)/(?P=n): challenge {name}\n"

    assert re.search(r"^> \*\*Time:\*\* \d+ minutes", task, re.MULTILINE)
    assert re.search(rf"```bash exit=1\n.*{check}```\n\n```output\nFAIL after ", task)
    assert re.search(rf"git apply {patch}\n(.*\n)*.*{check}(.*\n)*{passes}", solution)
    assert solution.count("git restore .\n") == 1
    assert solution.endswith("\n</details>\n\n")


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_solution_applies_to_its_lesson_and_is_shown_on_its_page(patch, tmp_path):
    number, _, name = patch.stem.partition("-")
    text = patch.read_text()
    files = re.findall(r"^diff --git a/(\S+) b/\1$", text, re.MULTILINE)
    for file, content in lessons(ROOT)[int(number)].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    apply = ["git", "-C", str(tmp_path), "apply", "--check", str(patch)]
    done = subprocess.run(apply, capture_output=True, text=True)
    shown = re.findall(r"^```diff\n((?:.*\n)*?)```$", section(int(number), name), re.MULTILINE)

    assert done.returncode == 0, done.stderr
    assert all(file in ("run.py", "run.sh") or file.startswith("src/") for file in files)
    assert changed_lines("".join(shown)) == changed_lines(text)


def test_there_is_a_solution_for_each_challenge_and_no_other():
    assert {path.stem for path in PATCHES} == {f"{number}-{name}" for number, name in CHECKED}
