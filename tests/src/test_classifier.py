"""The contents of a checkpoint and of hparams.yaml in lesson 9: make test."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from clone import ARGUMENTS_LESSON

# a network with its own argument, and the arguments with which each network is trained
WIDE = """
from torch import nn

ARGUMENTS = {"width": {"default": 32, "help": "values between the two layers"}}


class Wide(nn.Sequential):
    def __init__(self, dims, num_classes, width):
        pixels = dims[0] * dims[1] * dims[2]
        super().__init__(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, num_classes))
"""
ARGUMENTS = {
    "resnet18": ["--arch=resnet18", "--dataset=cifar10"],
    "wide": ["--arch=wide", "--width=7", "--dataset=mnist", "--optimizer=SGD"],
}
NETWORK_ARGS = {"resnet18": {}, "wide": {"width": 7}}
COLOURS = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}
GREY = {"mean": [0.1307], "std": [0.3081]}
# trains, then saves the outputs of the network for random images
TRAIN = """
import sys
import torch
from src import main as lesson

made = lesson.make_model
def kept(*args):
    global model
    model = made(*args)
    return model
lesson.make_model = kept
import run
sys.argv = ["run.py", *sys.argv[1:]]
run.main()
images = torch.randn(5, *model.hparams.dims)
with torch.no_grad():
    torch.save((images, model.cpu().eval()(images)), "kept.pt")
"""
# another process, which knows only the path
LOAD = """
import json, sys
import torch
from src.models.lightning_classifier import Classifier

model = Classifier.load_from_checkpoint(sys.argv[1], weights_only=True).eval()
images, logits = torch.load("kept.pt", weights_only=True)
with torch.no_grad():
    print(torch.allclose(model(images), logits, rtol=0, atol=1e-6))
names = ("arch", "dims", "classes", "mean", "std", "network_args")
print(json.dumps({name: model.hparams[name] for name in names}))
"""

pytestmark = pytest.mark.slow


@dataclass
class Trained:
    """A short training: its files, and the predictions of another process from its checkpoint."""

    arch: str
    logs: Path
    checkpoint: Path
    loaded: list[str]


@pytest.fixture(scope="module", params=ARGUMENTS)
def trained(request, module_clone):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    file = module_clone.folder / "src/networks/wide.py"
    file.write_text(WIDE)
    short = ["--max_epochs=1", "--limit_train_batches=2", f"--experiment_name={request.param}"]
    train = ["-c", TRAIN, "--local", *ARGUMENTS[request.param], *short]
    done = module_clone.run(sys.executable, *train)
    assert done.returncode == 0, done.stderr
    logs = module_clone.folder / f"logs/{request.param}/version_0"
    [checkpoint] = logs.glob("checkpoints/best.ckpt")
    load = module_clone.run(sys.executable, "-c", LOAD, str(checkpoint))
    file.unlink()
    assert load.returncode == 0, load.stderr
    return Trained(request.param, logs, checkpoint, load.stdout.splitlines())


def described(trained, settings):
    """Compare settings with the network and the data of the training."""
    assert settings["arch"] == trained.arch
    assert settings["network_args"] == NETWORK_ARGS[trained.arch]
    grey = trained.arch == "wide"
    assert settings["dims"] == ([1, 28, 28] if grey else [3, 32, 32])
    for name, values in (GREY if grey else COLOURS).items():
        assert settings[name] == pytest.approx(values)
    assert len(settings["classes"]) == 10
    assert settings["classes"][3] == ("3 - three" if grey else "cat")


def test_a_checkpoint_needs_nothing_else_to_predict_the_same(trained):
    same, settings = trained.loaded

    assert same == "True"
    described(trained, json.loads(settings))


def test_a_checkpoint_contains_plain_values_that_describe_network_and_data(trained):
    held = torch.load(trained.checkpoint, weights_only=True, map_location="cpu")

    settings = held["hyper_parameters"]

    described(trained, settings)
    assert json.loads(json.dumps(settings)) == settings


def test_the_hyperparameters_are_plain_yaml(trained):
    settings = yaml.safe_load((trained.logs / "hparams.yaml").read_text())

    described(trained, settings)
    # the values from the command line are there too
    assert settings["max_epochs"] == 1
    assert settings["debugging"] == {"limit_train_batches": 2}
    assert settings["optimizer"] == ("SGD" if trained.arch == "wide" else "Adam")
    assert settings["experiment_name"] == trained.arch
    assert settings["run_number"] == 0
