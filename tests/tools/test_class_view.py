"""tools/class_view.py on planted clones, with a Slurm that is a script: make test-fast."""

import csv
import io
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import class_clones
import class_view
import pytest
from class_clones import find_clones, first_error, read_clone
from class_view import cells, clean, cut

from checks.runs import EPOCH
from clone import ROOT
from lesson_diffs import lessons
from page_rows import PAGES, rows
from processes import accept_signals

BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
TOOL = ROOT / "tools/class_view.py"
EPOCHS = "".join(
    f"epoch {number:2d}/10  train loss 0.5000 acc 0.8000  val loss 0.4000 acc 0.9000\n"
    for number in range(1, 11)
)
FINISHED = f"data: MNIST\n{EPOCHS}test loss 0.3000 acc 0.9000\n"
MISTAKE = "--weights DEFAULT: /t/resnet18.pth is missing; run it on a node with internet"
ENDS = "srun: error: node1: task 0: Exited with exit code 1\nsrun: launch/slurm: Terminating\n"

# answers with the rows of a file, in which ";;" separates the fields
SLURM = """#!/bin/bash
echo "${0##*/} $*" >>"$RECORD"
for word; do
    case $word in
    --delimiter=*) mark=${word#*=} ;;
    --format=%i*%T*) mark=${word#--format=%i} mark=${mark%%\\%T*} ;;
    esac
done
while IFS= read -r line; do printf '%s\\n' "${line//;;/$mark}"; done <"$JOBS"
"""


class Slurm:
    def __init__(self, folder):
        self.bin, self.jobs, self.record = folder / "bin", folder / "jobs", folder / "record"
        self.bin.mkdir()
        self.jobs.touch()
        self.record.touch()
        path = f"{self.bin}:/usr/bin:/bin"
        self.env = {"RECORD": str(self.record), "JOBS": str(self.jobs), "PATH": path}
        # what the machine itself may have
        self.install("sacct", "#!/bin/sh\nexit 1\n")
        self.install("squeue", "#!/bin/sh\nexit 1\n")

    def install(self, name, text=SLURM):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def job(self, number, state, folder, submit="2026-11-26T09:00:00"):
        with self.jobs.open("a") as file:
            file.write(f"{number};;{state};;{submit};;{submit};;{folder}\n")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    found = Slurm(tmp_path)
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(scope="session")
def programs():
    """Lesson -> the names of the files of its program."""
    return {number: list(files) for number, files in lessons(ROOT).items()}


class Learner:
    """A clone as a learner leaves it behind; git is not needed to make it."""

    def __init__(self, folder, branch="1-simple-model-training"):
        self.folder = folder
        self.write(".git/HEAD", f"ref: refs/heads/{branch}\n")

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def files(self, names, where=""):
        for name in names:
            self.write(f"{where}{name}")

    def run(self, lesson, names, job, errors="", done=True):
        """Write what a job of this lesson leaves behind."""
        log = FINISHED if done else FINISHED.partition("epoch  6/10")[0]
        if lesson < 4:
            self.write(f"slurm.{job}.out", log + errors)
        if lesson == 1:
            return
        folder = f"lightning_logs/version_{job}" if lesson < 4 else f"logs/mnist/version_{job}"
        self.write(f"{folder}/hparams.yaml", "seed: 1\n" + "num_workers: 2\n" * (lesson == 3))
        if done:
            self.write(f"{folder}/DONE.json", "{}")
        if lesson > 3:
            self.files(names, f"{folder}/code/")
        if 3 < lesson < 9:
            self.write(f"logs/mnist/slurm_out_logs/version_{job}_{job}.out", log)
            self.write(f"logs/mnist/slurm_err_logs/version_{job}_{job}.err", errors)
        if lesson > 8:
            self.write(f"{folder}/job.out", log)
            self.write(f"{folder}/job.err", errors)
            self.write(f"{folder}/attempts.jsonl", f'{{"job": "{job}", "restart": 0}}\n')


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    return folder


