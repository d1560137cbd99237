"""check.py on states that a learner may leave behind: make test-fast.

Every state is a folder like that of a learner, with the files that the lesson's program writes and,
where there is a cluster, with commands that answer as Slurm does.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from clone import ROOT
from lesson_diffs import lessons

FILES = lessons(ROOT)
LESSONS = sorted(FILES)
BRANCHES = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}
TAGS = ["train_loss", "train_acc", "val_loss", "val_acc"]
PICTURES = ["images/confusion_matrix", "images/examples", "images/predictions"]
# lesson -> the runs that its page asks for: experiment, settings, test accuracy on sample and full
DIGITS, PHOTOS, RESNET = (0.95, 0.97), (0.2, 0.45), (0.75, 0.76)
RUNS = {
    1: [("", {}, DIGITS)],
    2: [("", {}, DIGITS)],
    3: [("", {"num_workers": 2}, DIGITS)],
    4: [
        ("mnist", {"learning_rate": 0.001}, DIGITS),
        *(("rates", {"learning_rate": rate}, DIGITS) for rate in (0.001, 0.003, 0.0003)),
    ],
    5: [("metrics", {"optimizer": name}, DIGITS) for name in ("Adam", "SGD")],
    6: [("cifar10", {"dataset": "cifar10"}, PHOTOS), ("mnist", {"dataset": "mnist"}, DIGITS)],
    7: [
        ("cifar10", {"dataset": "cifar10", "arch": "resnet18"}, RESNET),
        ("cifar10", {"dataset": "cifar10", "arch": "fully_connected"}, PHOTOS),
    ],
    8: [("cifar10", {"dataset": "cifar10", "num_nodes": 2, "devices": 2}, RESNET)],
}


class Learner:
    """A folder in which a learner has worked on a lesson."""

    def __init__(self, folder, lesson):
        self.folder, self.lesson = folder, lesson
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "check.py").symlink_to(ROOT / "check.py")
        self.states = {}
        self.job = 10
        self.git("init", "--quiet", f"--initial-branch={BRANCHES[lesson]}")
        self.program(lesson, folder)

    def git(self, *words):
        command = ["git", "-C", str(self.folder), *words]
        subprocess.run(command, check=True, capture_output=True)

    def program(self, lesson, folder):
        for name, text in FILES[lesson].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def runs(self, which=None, **state):
        """Write what the runs of the lesson leave behind; `which` selects one of them."""
        runs = RUNS[self.lesson]
        for experiment, settings, accuracy in runs if which is None else [runs[which]]:
            self.run(experiment, settings, accuracy, **state)

    def run(
        self,
        experiment,
        settings,
        accuracy,
        *,
        data="sample",
        epochs=10,
        of=10,
        ended=True,
        says="",
        state="COMPLETED",
        job=True,
        lesson=None,
        empty=False,
    ):
        self.job += 1
        lesson = lesson or self.lesson
        sample = ", sample: some images" if data == "sample" else ""
        time = "2026-11-26 09:00:00,000 INFO " if lesson > 4 else ""
        lines = [f"data: MNIST{sample}, 4 files checked in /home/ada/data/MNIST"]
        lines += ["device: cpu, logs: somewhere"] if 1 < lesson < 5 else []
        processes = settings.get("num_nodes", 1) * settings.get("devices", 1)
        lines += [f"processes: {processes} (nodes: 2, devices per node: 2)"] if lesson == 8 else []
        test = accuracy[data == "full"]
        for number in range(1, epochs + 1):
            numbers = f"train loss {2 / number:.4f} acc 0.5000  val loss 0.5000 acc {test:.4f}"
            lines.append(f"epoch {number:2d}/{of}  {numbers}")
        lines += [f"test loss 0.3000 acc {test:.4f}"] if ended else []
        text = "" if empty else "".join(f"{time}{line}\n" for line in lines)
        self.states[self.job] = state
        folder, log, errors = self.places(lesson, experiment, job)
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(text + ("" if errors else says))
        if errors:
            errors.parent.mkdir(parents=True, exist_ok=True)
            errors.write_text(says)
        if folder and not empty:
            self.fill(folder, lesson, {**settings, "max_epochs": of}, experiment)
            if ended:
                (folder / "DONE.json").write_text(json.dumps({"steps": 220, "test_acc": test}))

    def places(self, lesson, experiment, job):
        """Return the folder, the log and the error log of a run."""
        if lesson < 4:
            number = self.job if job else 0
            folder = self.folder / f"lightning_logs/version_{number}" if lesson > 1 else None
            named = self.folder / f"slurm.{self.job if job else 0}.out"
            return folder, named if job or lesson == 1 else None, None
        logs = self.folder / "logs" / experiment
        number = len(list(logs.glob("version_*")))
        folder = logs / f"version_{number}"
        folder.mkdir(parents=True)
        if not job:
            return folder, None, None
        (logs / "slurm_scripts").mkdir(exist_ok=True)
        (logs / f"slurm_scripts/version_{number}.sh").write_text("#!/bin/bash\n")
        name = f"version_{number}_{self.job}"
        return folder, logs / f"slurm_out_logs/{name}.out", logs / f"slurm_err_logs/{name}.err"

    def fill(self, folder, lesson, settings, experiment):
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"experiment_name": experiment, "learning_rate": 0.001, **settings}
        hparams = "".join(f"{name}: {value}\n" for name, value in settings.items())
        (folder / "hparams.yaml").write_text(f"{hparams}dims:\n- 1\n- 28\n")
        if lesson > 3:
            self.program(lesson, folder / "code")
        (folder / "checkpoints").mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "checkpoints/epoch=9-step=220.ckpt", "w") as checkpoint:
            checkpoint.writestr("archive/data.pkl", "weights")
        with SummaryWriter(str(folder)) as writer:
            for tag in (*TAGS, *(PICTURES if lesson > 4 else ())):
                writer.add_scalar(tag, 1, 1)
        (folder / "fit-profile.txt").write_text("FIT Profiler Report\n")

    def check(self, *words, slurm=True):
        if slurm:
            self.install("squeue", "UNFINISHED")
            self.install("sacct", "FINISHED")
            self.install("sbatch", "")
        path = os.pathsep.join([str(self.bin), *os.get_exec_path()])
        env = {**os.environ, "PATH": path if slurm else without_slurm(self.folder)}
        command = [sys.executable, str(self.folder / "check.py"), *words]
        # the folder of the link is that of the learner
        program = (ROOT / "check.py").read_text()
        (self.folder / "check.py").unlink()
        (self.folder / "check.py").write_text(program)
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder)

    def install(self, name, kind):
        """Install a command that knows the states of the jobs; squeue forgets those that ended."""
        cases = "".join(
            f"*{job}*) echo {state} ;;\n"
            for job, state in self.states.items()
            if kind and (kind == "FINISHED" or state in ("RUNNING", "PENDING"))
        )
        (self.bin / name).write_text(f'#!/bin/bash\ncase "$*" in\n{cases}esac\n')
        (self.bin / name).chmod(0o755)


def without_slurm(folder):
    """Return a PATH that has git but no Slurm."""
    place = folder / "without-slurm"
    place.mkdir()
    git = next(path for path in os.get_exec_path() if (Path(path) / "git").exists())
    (place / "git").symlink_to(Path(git) / "git")
    return str(place)


@pytest.fixture(params=LESSONS)
def learner(request, tmp_path):
    return Learner(tmp_path, request.param)


def passes(done):
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"PASS (\d+)/\1: lesson \d+\n", done.stdout)


def fails(done, *words):
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("FAIL after ")
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[1:]] == [
        "found",
        "expected",
        "try",
    ]
    for word in words:
        assert word in done.stdout
    assert done.stderr == ""


# --- states that are right


@pytest.mark.parametrize("data", ["sample", "full"])
def test_a_finished_lesson_passes(learner, data):
    learner.runs(data=data)

    passes(learner.check())


def test_a_lesson_without_a_cluster_passes(learner):
    if learner.lesson == 4:
        learner.runs(0, job=False)  # trials need a cluster
    else:
        learner.runs(job=False)

    passes(learner.check(slurm=False))


def test_a_lesson_passes_beside_runs_of_other_lessons(learner):
    for other in (2, 4, 5, 8):
        if other != learner.lesson:
            for experiment, settings, accuracy in RUNS[other]:
                learner.run(experiment, settings, accuracy, lesson=other)
    learner.runs()

    passes(learner.check())


def test_a_lesson_passes_after_a_first_attempt_that_failed(learner):
    learner.runs(epochs=2, ended=False, says="interrupted\n", state="FAILED")
    learner.runs()

    passes(learner.check())


def test_a_lesson_passes_although_a_later_experiment_was_short(learner):
    learner.runs()
    learner.runs(epochs=1, of=1)

    passes(learner.check())


def test_a_job_that_the_cluster_has_forgotten_is_judged_by_its_files(learner):
    learner.runs()
    learner.states = {}

    passes(learner.check())


def test_a_branch_of_the_learner_is_judged_as_its_lesson(learner):
    learner.git("-c", "user.name=Ada", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "x")
    for number in range(1, learner.lesson + 1):
        learner.git("update-ref", f"refs/pristine/{BRANCHES[number]}", "HEAD")
    learner.git("switch", "--quiet", "-c", "my-experiments")
    learner.runs()

    passes(learner.check())


# --- states that are not


def test_a_lesson_that_was_not_begun_fails(learner):
    fails(learner.check(), "found:    no run")


def test_runs_of_other_lessons_do_not_count(learner):
    other = 2 if learner.lesson != 2 else 3
    other = 5 if learner.lesson in (4, 6, 7, 8) else 4 if learner.lesson == 5 else other
    experiment, settings, accuracy = RUNS[other][0]
    learner.run(experiment, settings, accuracy, lesson=other)

    fails(learner.check(), f"only runs of lesson {other}")


def test_a_lesson_of_which_half_is_done_fails(learner):
    if len(RUNS[learner.lesson]) == 1:
        learner.runs(epochs=5, ended=False, state="CANCELLED", says="CANCELLED\n")
        fails(learner.check(), "epoch 5 of 10", "CANCELLED")
    else:
        learner.runs(0)
        fails(learner.check(), "try:      python run.py")


@pytest.mark.parametrize("state", ["RUNNING", "PENDING"])
def test_a_job_that_has_not_ended_is_not_judged_yet(learner, state):
    learner.runs(epochs=4 if state == "RUNNING" else 0, ended=False, state=state)

    fails(learner.check(), f"is {state}", "wait until squeue --me no longer lists it")


def test_a_job_that_waits_has_no_log_yet(learner):
    learner.runs(empty=True, ended=False, state="PENDING")

    fails(learner.check())


@pytest.mark.parametrize("state", ["FAILED", "TIMEOUT", "OUT_OF_MEMORY"])
def test_a_failed_job_is_shown_with_its_last_line(learner, state):
    learner.runs(epochs=3, ended=False, state=state, says="the disk is full; free some space\n")

    fails(learner.check(), state, "epoch 3 of 10", "the disk is full; free some space")


def test_a_job_that_failed_after_its_test_fails(learner):
    learner.runs(state="FAILED", says="process 1: another process ended\n")

    fails(learner.check(), "FAILED", "another process ended")


def test_an_empty_log_fails(learner):
    learner.runs(empty=True, ended=False, state="FAILED")

    fails(learner.check())


def test_a_network_that_has_not_learned_fails(learner):
    for experiment, settings, _ in RUNS[learner.lesson]:
        learner.run(experiment, settings, (0.1, 0.1))

    again = f"; python3 start_lesson.py {learner.lesson} saves them and starts the lesson again"
    fails(learner.check(), "test accuracy 0.1", "expected: at least", again)


def test_fewer_epochs_fail(learner):
    learner.runs(epochs=3, of=3)

    fails(learner.check(), "3 epoch", "10")


def test_only_a_debugging_run_fails(learner):
    learner.runs(epochs=1, of=1)

    fails(learner.check())


@pytest.mark.parametrize("lesson", [number for number in LESSONS if number > 1])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_checkpoint_fails(tmp_path, lesson, damage):
    learner = Learner(tmp_path, lesson)
    learner.runs()
    for path in tmp_path.rglob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:20]) if damage == "cut" else path.unlink()

    fails(learner.check(), "damaged" if damage == "cut" else "no checkpoint")


@pytest.mark.parametrize("lesson", [2, 3, 4, 5])
def test_missing_curves_fail(tmp_path, lesson):
    learner = Learner(tmp_path, lesson)
    learner.runs()
    for path in tmp_path.rglob("events.out.tfevents.*"):
        path.write_bytes(b"")

    fails(learner.check(), "train_loss")


def test_missing_pictures_fail(tmp_path):
    learner = Learner(tmp_path, 5)
    learner.runs()
    for path in tmp_path.rglob("events.out.tfevents.*"):
        path.unlink()
    for folder in tmp_path.glob("logs/metrics/version_*"):
        with SummaryWriter(str(folder)) as writer:
            for tag in TAGS:
                writer.add_scalar(tag, 1, 1)

    fails(learner.check(), "images/confusion_matrix")


def test_workers_without_cpus_fail(tmp_path):
    learner = Learner(tmp_path, 3)
    learner.runs()
    script = tmp_path / "run.sh"
    script.write_text(script.read_text().replace("--cpus-per-task=3", "--cpus-per-task=1"))

    fails(learner.check(), "1 CPUs for 2 workers", "--cpus-per-task=3")


def test_trials_with_the_same_learning_rate_fail(tmp_path):
    learner = Learner(tmp_path, 4)
    for experiment, settings, accuracy in RUNS[4]:
        learner.run(experiment, {**settings, "learning_rate": 0.001}, accuracy)

    fails(learner.check(), "1 learning rates", "--nb_trials=3")


def test_a_resnet_that_is_not_better_fails(tmp_path):
    learner = Learner(tmp_path, 7)
    for experiment, settings, _ in RUNS[7]:
        learner.run(experiment, settings, (0.5, 0.6))

    fails(learner.check(), "a larger one for the ResNet")


def test_a_single_process_is_not_lesson_8(tmp_path):
    learner = Learner(tmp_path, 8)
    learner.run("cifar10", {"dataset": "cifar10"}, RESNET)

    fails(learner.check(), "1 process in", "--num_nodes=2 --devices=2")


def test_main_has_nothing_to_check(tmp_path):
    learner = Learner(tmp_path, 8)
    learner.git("branch", "-m", "main")

    done = learner.check()

    assert done.returncode == 1
    assert done.stderr.startswith("this is not the branch of a lesson with checks: ")
    assert done.stderr.count("\n") == 1
    learner.runs()
    passes(learner.check("--lesson=8"))


def test_a_slurm_that_does_not_answer_does_not_stop_the_check(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.runs()
    for name in ("squeue", "sacct"):
        (learner.bin / name).write_text("#!/bin/bash\nsleep 60\n")
        (learner.bin / name).chmod(0o755)
    learner.install = lambda *_: None

    passes(learner.check())
