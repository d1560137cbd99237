"""check.py --challenge on states that a learner may leave behind, and on the solutions: make test.

The solutions run here without Slurm, as far as they can; the walk of the pages runs them as jobs.
"""

import json
import re
import shutil
import subprocess
import sys

import pytest
from torch.utils.tensorboard import SummaryWriter

from learner import BRANCHES, Learner, challenge, fails
from login_node import FakeLoginNode
from practice_cluster import wait_until
from processes import end_session


def passes(done, name):
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf"PASS (\d+)/\1: challenge {name}( \(.+\))?\n", done.stdout)


def test_an_unknown_challenge_is_answered_with_those_of_the_lesson(tmp_path):
    learner = Learner(tmp_path, 1)

    for name in ("overfit", "", "grid"):
        done = challenge(learner, name)
        assert done.returncode == 1
        known = "its challenges: request, overfitting"
        assert done.stderr.startswith(f"{name!r} is not a challenge of lesson 1; {known}")
        assert done.stderr.count("\n") == 1


# --- lesson 1


def train(learner, losses, line="  best epoch {best}", of=1000, end="", state="CANCELLED"):
    """Write the log of a job with these validation losses."""
    text = "data: MNIST, 4 files checked in /home/ada/data/MNIST\n"
    for number, loss in enumerate(losses, 1):
        best = losses.index(min(losses[:number])) + 1
        numbers = f"train loss 0.1000 acc 0.9000  val loss {loss:.4f} acc 0.9000"
        text += f"epoch {number:2d}/{of}  {numbers}{line.format(best=best)}\n"
    learner.job += 1
    learner.states[learner.job] = state
    (learner.folder / f"slurm.{learner.job}.out").write_text(text + end)


FALLING = [1.0, 0.5, 0.3, 0.2, 0.1]
RISING = [*FALLING, *(0.1 + k / 100 for k in range(1, 11))]


def test_overfitting_that_was_read_and_ended_passes(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.runs()
    train(learner, RISING)
    train(learner, [0.5], line="", state="FAILED")  # a later experiment

    done = challenge(learner, "overfitting")
    passes(done, "overfitting")
    judged, newer = done.stdout.splitlines()
    assert judged.endswith(" (slurm.12.out)")
    assert newer == "newer: slurm.13.out is FAILED"


def test_either_of_two_equal_losses_is_the_best(tmp_path):
    learner = Learner(tmp_path, 1)
    train(learner, [0.1, 0.1, *(0.2,) * 10])
    log = tmp_path / "slurm.11.out"
    first, *others = log.read_text().partition("epoch  2/")
    # the losses are rounded in the log, so that the second may have been lower
    log.write_text(first + "".join(others).replace("best epoch 1", "best epoch 2"))

    passes(challenge(learner, "overfitting", slurm=False), "overfitting")


@pytest.mark.parametrize(
    "line", [" best epoch: {best}", "  (Best epoch {best})", ", best epoch={best}"]
)
def test_the_best_epoch_may_have_a_colon_before_it(tmp_path, line):
    learner = Learner(tmp_path, 1)
    train(learner, RISING, line=line)

    passes(challenge(learner, "overfitting"), "overfitting")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"losses": [], "state": "RUNNING"}, ("no epoch line in slurm.11.out", "squeue --me")),
        ({"losses": RISING[:10], "of": 10}, ("10 epochs in slurm.11.out", "more than 10")),
        ({"losses": RISING, "line": ""}, ("the line of epoch 1 ", '"best epoch 1"')),
        ({"losses": RISING, "line": "  best epoch 1"}, ("the line of epoch 2 ", "loss was 0.5")),
        ({"losses": [float("nan")]}, ("the lowest is nan, in epoch 1 of 1",)),
        ({"losses": RISING[:9]}, ("0.1, in epoch 5 of 9 so far", "tail -f slurm.11.out")),
        ({"losses": RISING, "state": "RUNNING"}, ("job 11 is RUNNING", "scancel 11")),
        ({"losses": RISING, "state": "FAILED"}, ("job 11 is FAILED", "in state CANCELLED")),
        ({"losses": RISING, "end": "test loss 0.1 acc 0.9\n"}, ("job 11 has reached the test",)),
    ],
)
def test_overfitting_that_is_not_finished_says_what_is_missing(tmp_path, state, words):
    learner = Learner(tmp_path, 1)
    train(learner, **state)

    fails(challenge(learner, "overfitting"), *words)


