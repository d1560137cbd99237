"""Network, loss, optimizer and metrics as the settings say: make test-fast."""

import json
import re
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from small_training import (
    ADAM,
    DIMS,
    LOSS,
    NETWORK,
    SmallData,
    SmallRegression,
    make_model,
    train,
    train_with_cuts,
)
from src.callbacks.batch_check import BatchCheck
from src.datasets.cifar10 import CIFAR10DataModule
from src.datasets.mnist import MNISTDataModule
from src.models.lightning_classifier import Classifier
from src.models.lightning_regressor import Regressor
from src.networks.build import build_network
from src.utils import targets
from src.utils.errors import UserError

CURVES = Path(__file__).parents[1] / "src/loss_curves"


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    monkeypatch.setattr(targets, "trusted", targets.trusted | {"small_training"})


def losses(model, data, steps):
    optimizer, found = model.configure_optimizers(), []
    for _, (images, labels) in zip(range(steps), data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        loss = model.loss(model(images.double()), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


NETWORKS = {
    "fully_connected": {"_target_": "src.networks.fully_connected.FullyConnected"},
    "resnet18": {"_target_": "src.networks.resnet.resnet", "arch": "resnet18"},
}


@pytest.mark.parametrize(
    ("arch", "optimizer", "kind"),
    [("resnet18", "Adam", CIFAR10DataModule), ("fully_connected", "SGD", MNISTDataModule)],
)
def test_the_losses_are_those_of_the_lesson_before(arch, optimizer, kind, sample_data):
    curve = [float(line) for line in (CURVES / f"{arch}-{optimizer}.txt").read_text().split()][:2]
    torch.manual_seed(1234)
    data = kind(sample_data, batch_size=64)
    data.setup("fit")
    torch.manual_seed(1234)
    model = make_model(
        network=NETWORKS[arch],
        dims=list(data.dims),
        classes=list(data.classes),
        loss={**LOSS, "label_smoothing": 0.0},
        optimizer={"_target_": f"torch.optim.{optimizer}", "lr": 0.001, "weight_decay": 0.0},
        schedule={"_target_": None, "warmup_epochs": 0.0},
    ).double()

    assert losses(model, data, len(curve)) == pytest.approx(curve, rel=1e-9)


# --- network


@pytest.mark.parametrize(
    ("name", "settings", "channels"),
    [
        ("mobilenet_v3_small", {}, 1),
        ("mobilenet_v3_small", {}, 3),
        ("mobilenet_v3_small", {"num_classes": 7}, 5),
        ("densenet121", {}, 1),
        ("squeezenet1_1", {}, 1),
        ("vit_b_32", {"image_size": 32}, 1),
    ],
)
def test_a_network_of_torchvision_is_fitted_to_the_data(name, settings, channels):
    settings = {"_target_": f"torchvision.models.{name}", **settings}

    network = build_network(settings, [channels, 32, 32], 7).eval()

    with torch.no_grad():
        assert network(torch.zeros(2, channels, 32, 32)).shape == (2, 7)


def test_a_network_that_fits_keeps_its_layers():
    torch.manual_seed(1)
    expected = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 7)).state_dict()
    torch.manual_seed(1)
    network = build_network({"_target_": "small_training.Unfitted"}, [3, 3, 3], 7)

    assert all(map(torch.equal, network.state_dict().values(), expected.values()))


def test_a_network_takes_what_its_arguments_name():
    settings = {"_target_": "small_training.Named", "width": 5}

    network = build_network(settings, [2, 8, 8], 7)

    assert (network.taken) == (2, 7, 5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"_target_": "torchvision.models.no_such"}, "has no attribute 'no_such'"),
        ({"_target_": "torchvision.models.resnet18", "depth": 3}, "argument 'depth'"),
        ({"_target_": "torchvision.models.googlenet", "init_weights": False}, "set aux_logits"),
        ({"_target_": "torch.nn.Flatten"}, "network: torch.nn.Flatten has no linear layer"),
        ({"_target_": "torchvision.models.list_models"}, "does not return a torch.nn.Module"),
        ({"_target_": "src.networks.resnet.resnet", "arch": "resnet19"}, "resnet19 is none of"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build_network(settings, [3, 32, 32], 7)


# --- loss


def test_label_smoothing_and_class_weights_change_the_loss():
    outputs, labels = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.1, 0.2]]), torch.tensor([0, 2])
    smooth = {**LOSS, "label_smoothing": 0.1}
    weights = [1.0, 2.0, 5.0]

    found = [
        make_model(loss=smooth).loss(outputs, labels),
        make_model(class_weights=weights).loss(outputs, labels),
        make_model(loss={"_target_": "torch.nn.MultiMarginLoss"}).loss(outputs, labels),
    ]

    cross_entropy = nn.functional.cross_entropy
    assert found == [
        cross_entropy(outputs, labels, label_smoothing=0.1),
        cross_entropy(outputs, labels, torch.tensor(weights)),
        nn.functional.multi_margin_loss(outputs, labels),
    ]
    assert len({loss.item() for loss in found}) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"class_weights": [1.0, 2.0]}, "class_weights: 2 numbers, but there are 3 classes"),
        ({"class_weights": [1.0] * 3, "loss": {"_target_": "torch.nn.MSELoss"}}, "no argument wei"),
        ({"loss": {**LOSS, "smoothing": 0.1}}, "unexpected keyword argument 'smoothing'"),
        ({"classes": ["one"]}, "at least two classes"),
        ({"metrics": {"acc": {"_target_": "torchmetrics.Accuracy"}}}, "metrics.acc: the model has"),
        ({"metrics": {"a": {"_target_": "torchmetrics.Acc"}}}, "no attribute 'Acc'"),
    ],
)
def test_settings_of_a_model_that_cannot_be_used_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make_model(**settings)


