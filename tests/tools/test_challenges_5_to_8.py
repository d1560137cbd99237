"""check.py --challenge in lessons 5 to 10, on states of a learner: make test-fast."""

import json
import re
import shutil
import sqlite3

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from checks.challenges import CHALLENGES
from learner import Learner, challenge, fails

GOOD, POOR = (0.95, 0.97), (0.2, 0.3)
NOTE = "2026-11-26 09:00:00,000 INFO `Trainer.fit` stopped: `max_epochs=2` reached.\n"


def passes(done, name):
    pattern = rf"PASS (\d+)/\1: challenge {name} \(.+\)\n"
    assert re.fullmatch(pattern, done.stdout), done.stdout + done.stderr
    assert done.returncode == 0


def run(tmp_path, lesson, experiment, settings=(), accuracy=GOOD, **state):
    """Return a learner with one run, and the folder of that run."""
    learner = Learner(tmp_path, lesson)
    return learner, add_run(learner, experiment, settings, accuracy, **state)


def add_run(learner, experiment, settings=(), accuracy=GOOD, steps=220, **state):
    learner.run(experiment, dict(settings), accuracy, epochs=2, of=2, **state)
    folder = max(
        learner.folder.glob(f"logs/{experiment}/version_*"),
        key=lambda path: path.stat().st_mtime_ns,
    )
    if (folder / "DONE.json").is_file():
        done = json.loads((folder / "DONE.json").read_text())
        (folder / "DONE.json").write_text(json.dumps({**done, "steps": steps}))
    return folder


def add_settings(folder, text):
    with (folder / "hparams.yaml").open("a") as file:
        file.write(text)


def write_scalars(folder, **curves):
    for path in folder.glob("events.*"):
        path.unlink()
    with SummaryWriter(str(folder)) as writer:
        for tag, values in curves.items():
            for step, value in enumerate(values):
                writer.add_scalar(tag, value, step)


@pytest.mark.parametrize("lesson", [5, 6, 7, 8, 9, 10])
def test_a_challenge_that_was_not_begun_says_how_to_begin(tmp_path, lesson):
    learner = Learner(tmp_path, lesson)
    learner.runs()

    for name in CHALLENGES[lesson]:
        how = "python run.py --" if lesson < 10 else "python run.py experiment="
        fails(challenge(learner, name), "FAIL after 0:", "no run", how)


# --- lesson 5


def add_log(folder, out="", err=""):
    for stream, text in (("out", out), ("err", err)):
        [path] = folder.parent.glob(f"slurm_{stream}_logs/{folder.name}_*")
        path.write_text(path.read_text() + text)


def test_notes_in_the_log_pass(tmp_path):
    learner, folder = run(tmp_path, 5, "console")
    add_log(folder, out=NOTE)

    passes(challenge(learner, "console"), "console")


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("", "", ("is in neither log file", "lower their level")),
        (
            "",
            "`Trainer.fit` stopped\n",
            ('stopped" is in logs/console/slurm_err_logs/version_0_11.err',),
        ),
        ("`Trainer.fit` stopped\n", "", ("the line `Trainer.fit` stopped", "<time> INFO")),
        (
            NOTE,
            "GPU available: False\n",
            ("1 line in logs/console/slurm_err_logs/", "the first is"),
        ),
    ],
)
def test_notes_elsewhere_fail(tmp_path, out, err, words):
    learner, folder = run(tmp_path, 5, "console")
    add_log(folder, out, err)

    fails(challenge(learner, "console"), *words)


def test_a_run_without_a_log_file_fails(tmp_path):
    learner, _ = run(tmp_path, 5, "console", job=False)

    fails(challenge(learner, "console", slurm=False), "was not a job", "cluster/practice up")


CURVES = {tag: [0.5, 0.25] for tag in ("train_loss", "train_acc", "val_loss", "val_acc")}


