"""check.py on states that a learner may leave behind: make test-fast."""

import re

import pytest
from torch.utils.tensorboard import SummaryWriter

from learner import BRANCHES, LESSONS, RESNET, RUNS, TAGS, Learner, fails


@pytest.fixture(params=LESSONS)
def learner(request, tmp_path):
    return Learner(tmp_path, request.param)


def passes(done, newer=""):
    """Expect PASS with the names of the judged runs, and perhaps a line about a newer one."""
    assert done.returncode == 0, done.stdout + done.stderr
    pattern = r"PASS (\d+)/\1: lesson \d+ \((.+)\)\n"
    match = re.fullmatch(pattern + re.escape(newer and f"newer: {newer}\n"), done.stdout)
    assert match, done.stdout
    return match[2].split(", ")


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


def test_a_newer_run_that_failed_or_has_not_ended_is_named(learner):
    learner.runs()
    judged = passes(learner.check())

    for state in ("FAILED", "RUNNING", "PENDING"):
        learner.runs(0, epochs=0 if state == "PENDING" else 2, ended=False, state=state)
        assert passes(learner.check(), f"{learner.newest} is {state}") == judged
    learner.runs(0)
    passes(learner.check())


def test_a_newer_job_that_has_no_file_yet_is_named(tmp_path):
    for lesson in (1, 2, 3):
        learner = Learner(tmp_path / str(lesson), lesson)
        learner.runs()
        learner.states[99] = "PENDING"

        passes(learner.check(), "slurm.99.out is PENDING")


def test_a_newer_job_that_failed_before_it_had_a_folder_is_named(tmp_path):
    learner = Learner(tmp_path, 2)
    learner.runs()
    learner.states[99] = "FAILED"
    (tmp_path / "slurm.99.out").write_text("data/MNIST is missing\n")

    passes(learner.check(), "slurm.99.out is FAILED")


def test_a_newer_run_that_was_interrupted_without_slurm_is_named(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.runs()
    learner.states = {}
    (tmp_path / "slurm.0.out").write_text("data: MNIST, 4 files checked in data\n")

    passes(learner.check(), "slurm.0.out has not ended, or ended with an error")


def test_a_job_that_has_no_file_yet_is_waited_for(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.states[99] = "PENDING"

    fails(learner.check(), "found:    job 99 is PENDING\n", "wait until squeue --me")


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

    fails(learner.check(), "1 CPU for 2 workers", "--cpus-per-task=3")


def test_trials_with_the_same_learning_rate_fail(tmp_path):
    learner = Learner(tmp_path, 4)
    for experiment, settings, accuracy in RUNS[4]:
        learner.run(experiment, {**settings, "learning_rate": 0.001}, accuracy)

    fails(learner.check(), "1 learning rate among", "--nb_trials=3")


def test_lesson_6_needs_a_run_with_workers_and_its_profile(tmp_path):
    learner = Learner(tmp_path, 6)
    learner.runs(0)
    learner.runs(1)

    fails(learner.check(), "no run", "python run.py --num_workers=2 --experiment_name=workers")
    learner.runs(2)
    (tmp_path / "logs/workers/version_0/fit-profile.txt").unlink()
    fails(learner.check(), "FAIL after 9/10", "no profile in logs/workers/version_0")


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