def test_overfitting_begins_with_the_run_of_the_lesson(tmp_path):
    learner = Learner(tmp_path, 1)

    fails(challenge(learner, "overfitting"), "found:    no run", "raise max_epochs")
    learner.runs()
    fails(challenge(learner, "overfitting"), "FAIL after 0/4", "10 epochs in slurm.11.out")


def account(learner, queue="", **jobs):
    """Install a sacct that answers with these rows, whatever it is asked, and a squeue."""
    learner.install = lambda *_: None
    rows = "".join(f"echo '{row}'\n" for row in jobs.values())
    for name, text in (("squeue", f"echo '{queue}'"), ("sbatch", ""), ("sacct", rows)):
        (learner.bin / name).write_text(f"#!/bin/bash\n{text}")
        (learner.bin / name).chmod(0o755)


def test_a_job_that_requests_what_it_needs_passes(tmp_path):
    learner = Learner(tmp_path, 1)
    account(learner, old="11|COMPLETED|2G|15", new="12|COMPLETED|1000M|5")

    passes(challenge(learner, "request"), "request")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("12|COMPLETED|2G|5", ("job 12 requests 2G", "change --mem")),
        ("12|COMPLETED||5", ("job 12 requests no amount of memory", "change --mem")),
        ("12|COMPLETED|1Gn|15", ("FAIL after 1/3", "15 minutes", "change --time")),
        ("12|RUNNING|1G|5", ("FAIL after 2/3", "job 12 is RUNNING", "wait")),
        ("12|OUT_OF_MEMORY|0.5G|5", ("job 12 is OUT_OF_MEMORY", "COMPLETED", "slurm.12.out")),
    ],
)
def test_a_request_that_is_not_right_says_what_to_change(tmp_path, row, words):
    learner = Learner(tmp_path, 1)
    account(learner, old="11|COMPLETED|1G|5", new=row)

    fails(challenge(learner, "request"), *words)


def test_a_request_needs_a_job_of_that_name(tmp_path):
    learner = Learner(tmp_path, 1)

    fails(challenge(learner, "request", slurm=False), "no Slurm", "on a cluster")
    fails(challenge(learner, "request"), "sacct shows no job called digits")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED"])
@pytest.mark.parametrize("jobs", [{}, {"old": "11|COMPLETED|1G|5"}])
def test_a_job_that_only_the_queue_knows_is_waited_for(tmp_path, state, jobs):
    learner = Learner(tmp_path, 1)
    account(learner, queue=f"12|{state}", **jobs)

    fails(challenge(learner, "request"), f"found:    job 12 is {state}\n", "wait until squeue")


# --- lesson 2


def log_values(folder, **values):
    """Write values, one per epoch, to an event file of TensorBoard."""
    with SummaryWriter(str(folder)) as writer:
        for tag, numbers in values.items():
            for step, number in enumerate(numbers):
                writer.add_scalar(tag, number, step)


def newest(learner):
    *_, folder = sorted(learner.folder.glob("lightning_logs/version_*"), key=lambda p: p.name)
    return folder


@pytest.mark.parametrize("slurm", [True, False])
@pytest.mark.parametrize("values", [[0.001] * 5 + [0.0001] * 5, [0.00098, 0.00002]])
def test_a_learning_rate_that_falls_passes(tmp_path, values, slurm):
    learner = Learner(tmp_path, 2)
    learner.runs(job=slurm)
    log_values(newest(learner), learning_rate=values)

    passes(challenge(learner, "learning-rate", slurm=slurm), "learning-rate")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ("FAIL after 2/4", "no tag learning_rate", "self.log")),
        ([0.001], ("1 value of learning_rate", "every epoch")),
        ([0.001] * 10, ("0.001000 at first, 0.001000 at the end", "at most 0.0001")),
        ([0.001, 0.0002], ("0.000200 at the end", "at most 0.0001 at the end")),
        ([0.0001, 0.000001], ("0.000100 at first", "0.001 at first")),
        ([float("nan")] * 3, ("nan at first",)),
    ],
)
def test_a_learning_rate_that_does_not_fall_says_what_is_missing(tmp_path, values, words):
    learner = Learner(tmp_path, 2)
    learner.runs()
    log_values(newest(learner), learning_rate=values)

    fails(challenge(learner, "learning-rate"), *words)


