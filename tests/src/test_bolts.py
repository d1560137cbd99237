"""A DataModule of lightning-bolts under Lightning 2, in a separate environment: make test."""

import re
import subprocess
import sys

import pytest

from clone import ROOT, epochs, final_accuracy
from overlay import overlay_environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bolts_python(tmp_path_factory):
    """An environment with requirements-bolts.txt that reuses the packages of the tests' own one."""
    folder = tmp_path_factory.mktemp("bolts") / "env"
    return str(overlay_environment(folder, "requirements-bolts.txt") / "bin/python")


def train(clone, python, *args):
    clone.git("switch", "--quiet", "6-lightning-data-module")
    return clone.run(python, "run.py", "--local", "--dataset=bolts", *args)


def test_a_data_module_of_bolts_trains_on_the_sample(module_clone, bolts_python):
    # 1800 images, all in one step
    done = train(module_clone, bolts_python, "--batch_size=2000", "--max_epochs=1")

    assert done.returncode == 0, done.stderr
    assert list(module_clone.folder.glob("logs/bolts/*/checkpoints/epoch=0-step=1.ckpt"))
    assert len(epochs(done.stdout)) == 1
    assert final_accuracy(done.stdout) > 0
    assert re.search(r"data: cifar-10-batches-py, sample: .* 7 files checked in ", done.stdout)


def test_the_adapter_keeps_split_and_transforms_of_bolts(module_clone, bolts_python, sample_data):
    module_clone.git("switch", "--quiet", "6-lightning-data-module")
    program = f"""
import warnings
warnings.simplefilter("ignore")
import torch
from src.datasets.bolts import BoltsDataModule
data = BoltsDataModule({str(sample_data)!r}, val_split=0.2, seed=1)
data.setup("fit")
data.setup("test")
print(*map(len, (data.train_set, data.val_set, data.test_set)), data.dims, data.classes[3])
images, labels = next(iter(data.train_dataloader()))
print(tuple(images.shape), images.dtype, images.min() < 0, labels.dtype)
split = data.bolts.train_dataloader().dataset.indices
print(sorted([*split, *data.val_set.indices]) == list(range(1500)))
"""

    done = module_clone.run(bolts_python, "-c", program)

    assert done.stdout.splitlines() == [
        "1200 300 300 (3, 32, 32) cat",
        "(64, 3, 32, 32) torch.float32 tensor(True) torch.int64",
        "True",
    ], done.stderr


def test_settings_of_the_data_have_an_effect(bolts_python, sample_data):
    program = f"""
from src.datasets.bolts import BoltsDataModule
from src.utils.targets import instantiate

def first(**settings):
    data = BoltsDataModule({str(sample_data)!r}, **settings)
    data.setup("validate")
    images, labels = next(iter(data.train_dataloader()))
    return data, images, labels

plain, images, labels = first()
mirror = {{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1.0}}
mirrored, flipped, _ = first(transform=[mirror])
print((flipped == images.flip(-1)).all().item())
print((mirrored.val_set[0][0] == plain.val_set[0][0]).all().item())
parts = [first(folds=3, fold=fold)[0] for fold in range(3)]
print(sorted(sum((list(part.val_set.indices) for part in parts), [])) == list(range(1500)))
print(parts[0].class_counts(), len(set(plain.class_counts())) > 1)
counts = first(balanced=True, batch_size=1000)[2].bincount()
print((counts - 100).abs().max().item() < 10)
print(len(plain.mean), plain.preprocessing["dims"])
"""

    done = subprocess.run(
        [bolts_python, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert done.stdout.splitlines() == [
        *("True", "True", "True"),
        f"{[100] * 10} True",
        "True",
        "3 [3, 32, 32]",
    ], done.stderr


def test_without_the_packages_the_data_module_is_refused_in_one_sentence(module_clone):
    done = train(module_clone, sys.executable)

    assert done.returncode == 2
    assert done.stderr.startswith("run.py: argument --dataset: invalid choice: 'bolts' (choose ")
    assert done.stderr.count("\n") == 1
