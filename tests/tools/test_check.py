"""check.py on states that a learner may leave behind: make test-fast."""

import re
import shutil

import pytest
import yaml
from torch.utils.tensorboard import SummaryWriter

from checks.runs import read_config
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


def test_slurm_is_not_asked_about_a_run_that_was_not_a_job(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.job = -1
    learner.runs()
    learner.states = {0: "FAILED"}  # as sacct shows other jobs for the id 0

    passes(learner.check())


def test_a_newer_run_that_was_interrupted_without_slurm_is_named(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.runs()
    learner.states = {}
    (tmp_path / "slurm.0.out").write_text("data: MNIST, 4 files checked in data\n")

    passes(learner.check(), "slurm.0.out has not ended, or ended with an error")


def test_a_job_that_has_no_file_yet_is_waited_for(tmp_path):
    learner = Learner(tmp_path, 1)
    learner.states[99] = "PENDING"

    fails(learner.check(), "found:    job 99 is PENDING (slurm.99.out)\n", "wait until squeue --me")


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


@pytest.mark.parametrize("lesson", [6, 7, 8])
def test_a_run_that_the_page_asks_for_is_judged_before_other_experiments(tmp_path, lesson):
    learner = Learner(tmp_path, lesson)
    learner.runs()
    shutil.rmtree(tmp_path / learner.newest)
    experiment, settings, accuracy = RUNS[lesson][-1]
    learner.run(experiment, settings, accuracy, epochs=4, ended=False, state="RUNNING")
    running, job = learner.newest, learner.job
    learner.run("try", settings, accuracy, epochs=2, of=2)

    fails(learner.check(), f"job {job} is RUNNING ({running}), epoch 4 of 10", "squeue --me")

    # a run that passes counts, in whichever experiment it is
    learner.run("try", settings, accuracy)
    passes(learner.check())


def test_a_run_that_fails_a_check_is_named_with_its_experiment_and_newer_runs(learner):
    experiment = RUNS[learner.lesson][0][0]
    judged = f"logs/{experiment}/slurm_out_logs/version_0_11.out" if experiment else "slurm.11.out"
    if learner.lesson == 9:  # any number of epochs will do, but not a single attempt
        learner.runs(attempts=1)
        found = f"1 line in logs/{experiment}/version_0/attempts.jsonl"
    elif learner.lesson == 10:  # as many epochs as the learner's file says
        learner.runs(epochs=2, of=5)
        found = "2 epochs in logs/mine/version_2"
    else:
        learner.runs(epochs=2, of=2)
        found = f"2 epoch lines in {judged}"
    learner.runs(0, epochs=1, ended=False, state="RUNNING")

    fails(learner.check(), f"found:    {found}\n", f"newer: {learner.newest} is RUNNING\n")


def test_a_lesson_that_was_not_begun_fails(learner):
    fails(learner.check(), "found:    no run")


def test_runs_of_other_lessons_do_not_count(learner):
    other = 2 if learner.lesson != 2 else 3
    other = 5 if learner.lesson in (4, 6, 7, 8, 9, 10) else 4 if learner.lesson == 5 else other
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


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "SIGNALING"])
def test_a_job_that_has_not_ended_is_not_judged_yet(learner, state):
    learner.runs(epochs=0 if state == "PENDING" else 4, ended=False, state=state)

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


# in lessons 9 and 10, the learner chooses their number
@pytest.mark.parametrize("learner", [n for n in LESSONS if n < 9], indirect=True)
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


# --- lesson 9: a run that was interrupted


@pytest.fixture
def interrupted(tmp_path):
    """A learner with a finished run of lesson 9, and the folder of that run."""
    learner = Learner(tmp_path, 9)
    learner.runs()
    return learner, tmp_path / "logs/interrupted/version_0"


def test_a_run_that_was_never_interrupted_is_not_lesson_9(tmp_path):
    learner = Learner(tmp_path, 9)
    learner.runs(attempts=1)

    fails(learner.check(), "1 line in logs/interrupted/version_0/attempts.jsonl", "USR1", "Ctrl-C")