@pytest.mark.parametrize("name", ["epoch=7-val_acc=0.9533", "best-0.953", "7_val_acc_0.95-v1"])
def test_a_checkpoint_with_its_accuracy_in_its_name_passes(tmp_path, name):
    learner = Learner(tmp_path, 2)
    learner.runs(job=False)
    [path] = newest(learner).glob("checkpoints/*")
    path.rename(path.with_name(f"{name}.ckpt"))
    log_values(newest(learner), val_acc=[0.8, 0.9533, 0.9467])
    for file in tmp_path.rglob("events.out.tfevents.*"):
        if b"train_loss" in file.read_bytes():
            file.unlink()

    passes(challenge(learner, "checkpoint-name", slurm=False), "checkpoint-name")
    path.with_name(f"{name}.ckpt").rename(path.with_name("epoch=7-val_acc=0.9467.ckpt"))
    fails(challenge(learner, "checkpoint-name"), "val_acc=0.9467 in", "0.9533, the highest")
    path.with_name("epoch=7-val_acc=0.9467.ckpt").rename(path.with_name("epoch=7-step=9.ckpt"))
    fails(challenge(learner, "checkpoint-name"), "FAIL after 2/3", "epoch=7-step=9 in", "filename")


# --- lesson 3


def measure(learner, seconds, **state):
    """Write a run for each number of workers, with the seconds of its epochs."""
    for number, values in seconds.items():
        learner.run("", {"num_workers": number}, (0.95, 0.97), **state)
        if values:
            log_values(newest(learner), epoch_seconds=values)


def says(learner, text):
    (learner.folder / "lightning_logs/best_workers.txt").write_text(text)


def test_measured_workers_pass_with_the_fastest_and_with_an_equal_number(tmp_path):
    learner = Learner(tmp_path, 3)
    measure(learner, {0: [0.9, 0.5, 0.7], 2: [0.51, 3.0, 2.0], 4: [1.0]})
    learner.states = {}

    for answer in ("0\n", "2"):
        says(learner, answer)
        passes(challenge(learner, "measure-workers"), "measure-workers")
    for answer in ("4", "two", "", "3"):
        says(learner, answer)
        fails(challenge(learner, "measure-workers"), "0.50 s with 0, 0.51 s with 2, 1.00 s with 4")


@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [
        ({2: []}, {}, ("FAIL after 0/", "no tag epoch_seconds", "on_train_epoch_start")),
        ({2: [0.5]}, {"ended": False, "state": "RUNNING"}, ("job 11 is RUNNING", "wait")),
        ({2: [0.5]}, {}, ("FAIL after 1/", "2 workers", "one with 0 workers")),
        ({2: [0.5], 0: []}, {}, ("FAIL after 1/", "2 workers", "one with 0 workers")),
        ({0: [0.5]}, {}, ("0 workers", "and one with more")),
        ({0: [0.5], 2: [0.9]}, {}, ("best_workers.txt is missing", "0.50 s with 0")),
    ],
)
def test_workers_that_are_half_measured_say_what_is_missing(tmp_path, seconds, state, words):
    learner = Learner(tmp_path, 3)
    measure(learner, seconds, **state)
    if not state:
        learner.states = {}

    fails(challenge(learner, "measure-workers"), *words)


def test_a_measurement_with_too_few_or_too_many_cpus_fails(tmp_path):
    learner = Learner(tmp_path, 3)
    measure(learner, {0: [0.5], 2: [0.9]})
    says(learner, "0")
    account(learner, first="11|3", second="12|3")

    fails(challenge(learner, "measure-workers"), "3 CPUs for 0 workers", "--cpus-per-task=1")
    account(learner, first="11|1", second="12|1")
    fails(challenge(learner, "measure-workers"), "1 CPU for 2 workers", "--cpus-per-task=3")


def test_a_wrong_measurement_does_not_count_beside_a_right_one(tmp_path):
    learner = Learner(tmp_path, 3)
    measure(learner, {0: [0.5], 2: [0.1]})
    measure(learner, {2: [0.9]})
    account(learner, first="11|1", wrong="12|1", right="13|3")

    says(learner, "2")
    fails(challenge(learner, "measure-workers"), "FAIL after 3/4", "0.50 s with 0, 0.90 s with 2")
    says(learner, "0")
    done = challenge(learner, "measure-workers")
    assert done.stdout == "PASS 4/4: challenge measure-workers\n"


# --- lesson 4


