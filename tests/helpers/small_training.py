"""A training of seconds, with the callbacks of the program, which a test can interrupt."""

import logging
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from torch import nn
from torch.utils.data import TensorDataset

from src.callbacks.batch_check import BatchCheck
from src.callbacks.done import StopIfDiverged
from src.callbacks.exact_state import ExactState
from src.callbacks.interruption import Interruption
from src.datasets.image_data_module import ImageDataModule
from src.models.lightning_classifier import Classifier
from src.utils import stop_signal
from src.utils.checkpoints import AtomicCheckpointIO, newest_checkpoint
from src.utils.errors import UserError
from src.utils.targets import instantiate

BATCHES = 6  # per epoch
EPOCHS = 3
BATCH_SIZE = 8
DIMS = [1, 8, 8]
CLASSES = ["left", "right", "both"]


class SmallNetwork(nn.Sequential):
    """With all that a resumed training must restore: dropout, norms, buffers."""

    def __init__(self, dims, num_classes):
        super().__init__(
            nn.Conv2d(dims[0], 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, num_classes),
        )


class Unfitted(nn.Sequential):
    """Takes no sizes from the data."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 7))


class Named(nn.Module):
    """Takes the sizes under the names of other libraries."""

    def __init__(self, in_chans, out_features, width):
        super().__init__()
        self.taken = in_chans, out_features, width


class SmallData(ImageDataModule):
    """Random images, brighter where their class says."""

    dims, classes, mean, std = tuple(DIMS), CLASSES, (0.0,), (1.0,)

    def prepare_data(self):
        pass

    def setup(self, stage):
        self.train_set, self.val_set, self.test_set = map(self.images, (BATCHES, 2, 2))
        torch.manual_seed(self.seed)

    def images(self, batches):
        generator = torch.Generator().manual_seed(batches)
        count = batches * BATCH_SIZE
        images = torch.rand(count, *DIMS, generator=generator)
        labels = torch.arange(count) % len(CLASSES)
        images[labels != 1, :, :, :4] += 0.2
        images[labels != 0, :, :, 4:] += 0.2
        return TensorDataset(images, self.labels(labels))

    def labels(self, labels):
        return labels


class SmallRegression(SmallData):
    targets = ("brightness",)
    classes = ()

    def labels(self, labels):
        return labels.float()


NETWORK = {"_target_": "small_training.SmallNetwork"}
LOSS = {"_target_": "torch.nn.CrossEntropyLoss"}
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.01}


def make_model(kind=Classifier, **settings):
    names = {"classes": CLASSES} if kind is Classifier else {}
    own = {"network": NETWORK, "dims": DIMS, "loss": LOSS, "optimizer": ADAM, **names}
    return kind(**{**own, **settings})


class Killed(Exception):
    pass


@dataclass
class Trace(L.Callback):
    """Notes what each step has used and computed, and interrupts at chosen moments."""

    cuts: list
    steps: list = field(default_factory=list)
    rates: list = field(default_factory=list)  # learning rate of each step
    weights: list = field(default_factory=list)  # of the first layer, after each step
    validated: list = field(default_factory=list)  # validation losses
    metrics: dict = field(default_factory=dict)  # the last ones of the training

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        done = (trainer.global_step, labels.tolist(), images.sum().item(), outputs["loss"].item())
        self.steps.append(done)
        self.weights.append(pl_module.network[0].weight.detach().clone())
        self.cut("batch", trainer.fit_loop.epoch_loop.total_batch_idx + 1)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not trainer.sanity_checking:
            self.cut("validation", trainer.current_epoch)

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validated.append(trainer.callback_metrics["val_loss"].item())

    def on_train_epoch_start(self, trainer, pl_module):
        if ("killed", trainer.current_epoch) in self.cuts:
            self.cuts.remove(("killed", trainer.current_epoch))
            raise Killed

    def on_train_end(self, trainer, pl_module):
        self.metrics |= {name: value.item() for name, value in trainer.callback_metrics.items()}

    def on_test_batch_end(self, trainer, *_):
        self.cut("test", 0)

    def cut(self, *moment):
        if moment in self.cuts:
            self.cuts.remove(moment)
            stop_signal.received.append("SIGUSR1")


@dataclass
class Run:
    """What a training has done, in all of its attempts."""

    trace: Trace
    lines: list[str]
    test: dict[str, float]
    best: dict[str, Any]  # the checkpoint
    weights: dict[str, torch.Tensor]  # at the end of the training
    trainer: L.Trainer
    model: L.LightningModule
    attempts: int

    def results(self):
        """Return all that an interruption must not change."""
        plain = {name: value.tolist() for name, value in self.best["state_dict"].items()}
        of_trace = self.trace.steps, self.trace.rates, self.trace.metrics
        return *of_trace, self.lines, self.test, plain


def train(
    folder, caplog, cuts=(), model=None, data=SmallData, callbacks=None, workers=0, **trainer
):
    """Train a model, test its best.ckpt, and return a Run; model and callbacks are settings."""
    trace, attempts, finished = Trace(list(cuts)), 0, None
    caplog.clear()
    with caplog.at_level(logging.INFO, "src"):
        while not finished:
            attempts += 1
            assert attempts < 10
            stop_signal.received.clear()
            try:
                finished = attempt(folder, trace, model, data, callbacks, workers, trainer)
            except Killed:
                pass
            except UserError as error:
                if "not requeued: this is not a Slurm job" not in str(error):
                    raise
    stop_signal.received.clear()
    assert trace.cuts == []
    lines = [text for text in caplog.messages if text.startswith("epoch")]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    return Run(trace, lines, *finished, attempts)


# a killed training continues from the end of the epoch before
CUTS = [
    [("batch", 2), ("batch", BATCHES), ("validation", 1)],
    [("killed", 1), ("batch", BATCHES + 2), ("batch", 2 * BATCHES), ("killed", 2), ("test", 0)],
]


def train_with_cuts(folder, caplog, many=CUTS, **settings):
    """Train without interruptions, then with each list of cuts, and compare; return the first."""
    whole = train(folder / "whole", caplog, **settings)
    for number, cuts in enumerate(many):
        cut = train(folder / f"cut_{number}", caplog, cuts, **settings)
        assert cut.attempts == len(cuts) + 1
        assert cut.results() == whole.results()
    return whole


def attempt(folder, trace, settings, data, callbacks, workers, trainer):
    L.seed_everything(1234, verbose=False)
    data = data(None, batch_size=BATCH_SIZE, num_workers=workers, seed=1234)
    model = make_model(**(settings or {}))
    checkpoint, first_step = newest_checkpoint(folder / "checkpoints")
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename="best",
        monitor=model.monitor,
        mode=model.mode,
        enable_version_counter=False,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        plugins=[AsyncCheckpointIO(AtomicCheckpointIO())],
        callbacks=[
            trace,
            best,
            ExactState(),
            Interruption(folder, first_step, 60, 20),
            StopIfDiverged(),
            BatchCheck(),
            *(instantiate(part) for part in (callbacks or {}).values()),
        ],
        enable_model_summary=False,
        enable_progress_bar=False,
        **{"max_epochs": EPOCHS, "logger": False, **trainer},
    )
    folder.mkdir(parents=True, exist_ok=True)
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    path = best.best_model_path
    [test] = trainer.test(model, data, ckpt_path=path, weights_only=True, verbose=False)
    kept = torch.load(path, weights_only=True)
    return test, kept, weights, trainer, model
