"""What every step of the course may change: `pytest tests/lessons/test_lesson_diffs.py`."""

from pathlib import Path

import pytest

import lesson_diffs as diffs

LESSONS = diffs.lessons(Path(__file__).resolve().parents[2])
STEPS = [number for number in LESSONS if number > 1]
MAIN = "src/main.py"
IMPORTS = "import torch\nfrom torch import nn, optim\n"
OLD = '''\
"""Train."""

import argparse

import torch
from torch import nn, optim


def train(model, data):
    # one pass
    for x, y in data:
        loss = model.step(x, y, rate=0.1)
    return loss


def test(model):
    return model.score("x", [1, 2])
'''


def change(old, new, text=OLD):
    assert old in text
    return {MAIN: text}, {MAIN: text.replace(old, new)}


# --- the lessons that exist


@pytest.mark.parametrize("number", STEPS)
def test_a_lesson_keeps_its_budget(number):
    assert diffs.over_budget(number, LESSONS[number - 1], LESSONS[number]) == []


# arguments become settings in this lesson, and so do the words of comments about them
REWORDED = 10


@pytest.mark.parametrize("number", STEPS)
def test_a_lesson_has_no_noise(number):
    found = diffs.noise(LESSONS[number - 1], LESSONS[number])

    assert [noise for noise in found if number != REWORDED or "comment" not in noise] == []


@pytest.mark.parametrize("number", LESSONS)
def test_main_keeps_its_size(number):
    assert diffs.main_too_long(number, LESSONS[number]) == ""


@pytest.mark.skipif(not STEPS, reason="there is no step between two lessons yet")
def test_the_course_does_not_rewrite_its_code():
    assert diffs.rewrite_ratio(LESSONS.values()) <= diffs.MAX_REWRITE_RATIO


# --- the checks can fail


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step(x, y, rate=0.1)", "step(\n            x,\n            y,\n            rate=0.1,\n)"),
        ("step(x, y, rate=0.1)", "step(\n            x, y,\n            rate=0.1)"),
        ("rate=0.1)", "rate=0.1,)"),
        ("[1, 2])", "[1, 2,])"),
        ("rate=0.1", "rate = 0.1"),
        ("    return loss\n", "    return loss  \n"),
        ("    return loss\n", "\n    return loss\n"),
        ('"x"', "'x'"),
        ("# one pass", "# a single pass"),
        (IMPORTS, "from torch import nn, optim\nimport torch\n"),
        ("nn, optim", "optim, nn"),
        ("import argparse\n\nimport torch\n", "import torch\n\nimport argparse\n"),
        (IMPORTS, "import torch\nfrom torch import (\n    nn,\n    optim,\n)\n"),
    ],
    ids=[
        *("wrapped", "wrapped by hand", "comma in a call", "comma in a list", "spaces"),
        *("space at the end", "blank line", "quotes", "comment", "imports", "names"),
        *("imports in two hunks", "brackets of an import"),
    ],
)  # fmt: skip
def test_planted_noise_is_found(old, new):
    before, after = change(old, new)

    for found in (diffs.noise(before, after), diffs.noise(after, before)):
        assert found and found[0].startswith(f"{MAIN}:")


def test_noise_beside_a_real_change_is_found():
    before, after = change("rate=0.1", "rate=0.2")
    after[MAIN] = after[MAIN].replace('"x"', "'x'")

    assert len(diffs.noise(before, after)) == 1


def test_a_rewrap_that_keeps_a_middle_line_is_found():
    text = "f(\n    a, g(\n        x,\n    ), b\n)\n"
    before, after = change("    a, g(\n", "    a,\n    g(\n", text)
    after[MAIN] = after[MAIN].replace("    ), b\n", "    ),\n    b\n")

    assert diffs.noise(before, after) != []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate=0.1", "rate=0.2"),
        ("import torch\n", "import torch\nimport lightning as L\n"),
        ("import argparse\n\n", ""),
        ("nn, optim", "nn"),
        ("    return loss\n", "    # the mean\n    return loss\n"),
        ("    # one pass\n", ""),
        ("[1, 2])", "([1, 2],))"),
        ('"x", [1, 2]', '"x", (1, 2)'),
        ("in data:\n        loss", "in data:\n        if x:\n            loss"),
    ],
)  # fmt: skip
def test_a_real_change_is_not_noise(old, new):
    before, after = change(old, new)

    assert diffs.noise(before, after) == []
    assert diffs.noise(after, before) == []


def test_an_indented_body_is_not_noise():
    text = "def f():\n    a()\n\n    b()\n\n\nf()\n"
    new = "class C:\n    def f():\n        a()\n\n        b()\n\n\nf()\n"

    assert diffs.noise({MAIN: text}, {MAIN: new}) == []


