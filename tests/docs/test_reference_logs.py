"""The logs in docs/reference-logs, against the pages and docs/measured.toml: make test-fast."""

import re
import tomllib

import pytest

from clone import EPOCH_LINE, ROOT
from log_lines import unexpected_lines

PAGE = (ROOT / "docs/reference-logs.md").read_text()
LOGS = {path.name: path.read_text() for path in ROOT.glob("docs/reference-logs/*.out")}
MEASURED = tomllib.loads((ROOT / "docs/measured.toml").read_text())
MINUTES = 5
# lesson -> the lesson whose accuracies docs/measured.toml has: it trains the same network
MEASURED_AS = {8: 7}
every_log = pytest.mark.parametrize("name", LOGS)


def long_lessons():
    """Return the lessons that need more than five minutes, by the README or by their pages."""
    rows = re.findall(
        r"^\| \[`(\d+)-.*\| ([\d.]+) \| [^|]*\|$", (ROOT / "README.md").read_text(), re.M
    )
    times = {int(number): [float(minutes)] for number, minutes in rows}
    for path in ROOT.glob("docs/lessons/*.md"):
        for time in re.findall(r"\*\*Time:\*\* (.*?)(?:\*\*|\n)", path.read_text()):
            runs = re.findall(r"(\d+) (?:to run|with)\b", time)
            times.setdefault(int(path.stem), []).extend(map(float, runs))
    return {number for number, found in times.items() if max(found, default=0) > MINUTES}


def test_every_lesson_with_a_long_job_has_a_log():
    lessons = {int(name.partition("-")[0]) for name in LOGS}

    assert 7 in long_lessons()
    # the jobs of lessons 8 and 9 train the network of lesson 7
    assert long_lessons() | {8, 9} <= lessons


def test_the_page_lists_every_log():
    assert set(re.findall(r"\]\(reference-logs/([^)]+)\)", PAGE)) == LOGS.keys()


@every_log
def test_a_log_says_what_was_run_and_where(name):
    head = "\n".join(line for line in LOGS[name].splitlines() if line.startswith("#"))

    assert head.startswith(f"# lesson {name.partition('-')[0]}: ")
    assert "run.py" in head and "CIFAR-10" in head
    assert "AMD EPYC" in head or "Intel Xeon" in head
    assert re.search(r"torch [\d.]+, .*; .*\d{4}-\d\d-\d\d, .*\d+ minutes$", head)


@every_log
def test_a_log_has_the_lines_that_the_lesson_prints(name):
    printed = [line for line in LOGS[name].splitlines() if not line.startswith("#")]
    epochs = [re.search(r"epoch +(\d+)/(\d+)", line) for line in printed if EPOCH_LINE.search(line)]
    numbers = [(int(epoch[1]), int(epoch[2])) for epoch in epochs]
    shorter = re.search(r"--max_epochs=(\d+)", LOGS[name])
    last = int(shorter[1]) if shorter else 10

    assert unexpected_lines("\n".join(printed)) == []
    assert numbers == [(number, last) for number in range(1, last + 1)]
    assert any("full set" in line for line in printed)


@pytest.mark.parametrize("name", [name for name, log in LOGS.items() if "--max_epochs" not in log])
def test_a_log_ends_at_the_accuracy_that_the_pages_name(name):
    lesson = int(name.partition("-")[0])
    values = MEASURED[f"lesson-{MEASURED_AS.get(lesson, lesson)}"]["values"]
    best = max(re.findall(r"val loss \S+ acc (\S+)", LOGS[name]))
    [test] = re.findall(r"test loss \S+ acc (\S+)", LOGS[name])

    # one run each, on other days and with another number of threads
    assert float(test) == pytest.approx(values["test_acc"], abs=0.02)
    assert float(best) == pytest.approx(values["val_acc"], abs=0.02)


def test_the_log_of_an_interrupted_job_continues_at_the_step_that_was_saved():
    log = LOGS["9-requeued.out"]
    saved = re.findall(r"saved at step (\d+), and requeued", log)

    assert len(saved) == 2
    assert re.findall(r"continues from \S+: step (\d+)", log) == saved


@every_log
def test_a_log_names_no_folder_of_a_machine(name):
    folders = re.findall(r"(?<![\w.])/[\w./-]+", LOGS[name])

    assert all(folder.startswith("/shared/data") for folder in folders), folders