def test_a_run_is_found_by_its_job_id(tmp_path):
    learner = Learner(tmp_path, 4)
    name = "job-number"
    fails(challenge(learner, name), "no job of lesson 4")
    learner.run("job_number", {}, (0.95, 0.97))
    experiment = tmp_path / "logs/job_number"
    (experiment / "version_0/command.txt").write_text("python run.py\n")

    fails(challenge(learner, name), "FAIL after 0/3", "has 11 in its name, for version_0")
    (experiment / "job_111").symlink_to("version_0")
    fails(challenge(learner, name), "FAIL after 0/3", "logs/job_number/job_11")
    link = experiment / "job_11"
    link.symlink_to("logs/job_number/version_0")
    words = "job_11 points to logs/job_number/version_0, which does not exist from there"
    advice = "a link's target is relative to the link's folder: use version_0"
    fails(challenge(learner, name), "FAIL after 0/3", words, advice)
    link.unlink()
    (experiment / "job_11").mkdir()
    fails(challenge(learner, name), "job_11 has no command.txt and no DONE.json", "a link")
    (experiment / "job_11").rmdir()
    (experiment / "job_11").symlink_to("version_0")
    passes(challenge(learner, name), name)


def test_a_run_that_is_found_must_have_ended(tmp_path):
    learner = Learner(tmp_path, 4)
    learner.run("job_number", {}, (0.95, 0.97), ended=False, state="RUNNING")
    (tmp_path / "logs/job_number/job_11").symlink_to("version_0")

    fails(challenge(learner, "job-number"), "FAIL after 1/3", "job 11 is RUNNING")


def test_the_newest_run_that_is_found_is_waited_for(tmp_path):
    learner = Learner(tmp_path, 4)
    for number, state in enumerate(("COMPLETED", "RUNNING")):
        learner.run("job_number", {}, (0.95, 0.97), state=state)
        (tmp_path / f"logs/job_number/version_{number}/command.txt").write_text("python run.py\n")
        (tmp_path / f"logs/job_number/job_{learner.job}").symlink_to(f"version_{number}")

    fails(challenge(learner, "job-number"), "FAIL after 1/3", "job 12 is RUNNING")
    (tmp_path / "logs/job_number/job_12").unlink()
    done = challenge(learner, "job-number")
    passes(done, "job-number")
    assert done.stdout.endswith("newer: logs/job_number/version_1 is RUNNING\n")


def points(learner, *grid, **state):
    for rate, size, accuracy in grid:
        settings = {"learning_rate": rate, "batch_size": size}
        learner.run("grid", settings, (accuracy, accuracy), **state)


GRID = [(0.001, 64, 0.9), (0.003, 64, 0.91), (0.001, 32, 0.95), (0.003, 32, 0.93)]


def test_a_grid_with_its_best_run_passes(tmp_path):
    learner = Learner(tmp_path, 4)
    points(learner, (0.0001, 64, 0.5), *GRID, (0.003, 16, 0.95))
    best = tmp_path / "logs/grid/best.txt"

    fails(challenge(learner, "grid"), "FAIL after 2/3", "best.txt is missing")
    for answer in ("version_9", "grid", ""):
        best.write_text(answer)
        which = f"{answer!r}, which is not a finished run" if answer else "best.txt is missing"
        fails(challenge(learner, "grid"), which, "the highest validation accuracy")
    best.write_text("version_0")
    fails(challenge(learner, "grid"), "'version_0', with 0.5; another run reached more")
    for answer in ("version_3\n", "version_5", "logs/grid/version_5", "version_3/\n"):
        best.write_text(answer)
        passes(challenge(learner, "grid"), "grid")


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (GRID[:0], ("no run in logs/grid", "--nb_trials=4")),
        (GRID[:2], ("all 2 trials have batch size 64", "make --batch_size tunable")),
        (GRID[:3], ("0.001 with batch size 32; 0.001, 0.003 with batch size 64",)),
        (
            [(rate, 16, 0.9) for rate in (1, 2, 3, 4)],
            ("all 4 trials have batch size 16", "shorten"),
        ),
        ([(1, 64, 0.9), (1, 32, 0.9)], ("1 with batch size 32", "let both lists have two values")),
        ([GRID[0], GRID[3]], ("0.003 with batch size 32; 0.001 with batch size 64",)),
    ],
)
def test_a_part_of_a_grid_says_what_is_there(tmp_path, grid, words):
    learner = Learner(tmp_path, 4)
    points(learner, *grid)

    fails(challenge(learner, "grid"), *words)


def test_a_grid_that_still_runs_says_so(tmp_path):
    learner = Learner(tmp_path, 4)
    points(learner, *GRID[:3])
    points(learner, GRID[3], ended=False, empty=True, state="PENDING")

    fails(challenge(learner, "grid"), "wait for version_3", "slurm_err_logs")