# --- optimizer


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("settings", [{"weight_decay": 0.1}, {"_target_": "torch.optim.AdamW"}])
def test_weight_decay_leaves_out_norms_and_biases(settings, decay_all):
    model = make_model(optimizer={**ADAM, **settings}, decay_all=decay_all)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)

    model.configure_optimizers().step()

    for name, parameter in model.named_parameters():
        decays = decay_all or parameter.ndim > 1
        assert (parameter < 1).all() == decays, name
        assert (parameter == 1).all() == (not decays), name


def test_without_weight_decay_there_is_one_group_of_parameters():
    optimizer = make_model().configure_optimizers()

    assert len(optimizer.param_groups) == 1
    assert optimizer.defaults["fused"] is True
    slow = make_model(optimizer={**ADAM, "foreach": True}).configure_optimizers()
    assert slow.defaults["fused"] is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"learning_rate": 0.1}, "torch.optim.Adam: .*unexpected keyword argument"),
        ({"lr": -1.0}, "Invalid learning rate"),
        ({"_target_": "torch.nn.Linear", "out_features": 1}, "torch.nn.Linear"),
        ({"_target_": "os.system"}, "os.system is not in a trusted package"),
    ],
)
def test_settings_of_an_optimizer_that_cannot_be_used_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make_model(optimizer={**ADAM, **settings}).configure_optimizers()


# --- a whole training

METRICS = {"auroc": {"_target_": "torchmetrics.AUROC"}}


def test_a_classifier_is_trained_and_loaded(tmp_path, caplog):
    settings = {"metrics": METRICS, "class_weights": [1.0, 2.0, 1.0]}

    run = train_with_cuts(tmp_path, caplog, model=settings)

    assert {f"test_{name}" for name in ("loss", "acc", "precision", "recall", "f1", "auroc")} == {
        *run.test
    }
    assert {"train_auroc", "val_auroc", "lr"} <= run.trace.metrics.keys()
    number = r"\d\.\d{4}"
    assert len(run.lines) == 3
    epoch = rf"epoch  1/3  train loss {number} acc {number}  val loss {number} acc {number}"
    assert re.fullmatch(epoch, run.lines[0])
    assert Classifier.monitor == "val_acc"
    best = run.trainer.checkpoint_callback.best_model_path
    loaded = Classifier.load_from_checkpoint(best, weights_only=True).eval()
    images = torch.rand(2, *DIMS)
    run.model.load_state_dict(run.best["state_dict"])
    assert torch.equal(loaded(images), run.model.eval()(images))
    settings = run.best["hyper_parameters"]
    assert json.loads(json.dumps(settings)) == {**settings, "mean": [], "std": []}
    assert settings["network"] == NETWORK


def test_a_regressor_is_trained_and_loaded(tmp_path, caplog):
    settings = {
        "kind": Regressor,
        "targets": list(SmallRegression.targets),
        "loss": {"_target_": "torch.nn.MSELoss"},
        "metrics": {"error": {"_target_": "torchmetrics.MeanAbsolutePercentageError"}},
    }

    run = train(tmp_path, caplog, model=settings, data=SmallRegression)

    assert run.test.keys() == {f"test_{name}" for name in ("loss", "mae", "rmse", "r2", "error")}
    assert run.test["test_rmse"] == pytest.approx(run.test["test_loss"] ** 0.5)
    assert run.lines[-1].startswith("epoch  3/3  train loss")
    assert " mae " in run.lines[-1]
    [best] = [state for key, state in run.best["callbacks"].items() if "ModelCheckpoint" in key]
    assert "val_rmse" in best["monitor"]
    path = run.trainer.checkpoint_callback.best_model_path
    loaded = Regressor.load_from_checkpoint(path, weights_only=True)
    assert loaded(torch.zeros(4, *DIMS)).shape == (4, 1)


class Mistakes(SmallData):
    def labels(self, labels):
        return labels + 1


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [
        ({"loss": {**LOSS, "reduction": "none"}}, SmallData, "must return one number"),
        ({"loss": {"_target_": "torch.nn.MSELoss"}}, SmallData, "loss: torch.nn.MSELoss cannot"),
        (
            {"metrics": {"each": {"_target_": "torchmetrics.ConfusionMatrix"}}},
            SmallData,
            r"metrics.each: torchmetrics.ConfusionMatrix returns \(3, 3\)",
        ),
        (
            {"metrics": {"error": {"_target_": "torchmetrics.MeanSquaredError"}}},
            SmallData,
            "metrics.error: torchmetrics.MeanSquaredError cannot use these outputs and labels",
        ),
        ({}, Mistakes, "a label is 3, but the labels of 3 classes are 0 to 2"),
        ({"kind": Regressor, "loss": {"_target_": "torch.nn.MSELoss"}}, SmallData, "float32"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_before_the_training(model, data, sentence):
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.datamodule = data(None)

    with pytest.raises(UserError, match=sentence):
        BatchCheck().on_fit_start(trainer, make_model(**model))
