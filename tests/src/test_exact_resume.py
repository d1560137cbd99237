"""A training that is interrupted takes the same steps as one that is not: make test-fast."""

import argparse
import json
import logging

import lightning as L
import pytest
import torch
from torch import nn
from torchmetrics import CatMetric, MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from src import main as program
from src.callbacks.exact_state import metric_states, restore_metrics
from src.datasets.cifar10 import CIFAR10DataModule
from src.utils import stop_signal
from src.utils.errors import UserError

EPOCHS = 2
BATCHES = 15  # per epoch: 1350 images of the sample's 1500, 90 per batch
SETTINGS = {
    "experiment_name": "exact",
    "run_number": 0,
    "dataset": "cifar10",
    "num_workers": 0,
    "arch": "fully_connected",
    "weights": "none",
    "network_args": {},
    "batch_size": 90,
    "max_epochs": EPOCHS,
    "seed": 1234,
    "learning_rate": 1e-3,
    "optimizer": "Adam",
    "criterion": "cross_entropy",
    "num_nodes": 1,
    "devices": 1,
    "accelerator": "cpu",
    "precision": "32-true",
    "sync_batchnorm": False,
    "find_unused_parameters": False,
    "timeout_min": 1,
    "checkpoint_min": 5,
    "max_requeues": 20,
    "plots": False,
    "debugging": {},
}


class Trace(L.Callback):
    """Notes what each step has used and computed, and sends the signal at chosen moments."""

    def __init__(self, steps, cuts):
        self.steps = steps
        self.cuts = cuts

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        done = (trainer.global_step, labels.tolist(), images.sum().item(), outputs["loss"].item())
        self.steps.append(done)
        self.cut("batch", trainer.global_step)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not trainer.sanity_checking:
            self.cut("validation", trainer.global_step)

    def cut(self, *moment):
        if moment in self.cuts:
            self.cuts.remove(moment)
            stop_signal.received.append("SIGUSR1")


@pytest.fixture
def train(tmp_path, monkeypatch, sample_data, caplog):
    """Return a function that trains with cuts, and returns steps, epoch lines and attempts."""
    make_model, make_trainer = program.make_model, program.make_trainer
    monkeypatch.setattr(program, "log_to_stdout", lambda: None)

    def trained(name="run", cuts=(), resumed_with=None, **settings):
        steps, cuts, refused = [], list(cuts), 0
        folder = tmp_path / name / "exact/version_0"
        folder.mkdir(parents=True, exist_ok=True)
        hparams = {**SETTINGS, "log_path": str(tmp_path / name), "data_dir": str(sample_data)}
        hparams = argparse.Namespace(**{**hparams, **settings})

        def with_dropout(*args):
            model = make_model(*args)
            model.network = nn.Sequential(model.network, nn.Dropout(0.1))
            return model

        def with_trace(*args):
            trainer = make_trainer(*args)
            trainer.callbacks.insert(0, Trace(steps, cuts))
            return trainer

        monkeypatch.setattr(program, "make_model", with_dropout)
        monkeypatch.setattr(program, "make_trainer", with_trace)
        caplog.clear()
        with caplog.at_level(logging.INFO, "src"):
            for _ in range(10):
                stop_signal.received.clear()
                try:
                    program.main(hparams)
                    break
                except UserError as error:
                    assert "not requeued: this is not a Slurm job" in str(error)
                    refused += 1
                    vars(hparams).update(resumed_with or {})
        stop_signal.received.clear()
        lines = [text for text in caplog.messages if text.startswith(("epoch", "test"))]
        lines += [record.message for record in caplog.records if record.levelname == "WARNING"]
        attempts = [json.loads(line) for line in (folder / "attempts.jsonl").open()]
        assert len(attempts) == refused + 1
        assert cuts == []
        return steps, lines, attempts

    return trained


@pytest.fixture(scope="module")
def uncut():
    """Results of the trainings that are not interrupted; the first tests fill them in."""
    return {}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "cuts",
    [
        [("batch", 1)],
        [("batch", 7)],
        [("batch", BATCHES)],
        [("batch", BATCHES + 3), ("batch", BATCHES + 8)],
        [("validation", BATCHES)],
        [("batch", 2 * BATCHES)],
        [("batch", 3), ("validation", BATCHES), ("batch", BATCHES + 1)],
    ],
    ids=lambda cuts: "-".join(f"{kind}{step}" for kind, step in cuts),
)
def test_an_interrupted_training_equals_one_that_is_not(train, uncut, cuts, num_workers):
    if num_workers not in uncut:
        uncut[num_workers] = train("whole", num_workers=num_workers)
    whole = uncut[num_workers]

    steps, lines, _ = train("cut", cuts, num_workers=num_workers)

    assert len(whole[0]) == EPOCHS * BATCHES
    assert steps == whole[0]
    assert lines == whole[1]


def test_the_number_of_workers_changes_no_step(train, uncut):
    runs = [uncut.get(number) or train(f"whole_{number}", num_workers=number) for number in (0, 2)]

    assert runs[0][:2] == runs[1][:2]


AGAIN = "the interrupted epoch begins again, with the weights of the checkpoint"


def test_an_epoch_of_other_batches_begins_again(train):
    cuts, smaller = [("batch", BATCHES + 7)], {"batch_size": 45}

    steps, lines, _ = train("smaller", cuts, resumed_with=smaller)

    assert [step[0] for step in steps] == list(range(1, BATCHES + 7 + 2 * BATCHES + 1))
    assert len({label for step in steps[BATCHES + 7 :] for label in step[1]}) == 10
    assert sum(len(step[1]) for step in steps[BATCHES + 7 :]) == 90 * BATCHES
    [first, second, test, warning] = lines
    assert (first[:10], second[:10], test[:4]) == ("epoch  1/2", "epoch  2/2", "test")
    assert warning == f"an epoch has 30 batches per process, but had 15: {AGAIN}"


def test_an_epoch_begins_again_if_the_loader_cannot_begin_within_it(train, monkeypatch):
    def shuffled(data):
        return data.loader(data.train_set, batch_size=90, shuffle=True, drop_last=True)

    monkeypatch.setattr(CIFAR10DataModule, "train_dataloader", shuffled)

    steps, lines, _ = train("loader", [("batch", 7)])

    assert len(steps) == 7 + EPOCHS * BATCHES
    assert len(lines) == EPOCHS + 2
    name = "train_dataloader of CIFAR10DataModule"
    assert lines[-1] == f"{name} cannot begin within an epoch: {AGAIN}"


class Counters(nn.Module):
    device = torch.device("cpu")

    def __init__(self, values=()):
        super().__init__()
        # these two share their state
        self.together = MetricCollection({"f1": MulticlassF1Score(3), "acc": MulticlassAccuracy(3)})
        self.mean, self.all = MeanMetric(), CatMetric()
        for value in values:
            self.mean.update(float(value))
            self.all.update(torch.tensor([value]))
            self.together.update(torch.tensor([value, 1]), torch.tensor([0, value]))

    def results(self):
        together = self.together.compute()
        found = [self.mean.compute(), together["f1"], together["acc"]]
        return [part.item() for part in found], self.all.compute().tolist()


@pytest.mark.parametrize("shares", [[[0, 1, 2, 2, 1]], [[0, 1, 2], [2, 1]]])
def test_metrics_continue_with_the_sum_over_the_ranks_before(shares):
    states = [metric_states(Counters(share)) for share in shares]
    continued = Counters()

    restore_metrics(continued, states)

    assert continued.results() == Counters([0, 1, 2, 2, 1]).results()
