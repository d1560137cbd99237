"""Every file of configs/ that describes a part of the model can be used: make test-fast."""

import pytest
import yaml

from clone import ROOT
from small_training import make_model, train
from src.models.image_model import ImageModel
from src.networks.build import build_network
from src.networks.resnet import NAMES
from src.utils import targets
from src.utils.targets import find_target, instantiate


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})


def files(group):
    return sorted((ROOT / "configs" / group).glob("*.yaml"))


def name(file):
    return file.stem


def read(file):
    return yaml.safe_load(file.read_text()) or {}


@pytest.mark.parametrize("file", files("network"), ids=name)
def test_a_network(file):
    settings = read(file)

    if "arch" in settings:
        assert settings["arch"] == file.stem
        assert file.stem in NAMES
    else:
        build_network(settings, [1, 28, 28], 10)


@pytest.mark.parametrize("file", files("model"), ids=name)
def test_a_task(file):
    assert issubclass(find_target(read(file)["_target_"]), ImageModel)


@pytest.mark.parametrize("file", files("loss"), ids=name)
def test_a_loss(file):
    make_model(loss=read(file))


@pytest.mark.parametrize("file", files("optimizer"), ids=name)
def test_an_optimizer(file):
    make_model(optimizer=read(file)).configure_optimizers()


@pytest.mark.parametrize("file", files("schedule"), ids=name)
@pytest.mark.parametrize("optimizer", files("optimizer")[-2:], ids=name)
def test_a_schedule(file, optimizer, tmp_path, caplog):
    settings = {"schedule": read(file), "optimizer": read(optimizer)}

    train(tmp_path, caplog, model=settings, max_epochs=1, limit_train_batches=2)


@pytest.mark.parametrize("file", files("callbacks"), ids=name)
def test_callbacks(file):
    for settings in read(file).values():
        instantiate(settings)