def view(room, *paths):
    """Return clone -> its row."""
    found, _ = class_view.read_class([str(path) for path in paths or [room]])
    return {row.clone.path.name: row for row in found}


def the_row(room):
    [row] = view(room).values()
    return row


# --- the lesson


@pytest.mark.parametrize("lesson", BRANCHES)
def test_each_lesson_is_shown_with_its_finished_runs(lesson, room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[lesson])
    ada.run(lesson, programs[lesson], 12)
    ada.run(lesson, programs[lesson], 13, done=False)
    if lesson > 1:  # of the lesson before
        ada.run(lesson - 1, programs[lesson - 1], 11)
    slurm.install("sacct")
    slurm.job(13, "RUNNING", ada.folder)

    row = the_row(room)

    assert (row.clone.lesson, row.lesson, row.runs) == (lesson, BRANCHES[lesson], (1, 2))
    assert (row.job, row.state, row.error) == ("13", "RUNNING", "")


@pytest.mark.parametrize(
    ("branch", "shown", "number"),
    [
        ("my-lesson-4", "my-lesson-4", 4),
        ("my-lesson-4-2", "my-lesson-4-2", 4),
        ("trying/something", "7: trying/something", 7),
        ("page10", "7: page10", 7),
        ("\u0663-x", "7: \u0663-x", 7),
        ("main", "main", None),
    ],
)
def test_other_branches_are_shown_with_the_lesson_of_their_files(
    branch, shown, number, room, slurm, programs
):
    Learner(room / "ada", branch).files(programs[7])

    row = the_row(room)

    assert (row.lesson, row.clone.lesson) == (shown, number)


@pytest.mark.parametrize(
    ("head", "branch", "note"),
    [
        ("0123456789abcdef0123456789abcdef01234567\n", "detached at 0123456", ""),
        ("", "", "no branch: .git/HEAD is damaged"),
        ("ref: refs/heads/\n", "", "no branch: .git/HEAD is damaged"),
        ("\0" * 100, "", "no branch: .git/HEAD is damaged"),
        (None, "", "no branch: .git has no HEAD"),
    ],
)
def test_a_head_without_a_branch_leaves_the_lesson_of_the_files(
    head, branch, note, room, slurm, programs
):
    ada = Learner(room / "ada")
    ada.files(programs[6])
    ada.write(".git/HEAD", head or "")
    if head is None:
        (ada.folder / ".git/HEAD").unlink()

    clone = the_row(room).clone

    assert (clone.branch, clone.note, clone.lesson) == (branch, note, 6)


def test_a_folder_without_a_repository_says_so(room, slurm):
    (room / "ada").mkdir()
    (room / "a file").touch()
    (room / ".hidden").mkdir()

    assert {name: row.clone.note for name, row in view(room).items()} == {
        "ada": "no git repository"
    }


def test_a_worktree_is_read_unless_it_belongs_to_somebody_else(room, slurm, tmp_path):
    (room / "ada").mkdir()
    inside = Learner(tmp_path / "other")
    inside.write(".git/worktrees/ada/HEAD", "ref: refs/heads/3-improved-data-loading\n")
    pointer = room / "ada/.git"
    pointer.write_text(f"gitdir: {tmp_path}/other/.git/worktrees/ada\n")

    assert the_row(room).lesson == "3-improved-data-loading"

    if os.geteuid() == 0:
        os.chown(inside.folder / ".git/worktrees/ada/HEAD", 65534, -1)
        assert "has another owner" in the_row(room).clone.note
    for text in ("gitdir: /etc\n", f"gitdir: {tmp_path}/other/.git\n", "nonsense"):
        pointer.write_text(text)
        assert "neither a folder nor a worktree" in the_row(room).clone.note


# --- what must not be followed, and what vanishes


