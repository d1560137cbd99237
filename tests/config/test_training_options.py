"""Clipping, deterministic algorithms, and what the run folder shows: make test-fast."""

import csv
import os

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from site_checks import node
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from small_training import BATCHES, EPOCHS, SGD, SmallRegression, train, train_with_cuts
from src.models.lightning_regressor import Regressor
from src.utils import distributed, targets

LR = 0.5
REGRESSOR = {
    "kind": Regressor,
    "targets": list(SmallRegression.targets),
    "loss": {"_target_": "torch.nn.MSELoss"},
}


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})


def largest_step(run):
    """Return the largest change of the first layer in one step, as a norm."""
    return max(
        (after - before).norm().item()
        for before, after in zip(run.trace.weights, run.trace.weights[1:], strict=False)
    )


def test_clipped_gradients_bound_the_steps_also_after_interruptions(tmp_path, caplog):
    model = {"optimizer": {**SGD, "lr": LR}}
    clipped = {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "norm"}

    run = train_with_cuts(tmp_path, caplog, model=model, **clipped)

    assert largest_step(run) < LR * 0.1
    assert largest_step(train(tmp_path / "free", caplog, model=model)) > LR * 0.1
    # a fused optimizer unscales the gradients itself, too late for clipping
    assert run.trainer.optimizers[0].defaults["fused"] is None


def test_deterministic_algorithms_give_the_same_steps(tmp_path, caplog):
    plain = train(tmp_path / "plain", caplog)

    try:
        run = train_with_cuts(tmp_path, caplog, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)

    assert run.results() == plain.results()


def with_pictures(class_names):
    return {
        name: {"_target_": f"src.callbacks.{path}", "class_names": class_names}
        for name, path in {
            "predictions": "predictions.SavePredictions",
            "plots": "tensorboard.TensorBoardPlots",
        }.items()
    }


def test_the_run_folder_shows_a_regression(tmp_path, caplog):
    logger = TensorBoardLogger(tmp_path, name="", version="run")

    run = train(
        tmp_path,
        caplog,
        model=REGRESSOR,
        data=SmallRegression,
        callbacks=with_pictures([]),
        logger=logger,
    )

    with (tmp_path / "run/predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["index", "label", "prediction"]
    errors = [abs(float(label) - float(number)) for _, label, number in rows]
    assert sum(errors) / len(errors) == pytest.approx(run.test["test_mae"], rel=1e-4)
    assert not (tmp_path / "run/confusion_matrix.csv").exists()
    found = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0}).Reload()
    assert set(found.Tags()["images"]) >= {"images/examples", "images/predictions"}
    assert {"train_mae", "val_rmse", "val_r2", "test_r2", "hp/test_rmse"} <= {
        *found.Tags()["scalars"]
    }
    # the schedule is constant
    assert [event.value for event in found.Scalars("lr")] == pytest.approx([0.01] * EPOCHS)


def test_the_learning_rate_is_in_tensorboard(tmp_path, caplog):
    schedule = {
        "_target_": "torch.optim.lr_scheduler.StepLR",
        "step_size": 1,
        "gamma": 0.5,
        "interval": "epoch",
    }
    model = {"optimizer": {**SGD, "lr": 0.1}, "schedule": schedule}
    logger = TensorBoardLogger(tmp_path, name="", version="run")

    train(tmp_path, caplog, model=model, logger=logger)

    found = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in found.Scalars("lr")] == [
        BATCHES * (epoch + 1) - 1 for epoch in range(EPOCHS)
    ]
    # of the step after each epoch
    assert [event.value for event in found.Scalars("lr")] == pytest.approx([0.05, 0.025, 0.0125])


# --- several nodes


def test_make_preflight_tries_the_address_and_port_of_a_training(monkeypatch):
    nodes = {"gpu[03-05,09]": "gpu03", "a1,b2": "a1", "n[7]": "n7", "login1": "login1"}
    monkeypatch.setattr(distributed, "started_by_srun", lambda: True)
    for listed, first in nodes.items():
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.setenv(name, "")  # restored afterwards
            monkeypatch.delenv(name)
        monkeypatch.setenv("SLURM_STEP_NODELIST", listed)
        monkeypatch.setenv("SLURM_JOB_ID", "12345")
        monkeypatch.setenv("SLURM_STEP_ID", "0")
        tried = node.address()

        distributed.environment()

        assert tried == (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        assert tried[0] == first
