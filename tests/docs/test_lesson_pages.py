"""What the pages show and say, against the files of the lessons and against runs: make test."""

import re
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from clone import ROOT, epochs, final_accuracy
from lesson_diffs import lessons

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
TEXTS = {int(path.stem): path.read_text() for path in sorted(ROOT.glob("docs/lessons/*.md"))}
BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


def blocks(text):
    """Return the kind and the text of each fenced block."""
    return [match.groups() for match in FENCE.finditer(text)]


def is_part_of_a_file(excerpt, files):
    return any(f"\n{excerpt}\n" in f"\n{text}" for text in files.values())


# --- against the files


@pytest.mark.parametrize("number", TEXTS)
def test_quoted_code_is_in_the_lesson(number):
    files = lessons(ROOT)
    sides = {"+": files[number], "-": files.get(number - 1)}

    for kind, text in blocks(TEXTS[number].partition("<details>")[0]):
        if kind in ("python", "yaml") or text.startswith(("#SBATCH", "set -euo")):
            assert is_part_of_a_file(text.rstrip("\n"), files[number]), text
        if kind == "diff":
            for line in text.splitlines():
                assert is_part_of_a_file(line[1:], sides[line[0]]), line


@pytest.mark.parametrize("number", [number for number in TEXTS if number > 1])
def test_a_page_names_every_file_that_its_lesson_changes(number):
    old, new = (lessons(ROOT)[k] for k in (number - 1, number))

    changed = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}

    assert not [path for path in changed if path.split("/")[-1] not in TEXTS[number]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_notes_speak_to_the_reader_and_not_to_maintainers(page):
    assert not re.search(r"\((Not run in tests|Shown only)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_versions_of_python_that_the_makefile_accepts(page):
    found = re.findall(r"(?i)python[ =/]?(3\.\d+)", page.read_text())

    assert set(found) <= {"3.11", "3.12", "3.13"}


@pytest.mark.parametrize("number", TEXTS)
def test_a_lesson_says_how_to_connect_a_new_shell_to_the_practice_cluster(number):
    run_it = TEXTS[number].split("\n## Run it\n")[1].split("\n## ")[0]

    assert re.search(r'new shell.*`eval "\$\(cluster/practice env\)"`', run_it) or number == 1
    assert '`eval "$(cluster/practice env)"`' in run_it


@pytest.mark.parametrize("number", [number for number in TEXTS if number > 1])
def test_a_page_says_what_to_do_if_edits_come_along_into_its_lesson(number):
    get_the_code = TEXTS[number].split("\n## Get the code\n")[1].split("\n## ")[0]

    assert f"git switch {BRANCHES[number]}\n" in get_the_code
    assert (
        "If git refuses or prints lines that begin with `M` (edits from a challenge, which would"
        " come along), or if you are lost:"
        f" `python3 start_lesson.py {number}` saves your work and starts this lesson in its"
        " original state."
    ) in get_the_code.replace("\n", " ")


def test_lesson_1_explains_what_squeue_shows_of_a_job_without_a_plan():
    for shown in ("`(None)`", "`N/A`", "`(null)`"):
        assert shown in TEXTS[1]


# --- against runs


@pytest.fixture(scope="module")
def log_of(module_clone, warm_python):
    """Return a function that trains a lesson on the sample, and returns its log."""
    logs = {}

    def train(number, *arguments):
        if (number, arguments) not in logs:
            module_clone.git("switch", "--quiet", BRANCHES[number])
            folder = module_clone.folder
            done = warm_python.run("run.py", "--local", *arguments, cwd=folder, timeout=300)
            assert done.returncode == 0, done.stderr
            logs[number, arguments] = done.stdout
        return logs[number, arguments]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("number", [5, 6])
def test_the_epochs_and_the_network_of_a_page_are_those_of_the_sample(log_of, number):
    log = log_of(number)
    [shown, *others] = [text for kind, text in blocks(TEXTS[number]) if "INFO epoch " in text]

    found = epochs(log)
    expected = epochs(shown)
    for other in others + [text for _, text in blocks(TEXTS[number]) if "INFO network" in text]:
        for line in other.splitlines():
            assert line.removeprefix("<time>") in log

    assert expected[0] == pytest.approx(found[0], abs=0.01)
    if len(expected) > 1:
        assert expected[-1] == pytest.approx(found[-1], abs=0.01)


@pytest.mark.slow
def test_the_mistakes_that_page_5_names_are_in_the_confusion_matrix(log_of, module_clone):
    folder = re.search(r"logs: (\S+)$", log_of(5), re.MULTILINE)[1]
    events = EventAccumulator(str(module_clone.folder / folder)).Reload()
    [text] = make_ndarray(events.Tensors("confusion_matrix/text_summary")[-1].tensor_proto)
    rows = [[int(n) for n in re.findall(r"\d+", row)] for row in text.decode().split("\n")[1:-1]]

    pattern = r"(\w+) of the (\d+) ones are taken for a (\d), an (\d) and a (\d)"
    sentence = re.search(pattern, TEXTS[5])

    ones = rows[1]
    assert sentence[1] == "three"
    assert int(sentence[2]) == sum(ones)
    assert [digit for digit, n in enumerate(ones) if n and digit != 1] == [
        int(digit) for digit in sentence.groups()[2:]
    ]


@pytest.mark.slow
def test_the_digits_upside_down_reach_the_accuracies_that_page_6_names(log_of, module_clone):
    named = re.search(r"accuracy is ([\d.]+), compared with ([\d.]+) for upright", TEXTS[6])
    module_clone.git("switch", "--quiet", BRANCHES[6])
    module_clone.git("apply", "docs/solutions/6-upside-down.patch")

    found = [final_accuracy(log_of(6, f"--dataset={name}")) for name in ("upside_down", "mnist")]

    assert found == pytest.approx([float(number) for number in named.groups()], abs=0.01)
    done = module_clone.run(sys.executable, "check.py", "--challenge=upside-down")
    assert done.stdout.startswith("PASS 3/3: challenge upside-down (")
