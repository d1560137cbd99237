"""The challenges on the pages, their checks and their solutions: make test-fast."""

import re
import subprocess

import pytest

import check
from checks.challenges import CHALLENGES
from clone import ROOT
from lesson_diffs import lessons

PAGES = {int(path.stem): path.read_text() for path in ROOT.glob("docs/lessons/*.md")}
PATCHES = sorted(ROOT.glob("docs/solutions/*.patch"))
CHECKED = [(number, name) for number, names in CHALLENGES.items() for name in names]

# lesson -> objective of its page -> the challenge, or the check of check.py, that tests it
OBJECTIVES = {
    1: {
        "submit a job with sbatch, and say what each #SBATCH line requests": "request",
        "follow a job with squeue, end it with scancel, and inspect it afterwards with"
        " sacct": "overfitting",
        "read the epoch lines of a log: what should rise, what should fall, what overfitting looks"
        " like": "overfitting",
    },
    2: {
        "say where each part of the plain loop went": "learning-rate",
        "find the log folder and the checkpoint of a job": "checkpoint-name",
        "view the logs from the cluster in TensorBoard on your own machine": "learning-rate",
    },
    3: {
        "set num_workers, and request the CPUs and the memory that the workers need": "has_workers",
        "measure whether workers help": "measure-workers",
        "recognise when they do not": "measure-workers",
    },
    4: {
        "change the settings of a training without editing a file": "has_trials",
        "read a generated script, and find it again later": "job-number",
        "submit several trials of one experiment with one command": "grid",
    },
    5: {
        "log with Python's logging instead of print": "console",
        "choose between accuracy, precision, recall, F1, confusion matrix and PR curve": "pr-curve",
        "find your way through TensorBoard's tabs": "PICTURES",
        "read the model summary and the profiler's report": "has_profile",
    },
    6: {
        "name the four things that a DataModule defines": "four-choices",
        "choose a data set with --dataset, and write a module for one of your own": "upside-down",
        "decide whether worker processes help": "has_compared",
    },
    7: {
        "choose a network with --arch": "is_better",
        "use pretrained weights when the compute nodes have no internet": "last-layer",
        "choose among four debugging switches": "small-network",
    },
    8: {
        "translate between Slurm's nodes and tasks and Lightning's nodes and devices"
        " (glossary)": "knows_processes",
        "distinguish the global batch from the batch per process": "accumulate",
        "read the first lines of a distributed job's log, and find out why a job hangs": "hang",
    },
    9: {
        "let a job save, return to the queue and continue by itself, at its time limit or when"
        " another job needs its node": "was_interrupted",
        "read from a run's folder and from sacct when and why it was interrupted": "has_one_curve",
        "continue a run yourself with --resume, also for more epochs": "keep",
    },
    10: {
        "describe an experiment in a file, and say which file each setting comes"
        " from": "has_own_experiment",
        "train it with several seeds, and start a run from the file of another one": "has_seeds",
        "use any class by its path, such as a network, a schedule or an"
        " augmentation": "augmentation",
        "test a checkpoint, and predict the classes of images": "has_predictions",
    },
}


def changed_lines(diff):
    """Return the lines that a diff removes and adds, without its headers."""
    lines = [line for line in diff.splitlines() if line.startswith(("+", "-"))]
    return [line for line in lines if not line.startswith(("--- ", "+++ "))]


def is_new_file(patch):
    return "\n--- /dev/null\n" in patch.read_text()


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
    passes = rf"PASS (?P<n>\d+)/(?P=n): challenge {name}(?: \(<runs?>\))?\n"

    assert re.search(r"^> \*\*Time:\*\* \d+ minutes", task, re.MULTILINE)
    assert re.search(rf"```bash exit=1\n.*{check}```\n\n```output\nFAIL after ", task)
    assert re.search(rf"git apply {patch}\n(.*\n)*.*{check}(.*\n)*{passes}", solution)
    # git restore leaves new files behind
    undo = f"git apply --reverse {patch}\n" if is_new_file(ROOT / patch) else "git restore .\n"
    assert solution.count(undo) == 1
    assert solution.count("`git stash --include-untracked`") == 1
    assert solution.count("`git stash pop` brings") == 1
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
    assert all(
        file in ("run.py", "run.sh") or file.startswith(("src/", "configs/")) for file in files
    )
    assert changed_lines("".join(shown)) == changed_lines(text)
    context = {line for line in "".join(shown).splitlines() if line not in ("", "...")}
    assert context <= set(text.splitlines())


def test_there_is_a_solution_for_each_challenge_and_no_other():
    assert {path.stem for path in PATCHES} == {f"{number}-{name}" for number, name in CHECKED}


@pytest.mark.parametrize("number", OBJECTIVES)
def test_a_check_or_a_challenge_tests_each_objective_of_a_page(number):
    listed = PAGES[number].partition("\nYou will learn to\n\n")[2].partition("\n\n")[0]
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", " ".join(listed.split())).replace("`", "")
    objectives = [text.strip(" ;.") for text in plain.removeprefix("- ").split("; - ")]

    assert objectives == list(OBJECTIVES[number])
    for name in OBJECTIVES[number].values():
        assert name in CHALLENGES[number] or callable(getattr(check, name))
