"""Classes that are absent from a validation or test set: make test."""

import os
import subprocess
import sys

import pytest
from sklearn.metrics import f1_score

from programs import LESSON_9

# trains and tests with images of the first two classes only; under ddp, each process has one class
PROGRAM = """
import logging, sys
import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset
from src.models.lightning_classifier import Classifier

devices, num_classes = map(int, sys.argv[1:])
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
L.seed_everything(1)  # the same images in both processes
names = [f"c{number}" for number in range(num_classes)]
model = Classifier("fully_connected", (1, 4, 4), names)
with torch.no_grad():
    model.network[-1].bias[2:] = -100  # never predicted
labels = torch.arange(40) % 2
data = DataLoader(TensorDataset(torch.rand(40, 1, 4, 4), labels), batch_size=10)
trainer = L.Trainer(
    max_epochs=2,
    accelerator="cpu",
    devices=devices,
    strategy="ddp" if devices > 1 else "auto",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, data, data)
[metrics] = trainer.test(model, data, verbose=False)
if trainer.is_global_zero:
    logits = model.eval()(data.dataset.tensors[0])
    print("f1", metrics["test_f1"], *logits.argmax(dim=1).tolist())
"""


@pytest.fixture
def train(tmp_path):
    def train(devices, num_classes):
        """Return the warnings, and F1 with the predictions that it is computed from."""
        file = tmp_path / "program.py"  # Lightning starts it again as the second process
        file.write_text(PROGRAM)
        words = [sys.executable, str(file), str(devices), str(num_classes)]
        env = {**os.environ, "PYTHONPATH": str(LESSON_9)}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        [[f1, *guesses]] = [line.split()[1:] for line in lines if line.startswith("f1 ")]
        warnings = {line for line in lines if line.startswith("WARNING ") and "_f1" in line}
        return warnings, float(f1), list(map(int, guesses))

    return train


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_classes_left_out_of_a_mean_are_named_once_per_stage(train, devices):
    warnings, f1, guesses = train(devices, 4)

    assert warnings == {
        f"WARNING {stage}_precision, {stage}_recall and {stage}_f1 leave out classes"
        " with neither labels nor predictions: c2, c3"
        for stage in ("val", "test")
    }
    labels = [number % 2 for number in range(40)]
    # the value is unchanged: the mean over the classes that are there
    assert f1 == pytest.approx(f1_score(labels, guesses, labels=[0, 1], average="macro"))


@pytest.mark.slow
def test_at_most_ten_absent_classes_are_named(train):
    warnings, _, _ = train(1, 20)

    assert {line.partition(": ")[2] for line in warnings} == {
        ", ".join([*(f"c{number}" for number in range(2, 12)), "..."])
    }


@pytest.mark.slow
def test_nothing_is_said_if_every_class_is_there(train):
    assert train(1, 2)[0] == set()
