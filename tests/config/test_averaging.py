"""Weight averages and early stopping, also in an interrupted training: make test-fast."""

import pytest
import torch

from small_training import BATCHES, SGD, SmallData, make_model, train, train_with_cuts
from src.callbacks.averaging import EMA
from src.models.lightning_classifier import Classifier
from src.utils import targets
from src.utils.errors import UserError

MODEL = {"optimizer": {**SGD, "lr": 0.1}}


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})


def average(name, **settings):
    return {"average": {"_target_": f"src.callbacks.averaging.{name}", **settings}}


def moving(weights, decay=0.8):
    found = weights[0]
    for each in weights[1:]:
        found = decay * found + (1 - decay) * each
    return found


# the settings, and what the first layer is after an epoch, from its weights after all steps so far
AVERAGES = {
    "ema": (average("EMA", decay=0.8), moving),
    "ema_later": (
        average("EMA", decay=0.8, update_starting_at_step=BATCHES + 2),
        lambda weights: moving(weights[BATCHES + 2 :]) if weights[BATCHES + 2 :] else weights[-1],
    ),
    "swa": (
        average("SWA", start=0.34),
        lambda weights: torch.stack(weights[BATCHES - 1 :: BATCHES][1:] or weights[-1:]).mean(0),
    ),
}


def loss_of(state_dict, dataset):
    """Return the loss of a model with these weights."""
    model = Classifier.load_from_checkpoint(state_dict, weights_only=True).eval()
    images, labels = dataset.tensors
    with torch.no_grad():
        return model.loss(model(images), labels).item()


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_is_validated_saved_and_tested(name, tmp_path, caplog):
    callbacks, expected = AVERAGES[name]

    run = train_with_cuts(tmp_path, caplog, model=MODEL, callbacks=callbacks)

    last = expected(run.trace.weights)
    assert torch.allclose(run.weights["network.0.weight"], last, atol=1e-6)
    assert not torch.allclose(run.trace.weights[-1], last, atol=1e-6)
    epoch = run.best["epoch"]
    best = expected(run.trace.weights[: BATCHES * (epoch + 1)])
    assert torch.allclose(run.best["state_dict"]["network.0.weight"], best, atol=1e-6)
    data = SmallData(None)
    data.setup(None)
    path = run.trainer.checkpoint_callback.best_model_path
    assert run.test["test_loss"] == pytest.approx(loss_of(path, data.test_set), abs=1e-6)
    assert run.trace.validated[epoch] == pytest.approx(loss_of(path, data.val_set), abs=1e-6)


def test_an_average_is_where_the_model_is():
    callback, model = EMA(), make_model()
    callback.setup(None, model, "fit")
    model.to("meta")  # in place of a GPU

    callback.on_fit_start(None, model)

    devices = {part.device.type for part in callback._average_model.module.parameters()}
    assert devices == {"meta"}


def test_an_average_that_has_not_begun_changes_nothing(tmp_path, caplog):
    callbacks = average("EMA", update_starting_at_step=1000)

    run = train(tmp_path / "average", caplog, model=MODEL, callbacks=callbacks)

    assert run.results() == train(tmp_path / "none", caplog, model=MODEL).results()


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging"},
        {"_target_": "lightning.pytorch.callbacks.StochasticWeightAveraging", "swa_lrs": 0.1},
    ],
)
def test_other_averages_are_refused(settings, tmp_path, caplog):
    with pytest.raises(UserError, match=r"use src.callbacks.averaging.EMA or"):
        train(tmp_path, caplog, callbacks={"average": settings})


@pytest.mark.parametrize("start", [-0.1, 1.0])
def test_an_average_of_no_epoch_is_refused(start, tmp_path, caplog):
    with pytest.raises(UserError, match="must be at least 0 and less than 1"):
        train(tmp_path, caplog, callbacks=average("SWA", start=start))


# --- early stopping


def stopping(**settings):
    path = "lightning.pytorch.callbacks.EarlyStopping"
    return {"stopping": {"_target_": path, "monitor": "val_loss", **settings}}


def test_early_stopping_ends_the_training_also_after_interruptions(tmp_path, caplog):
    callbacks = stopping(min_delta=1e9, patience=1)
    cuts = [[("batch", 2), ("validation", 1), ("test", 0)], [("killed", 1), ("batch", BATCHES + 1)]]

    run = train_with_cuts(tmp_path, caplog, cuts, model=MODEL, callbacks=callbacks, max_epochs=4)

    assert len(run.trace.steps) == 2 * BATCHES
    assert "stopped early, after epoch 2/4" in caplog.messages


def test_early_stopping_follows_a_metric_that_exists(tmp_path, caplog):
    with pytest.raises(UserError, match="EarlyStopping: monitor is val_lost, but the metrics are"):
        train(tmp_path, caplog, callbacks=stopping(monitor="val_lost"))