def write_mlflow(folder, curves, name="mlflow", settings=True):
    """Write a database with the tables of MLflow's that the check reads."""
    with sqlite3.connect(folder.parents[1] / "mlflow.db") as database:
        database.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER, name TEXT);"
            "CREATE TABLE runs (run_uuid TEXT, name TEXT, experiment_id INTEGER);"
            "CREATE TABLE metrics (key TEXT, value REAL, step INTEGER, run_uuid TEXT);"
            "CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);"
            "INSERT INTO runs VALUES ('abc', 'version_0', 1);"
        )
        database.execute("INSERT INTO experiments VALUES (1, ?)", (name,))
        rows = [(key, v, k, "abc") for key, values in curves.items() for k, v in enumerate(values)]
        database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?)", rows)
        if settings:
            database.execute("INSERT INTO params VALUES ('learning_rate', '0.001', 'abc')")


def test_the_same_curves_in_both_dashboards_pass(tmp_path):
    learner, folder = run(tmp_path, 5, "mlflow")
    write_scalars(folder, **CURVES)
    write_mlflow(folder, CURVES)

    passes(challenge(learner, "mlflow"), "mlflow")


@pytest.mark.parametrize(
    ("curves", "state", "words"),
    [
        (CURVES, {"name": "other"}, ("no metrics of an experiment mlflow", "list of both")),
        ({**CURVES, "val_acc": [0.5, 0.3]}, {}, ("no run in MLflow has the curves",)),
        ({**CURVES, "val_acc": [0.5]}, {}, ("no run in MLflow has the curves",)),
        (CURVES, {"settings": False}, ("no learning_rate in mlflow.db", "save_hyperparameters")),
    ],
)
def test_other_curves_in_mlflow_fail(tmp_path, curves, state, words):
    learner, folder = run(tmp_path, 5, "mlflow")
    write_scalars(folder, **CURVES)
    write_mlflow(folder, curves, **state)

    fails(challenge(learner, "mlflow"), *words)


def test_mlflow_without_tensorboard_or_without_a_database_fails(tmp_path):
    learner, folder = run(tmp_path, 5, "mlflow")

    fails(challenge(learner, "mlflow"), "no mlflow.db in logs", "sqlite:///{hparams.log_path}")
    (folder.parents[1] / "mlflow.db").write_text("no database")
    fails(challenge(learner, "mlflow"), "mlflow.db: ", "delete it")
    (folder.parents[1] / "mlflow.db").unlink()
    write_mlflow(folder, CURVES)
    write_scalars(folder, val_acc=[0.5])
    fails(challenge(learner, "mlflow"), "no curves for TensorBoard", "keep TensorBoardLogger")


PROBABILITIES = torch.tensor([0.05, 0.15, 0.35, 0.55, 0.95, 0.25, 0.45, 0.65, 0.75, 0.85])
IS_FOUR = torch.tensor([False] * 3 + [True] * 2 + [False] * 2 + [True] * 3)


def write_curve(folder, tag, is_class, probabilities):
    with SummaryWriter(str(folder)) as writer:
        writer.add_pr_curve(tag, is_class, probabilities.flip(0), 1)  # of an earlier epoch
        writer.add_pr_curve(tag, is_class, probabilities, 2)


def write_table(
    folder, thresholds=range(1, 10), change=lambda row: row, probabilities=PROBABILITIES
):
    lines = ["threshold,tp,fp,fn,precision,recall"]
    for threshold in thresholds:
        called = probabilities >= threshold / 10
        tp, fp = int((called & IS_FOUR).sum()), int((called & ~IS_FOUR).sum())
        row = [threshold / 10, tp, fp, 5 - tp, tp / max(tp + fp, 1), tp / 5]
        lines.append(",".join(map(str, change(row))))
    (folder / "pr_curve.csv").write_text("\n".join(lines) + "\n")


def test_a_correct_table_passes(tmp_path):
    learner, folder = run(tmp_path, 5, "curve")
    write_curve(folder, "pr_curve/4 - four", IS_FOUR, PROBABILITIES)
    write_table(folder)

    passes(challenge(learner, "pr-curve"), "pr-curve")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"thresholds": [5]}, ("thresholds [0.5]", "0.1, 0.2")),
        ({"change": lambda row: ["x", *row[1:]]}, ("could not convert", "numbers")),
        ({"change": lambda row: [*row[:4], row[5], row[5]]}, ("precision 1.0 at threshold 0.1",)),
        # the classes that were predicted, instead of the probabilities
        ({"probabilities": (PROBABILITIES > 0.5).float()}, ("fp 0 at threshold 0.1", "4, as in")),
    ],
)
def test_a_wrong_table_fails(tmp_path, table, words):
    learner, folder = run(tmp_path, 5, "curve")
    fails(challenge(learner, "pr-curve"), "no pr_curve.csv in logs/curve/version_0")
    write_curve(folder, "pr_curve/4 - four", IS_FOUR, PROBABILITIES)
    write_table(folder, **table)

    fails(challenge(learner, "pr-curve"), *words)