def test_an_attempt_that_begins_again_is_not_lesson_9(interrupted):
    learner, folder = interrupted
    file = folder / "attempts.jsonl"
    file.write_text(re.sub(r'"from_step": \d+', '"from_step": 0', file.read_text()))

    fails(learner.check(), "every attempt begins at step 0")


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([22, 44, 66, 110, 132, 154, 176, 198, 220], "9 points of val_loss"),
        ([22, 44, 66, 77, 88, 110, 132, 154, 176, 198], "11 or 22 steps between them"),
        ([], "0 points of val_loss"),
    ],
)
def test_a_curve_with_a_gap_is_not_lesson_9(interrupted, steps, found):
    learner, folder = interrupted
    learner.draw(folder, steps)

    fails(learner.check(), found, "10 points at equal distances")


def test_an_attempt_after_a_killed_one_repeats_steps(interrupted):
    learner, folder = interrupted
    with SummaryWriter(str(folder), filename_suffix=".later") as writer:
        for step in (110, 132):
            writer.add_scalar("val_loss", 1, step)

    passes(learner.check())


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_without_its_last_checkpoint_a_run_cannot_continue(interrupted, damage):
    learner, folder = interrupted
    path = folder / "checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:20]) if damage == "cut" else path.unlink()

    fails(learner.check(), "last.ckpt is damaged" if damage == "cut" else "no checkpoint last.ckpt")


def test_a_requeued_job_that_waits_is_not_judged_yet(tmp_path):
    learner = Learner(tmp_path, 9)
    learner.runs(epochs=3, ended=False, state="PENDING")

    fails(
        learner.check(),
        f"job {learner.job} is PENDING (logs/interrupted/version_0), epoch 3 of 10",
        "wait until squeue",
    )


def test_a_run_of_a_job_that_ended_without_slurm_passes(interrupted):
    learner, folder = interrupted
    log, file = folder / "job.out", folder / "attempts.jsonl"
    log.write_text(log.read_text().partition("test loss")[0])  # its end is in another terminal
    lines = file.read_text().splitlines()
    lines[-1] = lines[-1].replace(f'"{learner.job}"', "null")
    file.write_text("\n".join(lines))
    learner.states[learner.job] = "CANCELLED"

    passes(learner.check())


def test_a_run_with_more_epochs_than_at_first_passes(interrupted):
    learner, folder = interrupted
    settings = folder / "hparams.yaml"
    settings.write_text(settings.read_text().replace("max_epochs: 10", "max_epochs: 4"))

    passes(learner.check())


def test_the_layout_of_lesson_8_is_not_that_of_lesson_9(interrupted):
    learner, folder = interrupted
    (folder / "code/src/callbacks/interruption.py").unlink()

    fails(learner.check(), "only runs of lesson 8", "--experiment_name=interrupted")


def test_a_job_of_lesson_9_that_failed_at_once_is_shown(tmp_path):
    learner = Learner(tmp_path, 9)
    says = "slurmstepd-node1: error: *** JOB 11 ON node1 CANCELLED\nNo Python environment at env\n"
    learner.runs(epochs=0, ended=False, empty=True, state="FAILED", says=says)

    fails(learner.check(), "FAILED", "No Python environment at env")


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


# --- lesson 10: runs whose settings come from a file


@pytest.fixture
def configured(tmp_path):
    """A learner with the runs of lesson 10, and the folder of experiments."""
    learner = Learner(tmp_path, 10)
    learner.runs()
    return learner, tmp_path / "logs"