def test_no_symbolic_link_in_a_clone_is_followed(room, slurm, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("HEAD", "job.err", "slurm.5.out"):
        (secret / name).write_text("ref: refs/heads/9-secret\n")
    slurm.install("sacct")
    for name in ("git", "head", "logs", "run", "file", "etc"):
        ada = Learner(room / name, BRANCHES[9])
        slurm.job(9, "FAILED", ada.folder)
    for link, target in {
        "logs/logs": secret,
        "run/logs/mnist/version_0": secret,
        "file/logs/mnist/version_0/job.err": secret / "job.err",
        "etc/slurm.9.out": "/etc/passwd",
    }.items():
        (room / link).parent.mkdir(parents=True, exist_ok=True)
        (room / link).symlink_to(target)
    (room / "head/.git/HEAD").unlink()
    (room / "head/.git/HEAD").symlink_to(secret / "HEAD")
    shutil.rmtree(room / "git/.git")
    (room / "git/.git").symlink_to(secret)

    found = view(room)

    shown = "\n".join(class_view.table(list(found.values()), "", 200))
    assert "secret" not in shown and "root:" not in shown, shown
    for name in ("git", "head"):
        assert "a symbolic link is not followed" in found[name].clone.note
    assert found["logs"].clone.note == "logs is a symbolic link, which is not followed"
    assert {row.error for row in found.values()} == {"its log does not say why, or is not in logs/"}


def test_a_named_pipe_is_not_waited_for(room, slurm):
    ada = Learner(room / "ada", BRANCHES[9])
    slurm.install("sacct")
    slurm.job(9, "FAILED", ada.folder)
    (room / "ada/logs/mnist/version_0").mkdir(parents=True)
    for name in ("logs/mnist/version_0/job.err", "slurm.9.out"):
        os.mkfifo(room / "ada" / name)

    assert the_row(room).error == "its log does not say why, or is not in logs/"


def test_clones_and_files_may_vanish_at_any_moment(room, slurm, programs, monkeypatch):
    """Each call of the system in turn finds that its file is gone."""
    ada = Learner(room / "ada", BRANCHES[9])
    ada.run(9, programs[9], 12, MISTAKE, done=False)
    real, counts = os.open, []

    def vanishing(at):
        def opening(*args, **kwargs):
            counts.append(args)
            if len(counts) >= at:
                raise FileNotFoundError(2, "No such file or directory", args[0])
            return real(*args, **kwargs)

        return opening

    for at in range(1, 60):
        counts.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", vanishing(at))
            clone = read_clone(ada.folder)
            class_clones.error_of(clone, "12", 0)
    assert len(counts) < at  # the last call came after all the others
    shutil.rmtree(room / "ada")

    assert read_clone(ada.folder).note == "cannot be read: No such file or directory"


def test_a_file_that_vanishes_does_not_hide_the_others(room, monkeypatch):
    for name in "abc":
        Learner(room).write(name)
    real, first = os.stat, []

    def vanishing(path, **kwargs):
        first.append(path)
        if path == first[0]:
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, **kwargs)

    top = os.open(room, os.O_RDONLY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", vanishing)
        found = class_clones.entries(top, ".")
    os.close(top)

    assert {*found, first[0]} == {".git", "a", "b", "c"}
    assert len(found) == 3


def test_no_file_stays_open(room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[9])
    ada.run(9, programs[9], 12, MISTAKE, done=False)
    before = open_files()

    view(room)

    assert open_files() == before


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def locked_room():
    """A class folder that another user can enter, since root may read everything."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
    shutil.rmtree(folder)


def test_what_one_may_not_read_is_a_row_that_says_so(locked_room):
    for name in ("ada", "ben", "cleo", "dan"):
        Learner(locked_room / name / "hpc-starter", BRANCHES[2])
    (locked_room / "ada").chmod(0)
    (locked_room / "ben/hpc-starter").chmod(0)
    (locked_room / "cleo/hpc-starter/.git").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        paths = find_clones([f"{locked_room}/*/hpc-starter"])
        found = {path.parent.name: read_clone(path) for path in paths}
    finally:
        if root:
            os.seteuid(0)

    assert found["ada"].note == found["ben"].note == "cannot be read: Permission denied"
    assert found["ada"].user == found["dan"].user != ""
    assert found["cleo"].note == "no branch: .git cannot be read (Permission denied)"
    assert (found["dan"].note, found["dan"].lesson) == ("", 2)


# --- jobs


@pytest.mark.parametrize("lesson", [1, 3, 4, 8, 9, 10])
def test_the_error_of_the_last_job_is_shown(lesson, room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[lesson])
    ada.run(lesson, programs[lesson], 11, "an older error\n", done=False)
    ada.run(lesson, programs[lesson], 12, f"{MISTAKE}\n{ENDS}", done=False)
    slurm.install("sacct")
    slurm.job(12, "FAILED", ada.folder)
    slurm.job(11, "FAILED", ada.folder, "2026-11-26T08:00:00")

    row = the_row(room)

    assert (row.job, row.state, row.error) == ("12", "FAILED", MISTAKE)


def test_a_job_that_ended_before_its_training_began_is_found_by_its_time(room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[9])
    ada.run(9, programs[9], 11)
    for path in ada.folder.glob("logs/mnist/version_11/**/*"):
        os.utime(path, (1, 1))
    os.utime(ada.folder / "logs/mnist/version_11", (1, 1))
    ada.write("logs/mnist/version_1/job.err", "No Python environment at env\n")
    slurm.install("sacct")
    slurm.job(12, "FAILED", ada.folder, "2020-01-01T00:00:00")

    assert the_row(room).error == "No Python environment at env"


@pytest.mark.parametrize(
    ("state", "shown", "error"),
    [
        ("COMPLETED", "COMPLETED", ""),
        ("PENDING", "PENDING", ""),
        ("CANCELLED by 1000", "CANCELLED", ""),
        ("TIMEOUT", "TIMEOUT", "its log does not say why, or is not in logs/"),
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY", "its log does not say why, or is not in logs/"),
        ("NODE_FAIL", "NODE_FAIL", "its log does not say why, or is not in logs/"),
    ],
)
def test_a_job_without_a_log_has_slurms_state(state, shown, error, room, slurm):
    slurm.install("sacct")
    slurm.job(7, state, Learner(room / "ada").folder)

    row = the_row(room)

    assert (row.state, row.error) == (shown, error)


def test_jobs_belong_to_the_clone_that_they_began_in(room, slurm):
    for name in ("ada", "ada-2", "ben"):
        Learner(room / name)
    (room.parent / "link").symlink_to(room)
    slurm.install("sacct")
    slurm.job(1, "RUNNING", room / "ada")
    slurm.job(2, "PENDING", room / "ada-2/src")
    slurm.job(3, "FAILED", room)
    slurm.job(4, "FAILED", "/")
    slurm.job(5, "FAILED", "")

    found = view(room, room.parent / "link")

    assert {name: row.state for name, row in found.items()} == {
        "ada": "RUNNING",
        "ada-2": "PENDING",
        "ben": "",
    }
    [call] = slurm.record.read_text().splitlines()
    assert f"--user={os.geteuid()} " in call


def test_slurm_is_not_asked_about_a_user_whom_the_machine_does_not_know(room, slurm, monkeypatch):
    Learner(room / "ada")
    monkeypatch.setattr(class_clones.pwd, "getpwuid", {}.__getitem__)  # KeyError
    slurm.install("sacct")

    row = the_row(room)

    assert row.clone.user == str(os.geteuid())
    assert slurm.record.read_text() == ""


def test_a_folder_name_cannot_forge_the_job_of_somebody_else(room, slurm):
    ben, evil = room / "ben", Learner(room / "eve").folder
    Learner(ben)
    slurm.install("sacct")
    slurm.job(1, "RUNNING", ben)
    slurm.job(2, "RUNNING", f"{evil}/\n9|FAILED|2030|2030|{ben}\n9|FAILED|2030|2030|{ben}")

    assert view(room)["ben"].state == "RUNNING"


# --- Slurm that is missing, fails or hangs


def test_without_accounting_the_jobs_are_those_of_squeue(room, slurm, programs):
    ada, ben = (Learner(room / name, BRANCHES[4]) for name in ("ada", "ben"))
    ben.run(4, programs[4], 8, MISTAKE, done=False)
    slurm.install("squeue")
    slurm.job(7, "RUNNING", ada.folder)

    found, note = class_view.read_class([str(room)])

    assert [(row.job, row.state, row.error) for row in found] == [
        ("7", "RUNNING", ""),
        ("8", "not done", MISTAKE),
    ]
    assert note.startswith("sacct does not answer: only squeue's jobs are shown")


def test_without_slurm_the_logs_say_what_they_can(room, slurm, programs, monkeypatch):
    ada, ben = (Learner(room / name, BRANCHES[9]) for name in ("ada", "ben"))
    ada.run(9, programs[9], 8)
    ben.run(9, programs[9], 9, MISTAKE, done=False)
    Learner(room / "cleo")
    (slurm.bin / "sacct").unlink()
    monkeypatch.setenv("PATH", str(slurm.bin))

    found, note = class_view.read_class([str(room)])

    assert [(row.job, row.state, row.error) for row in found] == [
        ("8", "done", ""),
        ("9", "not done", MISTAKE),
        ("", "", ""),
    ]
    assert note.startswith("neither sacct nor squeue answers")


def test_an_accounting_that_hangs_is_left_behind_with_its_processes(room, slurm):
    Learner(room / "ada")
    slurm.install("sacct", '#!/bin/bash\nsleep 1000 & echo $! >"$RECORD"\nwait\n')
    slurm.install("squeue")
    slurm.job(7, "PENDING", room / "ada")

    found, note = class_view.read_class([str(room)])

    assert [row.state for row in found] == ["PENDING"]
    assert note.startswith("sacct does not answer")
    sleeper = Path("/proc", slurm.record.read_text().split("\n")[0], "status")
    deadline = time.monotonic() + 60
    while sleeper.exists() and "State:\tZ" not in sleeper.read_text():
        assert time.monotonic() < deadline, "the sleep is still running"
        time.sleep(0.05)


def test_settings_of_the_shell_do_not_change_what_slurm_prints(room, slurm, monkeypatch):
    Learner(room / "ada")
    slurm.install("sacct", f'#!/bin/bash\nenv >"$RECORD"\n{SLURM}')
    for name in ("SACCT_FORMAT", "SQUEUE_STATES", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "relative")

    view(room)

    assert "=relative" not in slurm.record.read_text()


# --- the line that says why


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (f"{FINISHED[:200]}\n{MISTAKE}\n{ENDS}", MISTAKE),
        (f"{MISTAKE}\n{ENDS}", MISTAKE),
        (f"{ENDS}{MISTAKE}\n", MISTAKE),
        (ENDS, ENDS.splitlines()[0]),
        ("", ""),
        (FINISHED, ""),
        ("\n \n\t\n", ""),
        ("Traceback (most recent call last):\n  File", ""),
        (f"2026-11-26 09:00:00,000 INFO epoch 1\n{MISTAKE}", MISTAKE),
        (f"INFO: Seed set to 1\nINFO: GPU available: False\n{MISTAKE}", MISTAKE),
        (f"/t/x.py:12: UserWarning: it is slow\n  warnings.warn(\n{MISTAKE}", MISTAKE),
        (
            'Traceback (most recent call last):\n  File "x.py", line 3\n    f()\nKeyError: 3\n'
            + ENDS,
            "KeyError: 3",
        ),
        (
            "process 1: another process ended or did not answer in time\n"
            f"process 0: {MISTAKE}\n{ENDS}",
            f"process 0: {MISTAKE}",
        ),
        (
            "ended by SIGTERM: scancel, the time limit, or the end of another process\n"
            "slurmstepd: error: *** JOB 9 ON node1 CANCELLED AT 2026 DUE TO TIME LIMIT ***\n",
            "slurmstepd: error: *** JOB 9 ON node1 CANCELLED AT 2026 DUE TO TIME LIMIT ***",
        ),
        (
            "an error of the first attempt\n"
            "slurmstepd: error: *** JOB 9 ON node1 CANCELLED AT 2026 DUE TO JOB REQUEUE ***\n"
            f"srun: forcing job termination\n{MISTAKE}\n{ENDS}",
            MISTAKE,
        ),
        (f"  0%|   | 0/5\r 50%|## | 3/5\r{MISTAKE}\n", MISTAKE),
        # two processes write at once
        (f"process 0: {MISTAKE}\nepoch  3/10  train loss 1\n{ENDS}", f"process 0: {MISTAKE}"),
    ],
)
def test_the_first_line_of_the_error_is_found(log, line):
    assert first_error(log) == line


def messages():
    """Return the messages that the pages quote, as a log has them."""
    text = (ROOT / "docs/troubleshooting.md").read_text()
    found = re.findall(r"^### .*\n\n```output.*\n(.*)\n", text, re.MULTILINE)
    for page in PAGES:
        for row in rows(page):
            found += [quote for quote in re.findall("`(.+?)`", row.seen) if len(quote) > 60]
    return [
        message
        for message in found
        if not re.match("srun|slurm|sbatch|process|ended|Traceback", message)
    ]


@pytest.mark.parametrize("shape", ["{message}\n" + ENDS, FINISHED[:200] + "\n{message}\n" + ENDS])
def test_every_message_that_the_pages_quote_is_found_in_a_log(shape):
    assert len(messages()) > 40
    for message in messages():
        assert first_error(shape.replace("{message}", message)) == message.strip()


def test_of_a_huge_log_only_the_end_is_read(room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[4])
    ada.run(4, programs[4], 12, done=False)
    errors = ada.folder / "logs/mnist/slurm_err_logs/version_12_12.err"
    with errors.open("wb") as file:
        file.truncate(50_000_000_000)  # sparse
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + bytes(100) + f"{MISTAKE}\n{ENDS}".encode())
    slurm.install("sacct")
    slurm.job(12, "FAILED", ada.folder)

    assert the_row(room).error == MISTAKE


# --- text that a learner chose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bcreset", "reset"),
        ("\x1b", ""),
        ("a\tb\r\nc\x00\x07\x08\x7f", "a b c"),
        ("\u202eright to left\u200b", "right to left"),
        ("line\u2028separator", "line separator"),
        ("e\u0301 o" + "\u0335" * 50, "\u00e9 o"),
        ("name\udcff", "name"),
    ],
)
def test_nothing_in_a_text_can_change_the_terminal(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize("text", ["a" * 200, "\u6f22" * 100, "short", "", "\U0001f3d6" * 30])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 20, 21, 80])
def test_a_text_is_cut_to_the_width(text, width):
    found = cut(text, width)

    assert sum(map(cells, found)) <= width
    assert found == text or found.endswith("."[:width])


def test_a_wide_character_takes_two_columns():
    assert cut("\u6f22" * 100, 21) == "\u6f22" * 9 + "..."


def test_hostile_names_and_errors_stay_in_their_cells(room, slurm, programs):
    evil = "\x1b[2J\x1b]0;x\x07\nada\u202e"
    ada = Learner(room / evil, f"4-{evil}".replace("\n", ""))
    ada.run(4, programs[4], 12, f"\x1b[31m=cmd|'/c calc'!A0 {evil} {'x' * 9000}\n", done=False)
    Learner(room / "ben")
    slurm.install("sacct")
    slurm.job(12, "FAILED", "/")
    found, _ = class_view.read_class([str(room)])

    lines = class_view.table(found, "", 80)

    assert len(lines) == 6
    assert all(sum(map(cells, line)) <= 80 for line in lines)
    assert all(line == clean(line) for line in (line.strip().replace("  ", "") for line in lines))
    done = run_tool(slurm, room, "--csv")
    [_, *lines] = csv.reader(io.StringIO(done.stdout))
    assert {len(line) for line in lines} == {12}
    assert not [cell for line in lines for cell in line if cell.startswith(("=", "+", "-", "@"))]
    assert "\x1b" not in done.stdout


# --- the program


def run_tool(slurm, *words, python=sys.executable, **env):
    command = [python, str(TOOL), *map(str, words)]
    env = {**os.environ, **slurm.env, **env}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_the_program_prints_once_without_a_terminal(room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[4])
    ada.run(4, programs[4], 12, f"{MISTAKE}\n", done=False)
    Learner(room / "ben", BRANCHES[5])
    slurm.install("sacct")
    slurm.job(12, "FAILED", ada.folder)

    done = run_tool(slurm, room, COLUMNS="70", PYTHONSAFEPATH="")

    summary, _, head, first, error, second = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert summary.endswith("  2 clones, lesson 4: 1, lesson 5: 1, FAILED 1")
    assert " ".join(head.split()) == "USER CLONE LESSON DONE EPOCH JOBID STATE ACTIVE"
    # the columns are aligned
    assert [first[head.index(name) :].split()[0] for name in ("CLONE", "LESSON", "DONE")] == [
        "ada",
        "4-auto-slurm-scri...",
        "0/1",
    ]
    assert first.split()[5:7] == ["12", "FAILED"]
    assert error == f"    {MISTAKE}"[:67] + "..."
    assert second.split()[1:3] == ["ben", "5-improved-logging"]


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the system has no Python")
def test_the_systems_python_can_run_it(room, slurm):
    Learner(room / "ada")

    done = run_tool(slurm, room, python="/usr/bin/python3")

    assert done.returncode == 0, done.stderr


def test_a_character_that_the_terminal_cannot_show_is_replaced(room, slurm):
    Learner(room / "J\u00fcrgen")

    done = run_tool(slurm, room, "--csv", PYTHONIOENCODING="ascii")

    assert "/J?rgen," in done.stdout, done.stderr


def test_the_table_for_a_spreadsheet_has_all_columns(room, slurm, programs):
    ada = Learner(room / "ada", BRANCHES[9])
    ada.run(9, programs[9], 12, f"{MISTAKE}\n", done=False)
    slurm.install("sacct")
    slurm.job(12, "FAILED", ada.folder)

    done = run_tool(slurm, room, "--csv")

    [row] = csv.DictReader(io.StringIO(done.stdout))
    assert row["clone"] == str(ada.folder)
    assert (row["branch"], row["lesson"]) == (BRANCHES[9], "9")
    assert (row["done"], row["runs"], row["epoch"]) == ("0", "1", "5/10")
    assert (row["job_id"], row["state"], row["error"]) == ("12", "FAILED", f"'{MISTAKE}")
    assert time.strptime(row["active"], "%Y-%m-%dT%H:%M:%S")


def test_a_bare_repository_is_not_taken_for_a_class(slurm, tmp_path):
    for name in ("objects", "refs", "hooks"):
        (tmp_path / "bare.git" / name).mkdir(parents=True)
    (tmp_path / "bare.git/HEAD").touch()

    done = run_tool(slurm, tmp_path / "bare.git")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{tmp_path}/bare.git: this is a bare git repository, without")
    assert "; name the folder with the clones" in done.stderr


@pytest.mark.parametrize("words", [["/nowhere"], ["/nowhere/*"], ["empty"]])
def test_a_folder_without_clones_is_one_sentence(words, slurm, tmp_path):
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty") if word == "empty" else word for word in words]

    done = run_tool(slurm, *words)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert words[0] in done.stderr


@pytest.mark.parametrize("path", ["~no-such-user/class", "/tmp/a**b/*"])
def test_a_path_or_pattern_that_cannot_be_used_is_one_sentence(path, slurm):
    done = run_tool(slurm, path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{path}: ")
    assert done.stderr.count("\n") == 1


def test_an_endless_answer_of_slurm_is_not_kept(room, slurm, monkeypatch):
    Learner(room / "ada")
    slurm.install("sacct", "#!/bin/sh\nexec yes\n")
    monkeypatch.setattr(class_view, "TIMEOUT", 1000)  # the limit is that of the bytes

    assert class_view.ask(["sacct"]) is None

    monkeypatch.setattr(class_view, "MOST", 10)
    slurm.install("sacct", "#!/bin/sh\necho 123456789\n")
    assert class_view.ask(["sacct"]) == "123456789\n"


def test_the_table_for_a_spreadsheet_does_not_hide_that_slurm_is_silent(room, slurm):
    Learner(room / "ada")

    done = run_tool(slurm, room, "--csv")

    assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 1
    assert done.stderr.startswith("neither sacct nor squeue answers: ")


def test_a_reader_that_has_ended_causes_no_traceback(room, slurm):
    for number in range(50):
        Learner(room / f"ada{number}")
    command = f"'{sys.executable}' '{TOOL}' '{room}' | true; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, **slurm.env}
    )

    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_a_terminal_is_renewed_until_ctrl_c_ends_it_quietly(room, slurm):
    for number in range(50):
        Learner(room / f"ada{number}", BRANCHES[2])
    code = "import class_view as v; v.SECONDS = 0.1; v.main()"
    main, terminal = pty.openpty()
    env = {**os.environ, **slurm.env, "COLUMNS": "60", "LINES": "10"}
    command = [sys.executable, "-c", code, str(room)]
    pipes = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(
        command, **pipes, env=env, cwd=ROOT / "tools", preexec_fn=accept_signals
    ) as process:
        os.close(terminal)
        shown = ""
        while shown.count("\x1b[H\x1b[2J") < 3:
            assert select.select([main], [], [], 60)[0], shown
            shown += os.read(main, 10_000).decode()
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            if select.select([main], [], [], 0.1)[0]:
                try:
                    shown += os.read(main, 10_000).decode()
                except OSError:
                    break
    os.close(main)

    assert process.returncode == 0, shown
    assert "Traceback" not in shown
    frame = shown.split("\x1b[H\x1b[2J")[1].splitlines()
    assert len([line for line in frame if line]) < 10
    assert "more lines: use a taller terminal, or --once" in frame[-1]


def test_a_hundred_learners_need_one_call_of_slurm_and_less_than_a_second(room, slurm, programs):
    names = [class_clones.MARKS[9], "run.py", "src/main.py"]
    for number in range(100):
        ada = Learner(room / f"ada{number:02d}", BRANCHES[9])
        for job in range(5):
            ada.run(9, names, job + 1, f"{MISTAKE}\n", done=False)
        slurm.job(number, "FAILED", ada.folder)
    slurm.install("sacct")
    began = time.process_time()

    found = view(room)

    # of this process; the time on the clock depends on what else the machine does
    assert time.process_time() - began < 1
    assert {(row.state, row.error) for row in found.values()} == {("FAILED", MISTAKE)}
    assert len(slurm.record.read_text().splitlines()) == 1


def test_lessons_are_told_apart_by_files_that_they_add(programs):
    assert list(class_clones.MARKS) == sorted(BRANCHES, reverse=True)
    for number, names in programs.items():
        found = next(lesson for lesson, mark in class_clones.MARKS.items() if mark in names)
        assert found == number


def test_the_epoch_is_read_as_check_py_reads_it():
    ours = class_clones.EPOCH.findall(EPOCHS)

    assert ours == [found[:2] for found in EPOCH.findall(EPOCHS)]
    assert len(ours) == 10


def test_the_program_runs_nothing_but_slurm():
    text = TOOL.read_text() + (ROOT / "tools/class_clones.py").read_text()

    assert text.count("Popen(") == 1
    assert not re.search(
        r"os\.(system|exec|spawn)|subprocess\.(run|call|check)|\"git\"|eval\(", text
    )