# --- lesson 6


def test_images_that_are_those_of_mnist_are_not_upside_down(tmp_path):
    learner, folder = run(tmp_path, 6, "upside_down", {"dataset": "upside_down"})
    mnist = add_run(learner, "mnist", {"dataset": "mnist"})
    for place, loss in ((folder, 0.1), (mnist, 0.2)):
        (place / "DONE.json").write_text(json.dumps({"steps": 220, "test_loss": loss}))

    passes(challenge(learner, "upside-down"), "upside-down")
    shutil.copy(mnist / "DONE.json", folder)
    fails(challenge(learner, "upside-down"), "test loss 0.2000, exactly as", "turn them in read")


def plain(tmp_path, validation=300, steps=38, mean=0.5, accuracy=0.9):
    settings = {"dataset": "plain", "batch_size": 64}
    learner, folder = run(tmp_path, 6, "plain", settings, POOR, steps=steps)
    numbers = f"mean:\n{f'- {mean}{chr(10)}' * 3}std:\n{'- 0.25' + chr(10)}" + "- 0.25\n" * 2
    add_settings(folder, numbers)
    write_scalars(folder, train_acc=[0.1, accuracy])
    is_cat = torch.arange(validation) % 10 == 3
    write_curve(folder, "pr_curve/cat", is_cat, torch.rand(validation))
    return learner


def test_a_data_set_with_the_four_choices_passes(tmp_path):
    passes(challenge(plain(tmp_path), "four-choices"), "four-choices")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"validation": 150, "steps": 44}, ("150 for validation, at most 1408", "val_split")),
        ({"mean": 0.4914}, ("0.4914", "one number per colour channel")),
        ({"accuracy": 0.36}, ("training accuracy 0.3600", "switch off shift and mirror")),
    ],
)
def test_a_data_set_with_other_choices_fails(tmp_path, state, words):
    fails(challenge(plain(tmp_path, **state), "four-choices"), *words)


def test_files_that_were_not_checked_fail(tmp_path):
    learner = plain(tmp_path)
    [log] = tmp_path.glob("logs/plain/slurm_out_logs/*")
    log.write_text(log.read_text().replace("4 files checked in", "sample in"))

    fails(challenge(learner, "four-choices"), "no line on the files", "leave prepare_data")


# --- lesson 7


def write_weights(folder, *epochs, name="weights/network.0.weight"):
    with SummaryWriter(str(folder)) as writer:
        for epoch, weights in enumerate(epochs):
            writer.add_histogram(name, weights, epoch, bins=64)


def small_network(tmp_path, loss=0.1, size=9_999, accuracy=GOOD):
    learner, folder = run(tmp_path, 7, "overfit", {"arch": "tiny"}, POOR)
    add_settings(folder, "debugging:\n  overfit_batches: 2\n")
    write_scalars(folder, train_loss=[2.0, loss])
    folder = add_run(learner, "small", {"arch": "tiny"}, accuracy)
    for layer in range(10):
        write_weights(folder, torch.ones(5), torch.rand(size), name=f"weights/network.{layer}")
    return learner


def test_a_small_network_passes(tmp_path):
    passes(challenge(small_network(tmp_path), "small-network"), "small-network")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"loss": 0.3}, ("training loss 0.3000 after 2 epochs", "look for a mistake")),
        ({"loss": float("nan")}, ("training loss nan",)),
        ({"size": 10_000}, ("100,000 parameters in logs/small/version_0", "fewer channels")),
        ({"accuracy": POOR}, ("test accuracy 0.2", "at least 0.5 on the sample")),
    ],
)
def test_a_network_that_is_large_or_learns_little_fails(tmp_path, state, words):
    fails(challenge(small_network(tmp_path, **state), "small-network"), *words)