def test_noise_in_a_script_is_found():
    text = "#!/bin/bash\n#SBATCH --cpus-per-task=1\n# start\nsrun python -m src.main\n"

    for old, new in (
        ("srun python", "srun  python"),
        ("# start", "# begin"),
        ("\nsrun", "\n\nsrun"),
    ):
        assert diffs.noise({"run.sh": text}, {"run.sh": text.replace(old, new)}) != []
    for old, new in (("task=1", "task=2"), ("# start\n", "")):
        assert diffs.noise({"run.sh": text}, {"run.sh": text.replace(old, new)}) == []


def lines(count, word="x"):
    return "".join(f"{word}_{k} = {k}\n" for k in range(count))


@pytest.mark.parametrize("number", diffs.BUDGETS)
def test_a_planted_overrun_is_found(number):
    limit = diffs.BUDGETS[number]
    fits = {MAIN: lines(10) + lines(limit, "y")}
    over = {MAIN: lines(10) + lines(limit + 1, "y")}

    assert diffs.over_budget(number, {MAIN: lines(10)}, fits) == []
    assert (
        f"changes {limit + 1} lines of training"
        in diffs.over_budget(number, {MAIN: lines(10)}, over)[0]
    )


def test_a_changed_line_counts_twice():
    before, after = change("rate=0.1", "rate=0.2")

    assert diffs.changed_lines(before, after) == 2


def test_a_new_file_beyond_its_limit_is_found():
    old = {MAIN: lines(5)}

    assert diffs.over_budget(4, old, old | {"run.py": lines(130)}) == []
    assert "run.py with 131 lines" in diffs.over_budget(4, old, old | {"run.py": lines(131)})[0]


def test_an_unexpected_new_file_is_found():
    old = {MAIN: lines(5)}

    assert (
        "src/utils/more.py" in diffs.over_budget(3, old, old | {"src/utils/more.py": "x = 1\n"})[0]
    )


def test_a_pure_move_is_free_in_the_lesson_that_moves_code():
    block = lines(100, "moved_to_another_file")
    old = {MAIN: lines(20) + block}
    new = {MAIN: lines(20), "src/models/model.py": block}

    assert diffs.over_budget(6, old, new) == []
    assert diffs.over_budget(5, old, new) != []
    edited = {MAIN: lines(20), "src/models/model.py": block.replace(" = ", " == ")}
    assert diffs.over_budget(6, old, edited) != []


def test_a_main_that_is_too_long_is_found():
    for number, first in ((1, 1), (4, 2), (5, 5), (6, 6), (8, 6), (9, 9)):
        limit = diffs.MAIN[first]
        assert diffs.main_too_long(number, {MAIN: lines(limit)}) == ""
        found = diffs.main_too_long(number, {MAIN: lines(limit + 1)})
        assert found == f"src/main.py of lesson {number} has {limit + 1} lines, {limit} at most"


def test_launch_and_errors_have_their_own_budgets():
    for path, limit in (
        ("src/launch/parser.py", diffs.LAUNCH_BUDGETS[5]),
        ("src/utils/errors.py", diffs.ERRORS_BUDGET),
    ):
        old, fits, over = ({path: lines(count)} for count in (9, 9 + limit, 10 + limit))

        assert diffs.over_budget(5, old, fits) == []
        assert len(diffs.over_budget(5, old, over)) == 1


def test_the_rewrite_ratio_counts_rewritten_lines():
    once = [{MAIN: lines(50)}, {MAIN: lines(50) + lines(50, "y")}]
    again = [{MAIN: lines(100)}, {MAIN: lines(100, "y")}, {MAIN: lines(100, "z")}]
    block = lines(60, "moved_to_another_file")
    moved = [{MAIN: lines(20) + block}, {MAIN: lines(20), "src/model.py": block}]

    assert diffs.rewrite_ratio(once) == 1
    assert diffs.rewrite_ratio(again) == 3
    assert diffs.rewrite_ratio(moved) == 1


def test_a_lesson_is_its_layers_and_the_last_lesson_is_the_root(tmp_path):
    files = {"1-a/src/main.py": "1", "1-a/run.sh": "run", "2-b/src/main.py": "2"}
    files |= {"1-a.txt": "Lesson 1: a\n", "2-b.txt": "Lesson 2: b\n", "3-c.txt": "Lesson 3: c\n"}
    for name, text in (*files.items(), ("../src/main.py", "3")):
        path = tmp_path / "lessons" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert diffs.lessons(tmp_path) == {
        1: {MAIN: "1", "run.sh": "run"},
        2: {MAIN: "2", "run.sh": "run"},
        3: {MAIN: "3"},
    }
