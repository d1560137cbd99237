"""TensorBoardPlots and SavePredictions with any network, data or logger: make test-fast."""

import csv
import logging
import re
from pathlib import Path

import lightning as L
import pytest
import torch
import torchvision
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from src.callbacks.predictions import SavePredictions
from src.callbacks.tensorboard import TensorBoardPlots, predict
from src.models.lightning_classifier import Classifier

NUM_IMAGES = 24
PICTURES = {f"images/{name}" for name in ("examples", "predictions", "confusion_matrix")}


class Untraceable(nn.Module):
    """Returns other operations for the second call of a trace than for the first."""

    def __init__(self, dims, num_classes):
        super().__init__()
        self.layer = nn.Linear(dims[0] * dims[1] * dims[2], num_classes)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        scores = self.layer(images.flatten(1))
        return scores if self.calls % 2 else scores + 0


class Encoder(nn.Module):
    """Reads an image as a sequence of rows."""

    def __init__(self, dims, num_classes):
        super().__init__()
        layer = nn.TransformerEncoderLayer(dims[2], 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(dims[2], num_classes)

    def forward(self, images):
        return self.head(self.encoder(images.mean(dim=1)).mean(dim=1))


def vit(dims, num_classes):
    return torchvision.models.VisionTransformer(dims[1], 4, 1, 2, 8, 16, num_classes=num_classes)


def linear(dims, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(dims[0] * dims[1] * dims[2], num_classes))


class Pixels(L.LightningModule):
    """Predicts a class or a number for every pixel."""

    def __init__(self, channels, loss):
        super().__init__()
        self.network = nn.Conv2d(3, channels, 3, padding=1)
        self.loss = loss

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self(images)
        return {"loss": self.loss(logits, labels), "logits": logits}

    validation_step = test_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(dims, labels, **settings):
    images = torch.rand(NUM_IMAGES, *dims, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(images, labels), batch_size=5, **settings)


def fit(folder, model, class_names, data, epochs=1, loggers=None):
    """Train and test with both callbacks, and return the folder of the first logger."""
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=loggers or [TensorBoardLogger(folder, name="", version=0)],
        callbacks=[SavePredictions(class_names), TensorBoardPlots(class_names)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, data)
    trainer.test(model, data, verbose=False)
    return Path(trainer.log_dir)


def train(folder, network, dims=(3, 8, 8), num_classes=3, shuffle=False, **kwargs):
    """Train a classifier of images whose class is their index modulo num_classes."""
    names = [f"class {number}" for number in range(num_classes)]
    model = Classifier("fully_connected", dims, names)
    model.network = network(dims, num_classes)
    data = loader(dims, torch.arange(NUM_IMAGES) % num_classes, shuffle=shuffle)
    return fit(folder, model, names, data, **kwargs)


def tags(folder, kind="images"):
    return EventAccumulator(str(folder)).Reload().Tags()[kind]


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def warned(caplog):
    """Return the warnings of the program so far."""
    return lambda: [
        row.getMessage()
        for row in caplog.records
        if row.name.startswith("src.") and row.levelno >= logging.WARNING
    ]


# --- pictures


def test_a_network_that_cannot_be_traced_is_one_warning(tmp_path, warned, capfd):
    logs = train(tmp_path, Untraceable, epochs=2)

    [warning] = warned()
    assert warning.startswith("TensorBoard shows no graph: Tracing failed sanity checks!")
    assert "No graph saved" not in capfd.readouterr().out
    assert set(tags(logs)) == PICTURES


@pytest.mark.parametrize("network", [Encoder, vit])
def test_a_transformer_is_trained_and_its_graph_drawn(tmp_path, warned, network):
    logs = train(tmp_path, network)

    assert warned() == []
    assert set(tags(logs)) == PICTURES
    assert tags(logs, "graph")


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_any_number_of_channels_are_drawn(tmp_path, warned, channels):
    logs = train(tmp_path, linear, dims=(channels, 8, 8))

    assert warned() == []
    assert set(tags(logs)) == PICTURES


@pytest.mark.parametrize("num_classes", [20, 21])
def test_a_picture_with_too_many_classes_is_one_warning(tmp_path, warned, num_classes):
    logs = train(tmp_path, linear, num_classes=num_classes, epochs=2)

    curves = [tag for tag in tags(logs, "tensors") if tag.startswith("pr_curve/")]
    if num_classes <= 20:
        assert warned() == []
        assert len(curves) == num_classes
        assert set(tags(logs)) == PICTURES
    else:
        assert warned() == [
            f"TensorBoard shows no {picture}: 21 classes are too many to read, 20 at most;"
            " see confusion_matrix.csv (ValueError)"
            for picture in ("confusion matrix", "PR curves")
        ]
        assert curves == []
        assert set(tags(logs)) == PICTURES - {"images/confusion_matrix"}
    assert len(read_csv(logs / "confusion_matrix.csv")) == 1 + num_classes


@pytest.mark.parametrize(
    ("model", "labels", "class_names"),
    [
        (
            Pixels(2, nn.functional.cross_entropy),
            torch.zeros(NUM_IMAGES, 8, 8, dtype=torch.long),
            ["sky", "sea"],
        ),
        (Pixels(1, nn.functional.mse_loss), torch.zeros(NUM_IMAGES, 1, 8, 8), []),
    ],
    ids=["segmentation", "regression"],
)
def test_other_tasks_than_classification_are_trained(tmp_path, warned, model, labels, class_names):
    logs = fit(tmp_path, model, class_names, loader((3, 8, 8), labels), epochs=2)

    pictures = re.findall(r"^TensorBoard shows no (.+?): ", "\n".join(warned()), re.MULTILINE)
    assert pictures == [
        *("examples", "confusion matrix", "PR curves", "predictions", "projector"),
        "table of runs",
    ]
    assert "no examples: the images have no class labels (b,)" in warned()[0]
    assert tags(logs, "graph")
    assert tags(logs, "histograms")
    assert not list(logs.glob("*.csv"))


def test_another_logger_in_first_place_gets_no_pictures(tmp_path, warned):
    other, tensorboard = CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "tensorboard")

    alone = train(tmp_path, linear, loggers=[CSVLogger(tmp_path, "alone")])
    train(tmp_path, linear, loggers=[other, tensorboard])

    assert warned() == []
    assert (alone / "metrics.csv").is_file()
    assert set(tags(tmp_path / "tensorboard/version_0")) == PICTURES