def replace(folder, pattern, old, new):
    """Edit a file of some runs."""
    files = sorted(folder.glob(pattern))
    assert files
    for file in files:
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("config.yaml", "max_epochs: 10", "max_epochs: 20", "10 epochs in logs/mine/version_2"),
        ("config.yaml", "  max_epochs: 10", "", "no trainer.max_epochs in logs/mine/version_2"),
        ("command.txt", " experiment=mine", "", "no experiment=... in logs/mine/version_2"),
        (
            "command.txt",
            "experiment=mine",
            "experiment=mnist_fully_connected",
            "experiment=mnist_fully_connected in logs/mine/version_2/command.txt",
        ),
        (
            "config.yaml",
            "_target_: torch.optim.lr_scheduler.CosineAnnealingLR",
            "_target_: null",
            "schedule._target_: null in logs/mine/version_2/config.yaml",
        ),
        ("config.yaml", "weight_decay: 0.01", "weight_decay: 0.0", "optimizer.weight_decay: 0.0"),
        ("config.yaml", "experiment_name: mine", "experiment_name: my", "expected: a run of"),
    ],
)
def test_a_run_with_other_settings_is_not_lesson_10(configured, file, old, new, found):
    learner, logs = configured
    replace(logs / "mine", f"version_[012]/{file}", old, new)

    fails(learner.check(), found)


@pytest.mark.parametrize(
    ("old", "new"), [("seed: 1\n", "seed: 1234\n"), ("batch_size: 64", "batch_size: 32")]
)
def test_seeds_are_compared_with_equal_settings(configured, old, new):
    learner, logs = configured
    shutil.rmtree(logs / "mine/version_2")
    replace(logs / "mine", "version_1/config.yaml", old, new)

    fails(learner.check(), "FAIL after 6/9", "1 seed among the finished runs", "seed=1,2")


def test_seeds_in_folders_named_after_them_count_on_other_nodes_too(configured):
    learner, logs = configured
    for seed in (1, 2):
        (logs / f"mine/version_{seed}").rename(logs / f"mine/version_{seed}-seed_{seed}")
    shutil.rmtree(logs / "mine/version_1-seed_1")
    replace(logs / "mine", "version_2-seed_2/config.yaml", "size: 64", "size: 64\n  num_workers: 2")

    passes(learner.check())


def test_without_a_network_of_a_library_lesson_10_is_not_done(configured):
    learner, logs = configured
    (logs / "mobilenet/version_0/DONE.json").unlink()
    fails(learner.check(), "FAIL after 7/9", "logs/mobilenet/version_0")

    shutil.rmtree(logs / "mobilenet")
    fails(learner.check(), "FAIL after 7/9", "network=torchvision.models.mobilenet_v3_small")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "no predict.csv in any run"),
        ("", "no row in logs/mine/version_3/predict.csv"),
        ("file,prediction,0\n", "no row in logs/mine/version_3/predict.csv"),
        ("prediction,0\none,0.5\n", "has no column file, or empty cells"),
        ("file,prediction,0\n1.png,,0.5\n", "has no column file, or empty cells"),
        ("file,prediction,0\n1.png,one\n", "has no column file, or empty cells"),
    ],
)
def test_without_predictions_lesson_10_is_not_done(configured, text, found):
    learner, logs = configured
    file = logs / "mine/version_3/predict.csv"
    file.unlink() if text is None else file.write_text(text)

    fails(learner.check(), "FAIL after 8/9", found)


def test_lesson_10_passes_without_slurm(tmp_path):
    learner = Learner(tmp_path, 10)
    learner.runs(job=False)

    passes(learner.check(slurm=False))


def test_a_cancelled_run_with_another_seed_is_only_mentioned(configured):
    learner, _ = configured
    experiment, settings, accuracy = RUNS[10][0]
    learner.run(experiment, settings, accuracy, epochs=2, ended=False, state="CANCELLED")

    done = learner.check()

    assert done.stdout.startswith("PASS 9/9: lesson 10 (logs/mine/version_2)\n")
    assert done.stdout.endswith(f"newer: {learner.newest} is CANCELLED\n")


def test_values_in_a_config_are_found_at_any_depth(tmp_path):
    values = {
        "stage": ["fit", "test"],
        "data": {"transform": [{"_target_": "a.B", "translate": [0.1, 0.2]}], "fold": 0},
        "seed": 1,
        "trusted": [],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    assert read_config(tmp_path / "config.yaml") == {
        "stage": "fit,test",
        "data.transform._target_": "a.B",
        "data.transform.translate": "0.1,0.2",
        "data.fold": "0",
        "seed": "1",
        "trusted": "[]",
    }
