"""A training that begins with the weights of another one: make test-fast."""

import hashlib
import logging
from types import SimpleNamespace

import pytest
import torch
import torchvision

from small_training import CLASSES, make_model, train
from src.models.warm_start import load_initial_weights
from src.utils import targets
from src.utils.errors import UserError

RESNET = {"_target_": "src.networks.resnet.resnet", "arch": "resnet18"}


@pytest.fixture(autouse=True)
def trusted(monkeypatch, caplog):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})
    caplog.set_level(logging.INFO, "src")


def test_weights_of_a_checkpoint_are_loaded_but_for_another_number_of_classes(tmp_path, caplog):
    run = train(tmp_path, caplog, max_epochs=1)
    path = run.trainer.checkpoint_callback.best_model_path
    caplog.clear()
    model = make_model(classes=[*CLASSES, "none"])
    head = model.network[6].weight.clone()

    load_initial_weights(model, path)

    assert torch.equal(model.network[0].weight, run.best["state_dict"]["network.0.weight"])
    assert torch.equal(model.network[1].running_mean, run.model.network[1].running_mean)
    assert torch.equal(model.network[6].weight, head)
    assert caplog.messages == [
        f"init_from {path}: loaded 7 of 9 tensors; initial: 6.weight (4, 16), 6.bias (4,)",
        f"init_from {path}: left out 2 tensors of the file: 6.weight (3, 16), 6.bias (3,)",
    ]


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_file_of_weights_is_loaded(wrap, prefix, tmp_path, caplog):
    state = make_model().network.state_dict()
    torch.save(wrap({prefix + name: part for name, part in state.items()}), tmp_path / "w.pth")
    model = make_model()

    load_initial_weights(model, str(tmp_path / "w.pth"))

    assert all(map(torch.equal, model.network.state_dict().values(), state.values()))
    assert [text.partition(": ")[2] for text in caplog.messages] == [
        "loaded 9 of 9 tensors; initial: none",
        "left out 0 tensors of the file: none",
    ]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_of_imagenet_are_loaded(channels, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()[:8]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "made.pth").rename(tmp_path / f"hub/checkpoints/resnet18-{digest}.pth")
    url = f"https://example.org/resnet18-{digest}.pth"
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url=url))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda arch: weights)
    model = make_model(network=RESNET, dims=[channels, 32, 32])

    load_initial_weights(model, "imagenet")

    assert torch.equal(model.network.layer4[1].conv2.weight, network.layer4[1].conv2.weight)
    expected = {1: network.conv1.weight.sum(dim=1, keepdim=True), 3: network.conv1.weight}
    if channels in expected:
        assert torch.equal(model.network.conv1.weight, expected[channels])
    loaded = 120 - (channels == 4)
    assert f"loaded {loaded} of 122 tensors; initial: " in caplog.messages[0]
    assert "fc.weight (1000, 512), fc.bias (1000,)" in caplog.messages[1]


def test_weights_that_cannot_be_loaded_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"code": print}, tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no weights")
    sentences = {
        str(tmp_path / "none.pt"): "there is no file",
        str(tmp_path): "there is no file",
        str(tmp_path / "other.pt"): "fits the network: its names are a, not 0.weight",
        str(tmp_path / "list.pt"): "fits the network: its names are none, not",
        str(tmp_path / "code.pt"): "code.pt is no file of weights",
        str(tmp_path / "text.pt"): "text.pt is no file of weights",
        "imagenet": "imagenet is for resnet18, resnet34, .*; for SmallNetwork, give a file",
    }

    for path, sentence in sentences.items():
        with pytest.raises(UserError, match=sentence):
            load_initial_weights(make_model(), path)


def test_without_a_cached_file_the_weights_of_imagenet_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    with pytest.raises(UserError, match=r"is missing; run .* or leave init_from out"):
        load_initial_weights(make_model(network=RESNET, dims=[3, 32, 32]), "imagenet")
