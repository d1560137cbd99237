"""Names in backticks on the pages, against the files of their lesson: make test-fast."""

import re
import subprocess
from pathlib import Path

import pytest

from clone import ROOT
from lesson_diffs import lessons
from page_rows import rows

LESSONS = {f"lessons/{number}": number for number in range(1, 11)}
# the other pages are about the finished program
OTHERS = [
    *("../README", "preparation", "sites", "what-now", "your-own-data-and-model"),
    "architecture",
    "instructor",
]
# the practice cluster serves all lessons; its page names arguments
PAGES = {**LESSONS, **dict.fromkeys(OTHERS, max(LESSONS.values())), "practice-cluster": 9}
BRANCHES = [path.stem for path in ROOT.glob("lessons/*-*.txt")]
OTHER_FILES = (".ci", ".github", ".img", "docs", "lessons", "src", "tests", "run.py", "run.sh")
FENCE = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)
# what neither a file nor an executed block contains
OF_SLURM = {
    *("N/A", "PD", "R", "ST", "OUT_OF_MEMORY", "DOWN", "DRAINED", "reserved"),
    *("%D", "%G", "%N", "%P", "%c", "%l", "%m", "--Node"),
    *(
        "--start",
        "--starttime=now-7days",
        "now+3",
        "--name",
        "--jobid",
        "--account",
        "--partition",
        "associations",
        "qos",
        "$USER",
    ),
    *("DUE", "TO", "JOB", "REQUEUE"),
    *("Flags", "amd_gpu_env", "SignalChildrenProcesses", "gpu:1", "gpu:N", "SBATCH_CONSTRAINT"),
    *("Accounts=", "Users=", "PrivateData", "ResvOverRun", "Requested reservation is invalid"),
}
OF_OTHER_PROGRAMS = {
    # git, ps, ssh, VS Code, a shell's modules
    *(
        "--color-moved",
        "--include-untracked",
        "stash",
        "pop",
        "M",
        "propagate",
        "ps",
        "aux",
        "ssh-copy-id",
        "ssh-keygen",
        "Remote-SSH:",
        "Connect",
        "Host",
    ),
    *("avail", "lmod.sh", "/etc/profile.d/modules.sh", "pytorch/2.14", ".bashrc"),
    # pip, conda, Apptainer, ROCm, PyTorch, the kernel
    *("--extra-index-url", "--no-capture-output", "CondaError:", "APPTAINER_BIND"),
    *("--cleanenv", "--fakeroot", "--rocm", "ROCR_VISIBLE_DEVICES", "torch.version.hip", "Bus"),
    *("DataParallel", "requires_grad_", "self.val_metrics.add_metrics", "2.14.1+cu130"),
    # actions and files of Lightning's profiler
    *("run_training_batch", "run_training_epoch", "train_dataloader_next"),
    *("test-profile.txt", "fit-profile-*.txt"),
}
OF_THE_READER = {
    *("you@example.org", "src/datasets/upside_down.py", "src/models/noisy_classifier.py"),
    *("src/callbacks/epoch_time.py", "src/networks/small_cnn.py", "src/datasets/arrays.py"),
    *("configs/callbacks/epoch_time.yaml", "configs/network/small_cnn.yaml", "rotated"),
    *("configs/experiment/flowers.yaml", "experiment/flowers.yaml", "data/flowers/ages.csv"),
    *("data/flowers/rose/1.png", "data/flowers/violet/2.png"),
    *("data/flowers/test/rose/2.png", "data/flowers/train/rose/1.png", "earlier_1"),
    *("'callbacks=[early_stopping,epoch_time]'", "callbacks=epoch_time", "network=small_cnn"),
    *("metrics.kappa._target_=torchmetrics.CohenKappa", "model=src.models.<file>.<Class>"),
    *("/shared/envs/hpc", "/shared/envs/hpc-rocm", "/shared/envs/hpc/bin/python"),
    "/shared/envs/login/bin/activate",
    *("/shared", "/shared/class", "/shared/class/$USER", "/home/*/hpc-starter", "go+rX"),
    *("~/.local/state/hpc-starter/practice", "epoch=7-val_acc=0.9533.ckpt", "job_17"),
    *("'data.image_size=[96,128]'", "logs/mlflow.db"),
}


