"""Learning-rate schedules, also in an interrupted training: make test-fast."""

import math

import pytest

from small_training import ADAM, BATCHES, EPOCHS, SGD, train, train_with_cuts
from src.utils import targets
from src.utils.errors import UserError

STEPS = BATCHES * EPOCHS
LR = 0.01


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})


def schedule(name, **settings):
    return {"_target_": f"torch.optim.lr_scheduler.{name}", **settings}


def cosine(step, steps):
    return LR * (1 + math.cos(math.pi * step / steps)) / 2


# nothing is an improvement after the first epoch
PLATEAU = schedule("ReduceLROnPlateau", patience=0, factor=0.5, threshold=1e9, threshold_mode="abs")
# settings, and the learning rate of each step
SCHEDULES = {
    "constant": (None, [LR] * STEPS),
    "warmup": (
        {"_target_": None, "warmup_epochs": 0.5},
        [LR * min(1, (step + 1) / 4) for step in range(STEPS)],
    ),
    "cosine": (schedule("CosineAnnealingLR"), [cosine(step, STEPS) for step in range(STEPS)]),
    "cosine_with_warmup": (
        schedule("CosineAnnealingLR", warmup_epochs=1),
        [LR * (step + 1) / (BATCHES + 1) for step in range(BATCHES)]
        + [cosine(step, STEPS - BATCHES) for step in range(STEPS - BATCHES)],
    ),
    "cosine_of_epochs": (
        schedule("CosineAnnealingLR", interval="epoch"),
        [cosine(step // BATCHES, EPOCHS) for step in range(STEPS)],
    ),
    "step": (
        schedule("StepLR", step_size=1, gamma=0.5, interval="epoch"),
        [LR * 0.5 ** (step // BATCHES) for step in range(STEPS)],
    ),
    "step_with_warmup": (
        schedule("StepLR", step_size=1, gamma=0.5, interval="epoch", warmup_epochs=1.5),
        [LR * 0.5 ** (step // BATCHES) * min(1, (step + 1) / 10) for step in range(STEPS)],
    ),
    "polynomial": (schedule("PolynomialLR"), [LR * (1 - step / STEPS) for step in range(STEPS)]),
    "plateau": (
        {**PLATEAU, "monitor": "val_acc", "mode": "max"},
        [LR] * 2 * BATCHES + [LR / 2] * BATCHES,
    ),
    "plateau_with_warmup": (
        {**PLATEAU, "warmup_epochs": 1},
        [LR * (step + 1) / (BATCHES + 1) for step in range(BATCHES)]
        + [LR] * BATCHES
        + [LR / 2] * BATCHES,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_sets_the_learning_rate_also_after_interruptions(name, tmp_path, caplog):
    settings, rates = SCHEDULES[name]
    model = {"optimizer": {**SGD, "lr": LR}, "schedule": settings}

    run = train_with_cuts(tmp_path, caplog, model=model)

    assert run.trace.rates == pytest.approx(rates)


def test_a_schedule_goes_on_with_data_loading_workers(tmp_path, caplog):
    model = {"optimizer": {**SGD, "lr": LR}, "schedule": SCHEDULES["cosine"][0]}

    train_with_cuts(tmp_path, caplog, [[("batch", BATCHES + 3)]], model=model, workers=2)


def test_one_cycle_ends_near_zero(tmp_path, caplog):
    settings = schedule("OneCycleLR", pct_start=0.5, cycle_momentum=False)
    model = {"optimizer": {**ADAM, "lr": LR}, "schedule": settings}

    rates = train_with_cuts(tmp_path, caplog, model=model).trace.rates

    assert max(rates) == pytest.approx(LR, rel=0.02)
    assert rates[0] == pytest.approx(LR / 25)
    assert rates[-1] == pytest.approx(LR / 25 / 1e4)
    assert rates.index(max(rates)) == STEPS // 2 - 1


def test_accumulated_batches_count_as_one_step(tmp_path, caplog):
    model = {"optimizer": {**SGD, "lr": LR}, "schedule": schedule("CosineAnnealingLR")}
    trainer = {"accumulate_grad_batches": 4}

    run = train_with_cuts(tmp_path, caplog, [[("batch", 3), ("batch", 10)]], model=model, **trainer)

    # six batches: a step after four of them, and one after the last
    steps = 2 * EPOCHS
    assert run.trace.rates == pytest.approx([cosine(step, steps) for step in range(steps)])
    assert run.trace.steps[-1][0] == steps


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (schedule("CosineLR"), "no attribute 'CosineLR'"),
        (schedule("CosineAnnealingLR", T=3), "unexpected keyword argument 'T'"),
        ({"_target_": None, "warmup_epochs": 3}, "must be less than trainer.max_epochs, 3"),
        (schedule("StepLR", step_size=1, interval="steps"), "steps must be step or epoch"),
        (schedule("OneCycleLR", warmup_epochs=1), "OneCycleLR warms up itself"),
        (
            {**PLATEAU, "monitor": "val_los"},
            "schedule: monitor is val_los, but the metrics are",
        ),
        (
            schedule("CosineAnnealingWarmRestarts", T_0=1, interval="epoch", warmup_epochs=1),
            "with CosineAnnealingWarmRestarts, interval must be step",
        ),
    ],
)
def test_settings_of_a_schedule_that_cannot_be_used_are_refused(
    settings, sentence, tmp_path, caplog
):
    with pytest.raises(UserError, match=sentence):
        train(tmp_path, caplog, model={"schedule": settings})