def test_a_network_of_the_lesson_is_not_an_own_one(tmp_path):
    learner, folder = run(tmp_path, 7, "overfit", {"arch": "resnet18"})
    add_settings(folder, "debugging:\n  overfit_batches: 2\n")

    fails(challenge(learner, "small-network"), "no run", "--overfit_batches=2")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("same", "other", ()),
        ("other", "other", ("conv1.weight changes", "requires_grad")),
        ("same", "same", ("fc.weight does not change", "leave requires_grad")),
    ],
)
def test_pretrained_layers_stay_and_the_last_one_learns(tmp_path, first, last, words):
    learner, folder = run(tmp_path, 7, "last_layer", {"weights": "DEFAULT"}, POOR)
    weights = {"same": [torch.ones(9)] * 2, "other": [torch.ones(9), torch.rand(9)]}
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        write_weights(folder, *weights[first], name=f"weights/network.{name}")
    write_weights(folder, *weights[last], name="weights/network.fc.weight")

    if words:
        fails(challenge(learner, "last-layer"), *words)
    else:
        passes(challenge(learner, "last-layer"), "last-layer")


# --- lesson 8


def accumulate(tmp_path, batch_size=32, steps=42, loss=0.5, nodes=2):
    settings = {"dataset": "mnist", "arch": "fully_connected", "devices": 2}
    four = {**settings, "batch_size": 64, "num_nodes": nodes}
    learner, folder = run(tmp_path, 8, "accumulate", four, steps=42)
    write_scalars(folder, **CURVES)
    folder = add_run(learner, "accumulate", {**settings, "batch_size": batch_size}, steps=steps)
    write_scalars(folder, **{**CURVES, "val_loss": [0.5, loss]})
    return learner


def test_two_processes_that_train_like_four_pass(tmp_path):
    passes(challenge(accumulate(tmp_path, loss=0.251), "accumulate"), "accumulate")


def test_a_job_that_waits_is_known_by_its_command(tmp_path):
    learner, folder = run(tmp_path, 8, "accumulate", ended=False, state="PENDING")
    (folder / "hparams.yaml").unlink()
    words = "--experiment_name=accumulate --dataset=mnist --arch=fully_connected"
    (folder / "command.txt").write_text(f"python run.py {words} --num_nodes=2 --devices=2\n")

    fails(challenge(learner, "accumulate"), "is PENDING", "squeue --me")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"nodes": 1}, ("no run", "--num_nodes=2 --devices=2 --dataset=mnist")),
        ({"batch_size": 64}, ("32 images per process", "16 in", "--batch_size=32")),
        (
            {"steps": 84},
            ("84 steps in logs/accumulate/version_1, 42 in", "accumulate_grad_batches"),
        ),
        ({"loss": 0.5}, ("val_loss 0.5000", "the same loss")),
    ],
)
def test_two_processes_that_train_in_another_way_fail(tmp_path, state, words):
    fails(challenge(accumulate(tmp_path, **state), "accumulate"), *words)


def hang(tmp_path, waiting=(0, 1, 3), answer="2\n", **state):
    lines = [f"process {k}: another process ended or did not answer in time: ..." for k in waiting]
    says = "\n".join([*lines, "process 2: ended by SIGTERM: scancel, the time limit, or ..."])
    state = {"ended": False, "state": "FAILED", "says": f"{says}\n", **state}
    learner, folder = run(tmp_path, 8, "hang", {"num_nodes": 2, "devices": 2}, **state)
    if answer:
        (folder.parent / "stuck.txt").write_text(answer)
    return learner


def test_the_stuck_process_is_the_one_that_did_not_wait(tmp_path):
    passes(challenge(hang(tmp_path), "hang"), "hang")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"state": "RUNNING"}, ("job 11 is RUNNING", "--timeout_min")),
        ({"waiting": ()}, ("no process of logs/hang/version_0 has given up", "8-hang.patch")),
        (
            {"answer": ""},
            ("no logs/hang/stuck.txt", "read logs/hang/slurm_err_logs/version_0_11.err"),
        ),
        ({"answer": "1"}, ("'1' in logs/hang/stuck.txt", "that did not wait")),
        ({"answer": "4"}, ("'4' in logs/hang/stuck.txt",)),
    ],
)
def test_another_answer_fails(tmp_path, state, words):
    fails(challenge(hang(tmp_path, **state), "hang"), *words)


# --- lesson 9