def test_a_grid_outside_jobs_fails(tmp_path):
    learner = Learner(tmp_path, 4)
    points(learner, *GRID, job=False)

    fails(challenge(learner, "grid"), "version_0, version_1", "ran outside a job")


# --- the solutions


@pytest.fixture
def solve(module_clone):
    """Return a function that applies solutions in the shared clone, and one that checks them."""

    def apply(number, *names):
        module_clone.git("switch", "--quiet", BRANCHES[number])
        for name in names:
            fails(check(name), "found:    no ")
            module_clone.git("apply", f"docs/solutions/{number}-{name}.patch")

    def check(name):
        return module_clone.run(sys.executable, "check.py", "--challenge", name)

    yield apply, check
    module_clone.git("restore", ".")
    module_clone.git("clean", "-xdfq", "--exclude=data", ".")


def edit(clone, old, new):
    program = clone.folder / "src/main.py"
    assert old in program.read_text()
    program.write_text(program.read_text().replace(old, new))


@pytest.mark.slow
def test_the_solution_of_overfitting_is_ended_and_passes(solve, module_clone):
    apply, check = solve
    apply(1, "overfitting")
    log = module_clone.folder / "slurm.0.out"

    def has_turned():
        last = re.findall(r"epoch +(\d+)/.* best epoch (\d+)\n", log.read_text())[-1]
        return int(last[0]) >= int(last[1]) + 10

    with log.open("w") as file:
        training = subprocess.Popen(
            ["bash", "run.sh"],
            cwd=module_clone.folder,
            env=module_clone.env,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "epoch  9/" in log.read_text(), 120, "the ninth epoch")
        fails(check("overfitting"), "a validation loss that has not fallen for ten epochs")
        wait_until(has_turned, 120, "a validation loss that rises")
    finally:
        end_session(training)

    passes(check("overfitting"), "overfitting")


@pytest.mark.slow
def test_both_solutions_of_lesson_2_pass_after_one_run(solve, module_clone):
    apply, check = solve
    apply(2, "learning-rate", "checkpoint-name")
    done = module_clone.run("bash", "run.sh")

    assert done.returncode == 0, done.stderr
    passes(check("learning-rate"), "learning-rate")
    passes(check("checkpoint-name"), "checkpoint-name")


@pytest.mark.slow
def test_the_solution_of_lesson_3_measures_workers(solve, module_clone):
    apply, check = solve
    apply(3, "measure-workers")
    edit(module_clone, "max_epochs=10", "max_epochs=2")
    done = module_clone.run("bash", "run.sh", env={**module_clone.env, "NUM_WORKERS": "0"})
    assert done.returncode == 0, done.stderr
    fails(check("measure-workers"), "FAIL after 1/4", "epoch_seconds: 0 workers")
    # as if the second had taken the same time
    runs = module_clone.folder / "lightning_logs"
    shutil.copytree(runs / "version_0", runs / "version_1")
    settings = (runs / "version_1/hparams.yaml").read_text()
    text = settings.replace("num_workers: 0", "num_workers: 2")
    (runs / "version_1/hparams.yaml").write_text(text)

    says(module_clone, "2")
    passes(check("measure-workers"), "measure-workers")


@pytest.mark.slow
def test_the_solutions_of_lesson_4_link_the_run_and_submit_the_grid(solve, module_clone, tmp_path):
    apply, check = solve
    login_node = FakeLoginNode(module_clone, tmp_path)
    apply(4, "job-number")
    done = login_node.launch("--experiment_name=job_number")
    experiment = module_clone.folder / "logs/job_number"
    job = re.match(r"job (\d+) -> logs/job_number", done.stdout)[1]
    log = experiment / f"slurm_out_logs/version_0_{job}.out"
    log.write_text("test loss 0.1 acc 0.9\n")
    (experiment / "version_0/DONE.json").write_text(json.dumps({"test_acc": 0.9}))

    passes(check("job-number"), "job-number")
    apply(4, "grid")
    done = login_node.launch("--experiment_name=grid", "--nb_trials=4")
    commands = [path.read_text() for path in module_clone.folder.glob("logs/grid/*/command.txt")]
    found = {tuple(re.findall(r"--(?:batch_size|learning_rate)=(\S+)", text)) for text in commands}
    assert found == {(size, rate) for size in ("64", "32") for rate in ("0.001", "0.003")}
    fails(check("grid"), "wait for version_0, version_1, version_2, version_3")
    done = login_node.launch("--nb_trials=4", "--batch_size=32")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "run.py: --nb_trials takes its values from a list: remove --batch"
    )
