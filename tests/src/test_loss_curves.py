"""The losses of the first steps stay what they were: make test-fast.

tests/src/loss_curves was written by the program without a fused optimizer and without channels
last, with the crops of SeededBatches. What makes a step faster may change the rounding, and nothing
else.
"""

import os
from pathlib import Path

import pytest
import torch

from src.datasets.cifar10 import CIFAR10DataModule
from src.datasets.mnist import MNISTDataModule
from src.models.lightning_classifier import Classifier

CURVES = Path(__file__).with_name("loss_curves")
DATASETS = {"fully_connected": MNISTDataModule, "resnet18": CIFAR10DataModule}
NUM_STEPS = 5


def losses(arch, folder, optimizer):
    torch.manual_seed(1234)
    data = DATASETS[arch](folder, batch_size=64)
    data.setup("fit")
    torch.manual_seed(1234)
    names = {"arch": arch, "optimizer": optimizer}
    model = Classifier(**names, dims=list(data.dims), classes=list(data.classes)).double()
    optimizer, found = model.configure_optimizers(), []
    for _, (images, labels) in zip(range(NUM_STEPS), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images.double()), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
@pytest.mark.parametrize("arch", DATASETS)
def test_the_first_losses_are_those_of_the_committed_curve(arch, optimizer, sample_data):
    curve = CURVES / f"{arch}-{optimizer}.txt"

    found = losses(arch, sample_data, optimizer)

    if os.environ.get("ACCEPT"):
        curve.write_text("".join(f"{loss:.12f}\n" for loss in found))
    expected = [float(line) for line in curve.read_text().split()]
    assert len(expected) == NUM_STEPS
    assert found == pytest.approx(expected, rel=1e-9)
