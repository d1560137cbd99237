"""Save and restore what Lightning's checkpoints leave out: see src/main.py.

With the position in the epoch, which the DataModule saves, a resumed training then takes the same
steps as one that was never interrupted.
"""

import logging
import random
from typing import Any

import lightning as L
import numpy as np
import torch
from torchmetrics import Metric, MetricCollection

from src.callbacks.averaging import refuse_other_averages
from src.utils.data_shares import TrainingSampler

log = logging.getLogger(__name__)
State = dict[str, Any]
Trainer = Any  # L.Trainer, with its loops and its DataModule, which L.Trainer does not declare


class ExactState(L.Callback):
    """Adds the random states, and the metrics so far in the epoch, of every rank."""

    def __init__(self) -> None:
        self.before_validation: State | None = None
        self.loaded: list[State] = []
        self.stopped = False  # by early stopping

    def setup(self, trainer: Trainer, pl_module: L.LightningModule, stage: str) -> None:
        refuse_other_averages(trainer.callbacks)

    def on_train_batch_end(self, trainer: Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.is_last_batch:
            # a checkpoint during the validation continues before it, to validate all images
            self.before_validation = snapshot(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        self.before_validation = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: L.LightningModule, checkpoint: State
    ) -> None:
        epochs = trainer.fit_loop.epoch_progress.current
        state = self.before_validation or snapshot(pl_module)
        if self.before_validation:
            repeat_validation(checkpoint["loops"]["fit_loop"])
        elif epochs.processed == epochs.started:  # the metrics of this epoch are complete
            state["metrics"] = {}
        checkpoint["ranks"] = gather(trainer, state)
        checkpoint["stopped"] = trainer.should_stop
        checkpoint["batches_per_epoch"] = len(trainer.train_dataloader)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: L.LightningModule, checkpoint: State
    ) -> None:
        if trainer.state.fn != "fit":
            return
        self.loaded = checkpoint["ranks"]
        self.stopped = checkpoint.get("stopped", False)
        data = trainer.datamodule
        loader, before = data.train_dataloader(), checkpoint["batches_per_epoch"]
        reason = ""
        if len(loader) != before:
            reason = f"an epoch has {len(loader)} batches per process, but had {before}"
        elif not isinstance(loader.sampler, TrainingSampler):
            reason = f"train_dataloader of {type(data).__name__} cannot begin within an epoch"
        if reason and data.position["batches"]:
            begin_epoch_again(checkpoint["loops"]["fit_loop"])
            data.position["batches"] = 0
            for state in self.loaded:
                state["metrics"] = {}
            what = "the interrupted epoch begins again, with the weights of the checkpoint"
            log.warning(f"{reason}: {what}")

    def on_train_start(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        # after everything that draws random numbers before the first batch
        states, rank = self.loaded, trainer.global_rank
        if len(states) == trainer.world_size:
            restore_random(states[rank]["random"], pl_module.device)
            restore_metrics(pl_module, [states[rank]["metrics"]])
        elif states:
            if rank == 0:  # torchmetrics adds up the ranks: one of them gets the sum
                restore_metrics(pl_module, [state["metrics"] for state in states])
            log.warning(
                f"number of processes: {trainer.world_size}, before: {len(states)}; the steps use"
                " the same images, but crops and dropout differ"
            )
        self.loaded = []
        # a training that had stopped early, and was interrupted later, must not go on
        trainer.should_stop = trainer.should_stop or self.stopped


# --- one rank


def snapshot(module: L.LightningModule) -> State:
    """Return the random states and the metrics of this rank, as plain values and tensors."""
    numpy: State = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()  # weights_only loads no NumPy arrays
    states = {
        "python": random.getstate(),
        "numpy": numpy,
        "torch": torch.get_rng_state(),
    }
    if module.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(module.device)
    return {"random": states, "metrics": metric_states(module)}


def restore_random(states: State, device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def metric_states(module: L.LightningModule) -> State:
    """Return name -> state of the metrics that have counted something."""
    for part in module.modules():
        if isinstance(part, MetricCollection):
            part.values()  # metrics that share a state are brought up to date
    return {
        name: {
            "count": metric.update_count,
            **{k: copy(getattr(metric, k)) for k in metric._defaults},
        }
        for name, metric in module.named_modules()
        if isinstance(metric, Metric) and metric.update_count
    }


def copy(state: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return [part.clone() for part in state] if isinstance(state, list) else state.clone()


def restore_metrics(module: L.LightningModule, states: list[State]) -> None:
    """Continue the metrics of this rank with the sum of these states."""
    for name, metric in module.named_modules():
        found = [state[name] for state in states if name in state]
        if not isinstance(metric, Metric) or not found:
            continue
        for key, reduction in metric._reductions.items():
            values = [state[key] for state in found]
            if isinstance(values[0], list):
                parts = [part.to(metric.device) for value in values for part in value]
                setattr(metric, key, parts)
            else:
                value = reduction(torch.stack(values)) if callable(reduction) else values[0]
                setattr(metric, key, value.to(metric.device))
        metric._update_count = max(state["count"] for state in found)


# --- all ranks


def gather(trainer: Trainer, state: State) -> list[State]:
    """Return the states of all ranks; every rank must call this."""
    if trainer.world_size == 1:
        return [state]
    states: list[State] = [{}] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states


# --- Lightning's loops, whose state is saved within checkpoint["loops"]


def repeat_validation(loop: State) -> None:
    """Let the epoch continue after its last training batch, with a validation from its start."""
    batches = loop["epoch_loop.batch_progress"]
    for scope in ("total", "current"):
        batches[scope]["completed"] = batches[scope]["processed"]
        # "interrupted in its first batch" is what makes Lightning run the validation
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        loop["epoch_loop.val_loop.batch_progress"][scope] |= begun
    loop["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False


def begin_epoch_again(loop: State) -> None:
    """Let the interrupted epoch begin again, as if its predecessor had just ended."""
    for scope in ("total", "current"):
        epochs = loop["epoch_progress"][scope]
        for key in ("ready", "started", "completed"):
            epochs[key] = epochs["processed"]
