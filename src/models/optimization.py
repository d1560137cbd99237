"""Build the optimizer and its learning-rate schedules from their settings: see src/models."""

import inspect
from collections.abc import Mapping
from typing import Any

import lightning as L
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from src.utils.errors import UserError
from src.utils.targets import LENGTHS, TARGET, find_target, instantiate

# each step multiplies the learning rate, so that a warm-up can multiply it too
MULTIPLYING = (
    lr_scheduler.StepLR,
    lr_scheduler.MultiStepLR,
    lr_scheduler.ConstantLR,
    lr_scheduler.LinearLR,
    lr_scheduler.ExponentialLR,
    lr_scheduler.PolynomialLR,
    lr_scheduler.CosineAnnealingLR,
    lr_scheduler.ReduceLROnPlateau,
)


def build_optimizer(
    module: nn.Module, settings: Mapping[str, Any], decay_all: bool = False, fused: bool = True
) -> Optimizer:
    """Return the optimizer of a module's parameters.

    If it has a weight decay, parameters with fewer than two dimensions, which are the biases and
    those of norms, are left out unless decay_all.

    Raises:
        UserError: if there is no such class, or if it refuses an argument.
    """
    parameters: Any = module.parameters()
    if not decay_all and has_weight_decay(settings):
        matrices = [part for part in module.parameters() if part.ndim >= 2]
        others = [part for part in module.parameters() if part.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices},
            {"params": others, "weight_decay": 0.0},
        ]
        parameters = [group for group in groups if group["params"]]
    # fused: updates all parameters at once; not every optimizer in torch.optim supports it
    offers_fused = fused and not any(settings.get(name) for name in ("foreach", "differentiable"))
    optimizer = instantiate(settings, parameters, **({"fused": True} if offers_fused else {}))
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"optimizer: {settings[TARGET]} is not an optimizer")
    return optimizer


def has_weight_decay(settings: Mapping[str, Any]) -> bool:
    """Return whether the settings, or else the defaults of the class, have a weight decay."""
    found = inspect.signature(find_target(settings[TARGET])).parameters.get("weight_decay")
    return bool(settings.get("weight_decay", found and found.default))


def build_schedules(
    optimizer: Optimizer, settings: Mapping[str, Any] | None, trainer: L.Trainer | None
) -> list[dict[str, Any]]:
    """Return the schedules of the learning rate, as Lightning expects them; none if it is constant.

    Own settings, beside `_target_` (null: constant) and the arguments of its class:
        warmup_epochs: length of a linear warm-up, in epochs, such as 0.5
        interval: step or epoch: how often the schedule changes the learning rate
        monitor: metric that a plateau schedule follows
    A length of the class (T_max, total_steps, total_iters) that is not set becomes that of the
    training without the warm-up, in units of interval; max_lr that of the optimizer.

    Raises:
        UserError: if a class does not exist or refuses an argument, or if the warm-up is too long.
    """
    own = dict(settings or {})
    interval, monitor = own.pop("interval", "step"), own.pop("monitor", "val_loss")
    warmup_epochs = own.pop("warmup_epochs", 0) or 0
    if trainer is None or not (own.get(TARGET) or warmup_epochs):
        return []
    if interval not in ("step", "epoch"):
        raise UserError(f"schedule.interval: {interval} must be step or epoch")
    steps, epochs = int(trainer.estimated_stepping_batches), trainer.max_epochs or 1
    warmup = round(warmup_epochs * steps / epochs)  # in steps
    if getattr(trainer, "fast_dev_run", False):  # which makes one epoch of the training
        warmup = min(warmup, steps - 1)
    if warmup >= steps:
        rule = f"must be less than trainer.max_epochs, {epochs}"
        raise UserError(f"schedule.warmup_epochs: {warmup_epochs} {rule}")
    if not own.get(TARGET):
        return [{"scheduler": ramp(optimizer, warmup), "interval": "step"}]
    schedule = build_schedule(optimizer, own, epochs if interval == "epoch" else steps - warmup)
    plateau = isinstance(schedule, lr_scheduler.ReduceLROnPlateau)
    described = {
        "scheduler": schedule,
        "interval": "epoch" if plateau else interval,
        "monitor": monitor,
        "reduce_on_plateau": plateau,
    }
    return with_warmup(optimizer, described, warmup) if warmup else [described]


def build_schedule(optimizer: Optimizer, settings: Mapping[str, Any], length: int) -> Any:
    """Return the schedule that the settings name; they need not set its length."""
    lengths = dict.fromkeys(LENGTHS, length)
    rates = [group["lr"] for group in optimizer.param_groups]
    return instantiate(settings, optimizer, max_lr=rates, **lengths)


def with_warmup(
    optimizer: Optimizer, described: dict[str, Any], warmup: int
) -> list[dict[str, Any]]:
    """Return a schedule with a linear warm-up of so many steps before it.

    Raises:
        UserError: if these two cannot be combined.
    """
    schedule = described["scheduler"]
    name = type(schedule).__name__
    if isinstance(schedule, lr_scheduler.OneCycleLR | lr_scheduler.CyclicLR):
        raise UserError(f"schedule.warmup_epochs: {name} warms up itself: set warmup_epochs to 0")
    if described["interval"] == "step":
        parts = [ramp(optimizer, warmup), schedule]
        described["scheduler"] = lr_scheduler.SequentialLR(optimizer, parts, [warmup])
        return [described]
    if not isinstance(schedule, MULTIPLYING):
        raise UserError(f"schedule.warmup_epochs: with {name}, interval must be step")
    return [{"scheduler": ramp(optimizer, warmup), "interval": "step"}, described]


def ramp(optimizer: Optimizer, steps: int) -> lr_scheduler.LinearLR:
    """Return a schedule from 1 / (steps + 1) of the learning rate to the whole of it."""
    return lr_scheduler.LinearLR(optimizer, 1 / (steps + 1), total_iters=steps)