@pytest.fixture(scope="module")
def shared():
    """Path -> text of the files that all lessons contain."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split()
    own = [name for name in names if not name.startswith(OTHER_FILES) and name != "README.md"]
    return {name: (ROOT / name).read_text() for name in own if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def programs():
    """Number of a lesson -> path -> text of its program."""
    return lessons(ROOT)


def solutions(number):
    """Return the patches that solve the challenges of a lesson."""
    patches = sorted(ROOT.glob(f"docs/solutions/{number}-*.patch"))
    return "\n".join(path.read_text() for path in patches)


def text_of(page):
    return (ROOT / f"docs/{page}.md").read_text()


def names_on(page):
    """Return the texts in backticks, without messages: test_when_it_goes_wrong.py causes them."""
    text = FENCE.sub("", text_of(page))
    for row in rows(page) if page in [*LESSONS, "practice-cluster"] else []:
        text = text.replace(f"| {row.seen} |", "|")
    return set(re.findall("`([^`]+)`", text))


def everything(files):
    """Return the paths of files and of their folders, and all text."""
    folders = {f"{folder}/" for name in files for folder in Path(name).parents}
    return "\n".join([*files, *folders, *files.values()])


def is_in(name, text):
    """Tell whether whole words of a text are a name, in which * is any text."""
    parts = map(re.escape, name.split("*"))
    before = r"(?<![\w-])" if re.match(r"\w", name) else ""
    after = r"(?![\w-])" if re.search(r"\w$", name) else ""
    return re.search(before + r"[^\n]*".join(parts) + after, text) is not None


def unknown_words(name, text):
    """Return the words of a name that a text does not contain."""
    name = re.sub(r"<[\w ]+>|\.\.\.", "*", name)
    known = OF_SLURM | OF_OTHER_PROGRAMS | OF_THE_READER
    if name in known or is_in(name, text):
        return []
    words = re.split(r"[\s=\"'(),|]+|&&", name)
    words = [word for word in words if not re.fullmatch(r"[\d./]*M?|N:?|\W+|--dry-run", word)]
    # both parts of Parser.words; the folders of logs/<experiment>/version_<number>
    separator = {word: "/" if "*" in word else "." for word in words}
    parts = {
        word: word.split(separator[word]) if re.fullmatch(r"[\w.*/]+", word) else [word]
        for word in words
    }
    return [
        word
        for word in words
        if word not in known and not all(is_in(part, text) for part in parts[word])
    ]


@pytest.mark.parametrize("page", PAGES)
def test_names_on_a_page_exist_in_its_lesson(page, programs, shared):
    number = PAGES[page]
    files = {**programs.get(number - 1, {}), **programs[number], **shared}
    before = everything(programs.get(number - 1, {}))  # a page also names what a lesson replaces
    shown = "\n".join(text for kind, text in FENCE.findall(text_of(page)) if "no-run" not in kind)
    branches = "\n".join([*BRANCHES, *(f"pristine/{branch}" for branch in BRANCHES), "main"])
    challenges = solutions(number) if page in LESSONS else ""
    text = "\n".join([everything(files), before, shown, branches, challenges])

    for name in sorted(names_on(page)):
        assert not unknown_words(name, text), f"docs/{page}.md: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_arguments_on_a_page_are_those_of_its_run_py(page, programs):
    def declares(number, name):
        files = programs[number]
        # from lesson 10 on, the settings are not options, and run.py declares the few that are left
        launch = [text for path, text in files.items() if re.match(r"run\.py|src/launch/", path)]
        program = files.get("src/launch/arguments.py", "".join(launch)) + solutions(number)
        declared = re.findall(r'"--(\w[\w{}-]*)"[,:]', program)
        patterns = (re.sub(r"\{\w+\}", r"\\w+", one) for one in declared)
        return any(re.fullmatch(one, name) for one in patterns)

    number, options = PAGES[page], re.findall(r"--([a-z]+[a-z_-]*)", " ".join(names_on(page)))
    # run.py reads dashes as underscores; the options of other programs have dashes
    names = [name for name in options if "_" in name or declares(number, name.replace("-", "_"))]

    assert number >= 4 or not names
    for name in names:
        assert declares(number, name.replace("-", "_")), name


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_a_page_name_files_and_targets_that_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = "\n".join([*names_on(page), *(text for _, text in FENCE.findall(text_of(page)))])

    for target in re.findall(r"^(?:.*&& )?make ([a-z-]+)", commands, re.MULTILINE):
        assert target in targets, target
    for branch in re.findall(r"\bgit (?:switch|diff)(?: pristine/| )(\d-[\w-]+)", commands):
        assert branch in BRANCHES, branch


# of a machine with a GPU that something was measured on
ELSEWHERE = {("torch", "2.11.0")}
PINNED = dict(re.findall(r"^([\w-]+)==(.+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
def test_versions_on_a_page_are_the_pinned_ones(page):
    found = re.findall(rf"\b({'|'.join(PINNED)})[ =/]+v?(\d+\.[\d.]*\d)", text_of(page))

    for package, version in set(found) - ELSEWHERE:
        assert f"{PINNED[package]}.".startswith(f"{version}."), (package, version)