def kept(tmp_path, *epochs, attempts=2):
    """Return a learner whose run of eight epochs has kept checkpoints, and their folder."""
    learner = Learner(tmp_path, 9)
    settings = {"dataset": "mnist", "arch": "fully_connected"}
    learner.run("keep", settings, GOOD, epochs=8, of=8, attempts=attempts)
    folder = tmp_path / "logs/keep/version_0/checkpoints"
    for epoch in epochs:
        shutil.copy(folder / "last.ckpt", folder / f"epoch={epoch}.ckpt")
    return learner, folder


def test_the_checkpoints_of_every_second_epoch_pass(tmp_path):
    learner, _ = kept(tmp_path, 1, 3, 5, 7)

    passes(challenge(learner, "keep"), "keep")


@pytest.mark.parametrize(("epochs", "found"), [([], 0), ([5, 7], 2), (range(8), 8), ([7], 1)])
def test_other_numbers_of_checkpoints_fail(tmp_path, epochs, found):
    learner, _ = kept(tmp_path, *epochs)

    fails(challenge(learner, "keep"), f"{found} checkpoint", "expected: 4, of 8 epochs")


def test_a_damaged_checkpoint_that_was_kept_fails(tmp_path):
    learner, folder = kept(tmp_path, 1, 3, 5, 7)
    (folder / "epoch=3.ckpt").write_bytes(b"damaged")

    fails(challenge(learner, "keep"), "epoch=3.ckpt is damaged")


def test_checkpoints_of_a_run_in_one_piece_fail(tmp_path):
    learner, _ = kept(tmp_path, 1, 3, 5, 7, attempts=1)

    command = "python run.py --resume logs/keep/version_0 --max_epochs=16"
    fails(challenge(learner, "keep"), "1 line in logs/keep/version_0/attempts.jsonl", command)


# --- lesson 10

ROTATED = {
    "stage": ["fit", "test"],
    "data.transform": [{"_target_": "torchvision.transforms.v2.RandomAffine", "degrees": 15}],
    "optimizer.weight_decay": 5e-4,
    "schedule._target_": "torch.optim.lr_scheduler.OneCycleLR",
}


@pytest.mark.parametrize("job", [True, False])
@pytest.mark.parametrize(
    "more", [{}, {"data.transform": [{"_target_": "torchvision.transforms.v2.RandomRotation"}]}]
)
def test_a_run_with_augmentation_and_its_schedule_passes(tmp_path, job, more):
    learner, _ = run(tmp_path, 10, "rotated", {**ROTATED, **more}, job=job)

    passes(challenge(learner, "augmentation", slurm=job), "augmentation")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data.transform": None}, ("data.transform._target_: null", "transform in the section")),
        ({"data.transform": []}, ("data.transform._target_: null",)),
        (
            {"data.transform": [{"_target_": "src.callbacks.epoch_time.EpochTime"}]},
            ("data.transform._target_: src.callbacks", "a class of torchvision.transforms.v2"),
        ),
        ({"schedule._target_": None}, ("schedule._target_: null",)),
        (
            {"schedule._target_": "torch.optim.lr_scheduler.CosineAnnealingLR"},
            ("CosineAnnealingLR in logs/rotated", "one_cycle to the defaults list"),
        ),
        ({"optimizer.weight_decay": 0.0}, ("optimizer.weight_decay: 0.0",)),
        ({"optimizer.weight_decay": None}, ("optimizer.weight_decay: null",)),
        ({"stage": ["test"]}, ("no run",)),
    ],
)
def test_a_run_with_other_settings_fails(tmp_path, settings, words):
    learner, _ = run(tmp_path, 10, "rotated", {**ROTATED, **settings})

    fails(challenge(learner, "augmentation"), *words)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"accuracy": POOR}, ("test accuracy 0.2", "at least 0.8")),
        ({"ended": False, "state": "RUNNING"}, ("is RUNNING", "wait until squeue")),
        ({"ended": False, "state": "FAILED", "says": "no space\n"}, ("FAILED", "no space")),
    ],
)
def test_a_rotated_run_that_has_not_learned_or_not_ended_fails(tmp_path, state, words):
    learner, _ = run(tmp_path, 10, "rotated", ROTATED, **state)

    fails(challenge(learner, "augmentation"), *words)