def test_a_failed_picture_leaves_the_network_as_it_was():
    class Failing(nn.Module):
        def forward(self, images):
            raise RuntimeError("out of memory")

    model = Classifier("fully_connected", (3, 8, 8), ["a", "b"])
    model.network.append(Failing())

    with pytest.raises(RuntimeError, match="out of memory"):
        predict(model.train(), torch.zeros(2, 3, 8, 8))

    assert model.training
    assert not any(layer._forward_pre_hooks for layer in model.modules())


# --- predictions


def test_the_files_have_every_test_image_with_the_names_of_its_classes(tmp_path):
    logs = train(tmp_path, linear)

    head, *rows = read_csv(logs / "predictions.csv")
    assert head == ["index", "label", "prediction", "probability"]
    assert [row[:2] for row in rows] == [[str(k), f"class {k % 3}"] for k in range(NUM_IMAGES)]
    assert all(1 / 3 <= float(row[3]) <= 1 for row in rows)
    head, *matrix = read_csv(logs / "confusion_matrix.csv")
    assert head == ["label", "class 0", "class 1", "class 2"]
    for label, *counts in matrix:
        expected = [sum(row[1:3] == [label, name] for row in rows) for name in head[1:]]
        assert list(map(int, counts)) == expected


def test_shuffled_test_images_have_no_indices(tmp_path, warned):
    logs = train(tmp_path, linear, shuffle=True)

    assert warned() == ["no predictions.csv: the order of the test images is not known"]
    assert not (logs / "predictions.csv").exists()
