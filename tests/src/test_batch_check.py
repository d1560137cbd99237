"""src/callbacks/batch_check.py: data and networks that do not fit together: make test-fast."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from src.callbacks.batch_check import BatchCheck
from src.datasets.cifar10 import CIFAR10DataModule
from src.datasets.image_data_module import ImageDataModule
from src.models.lightning_classifier import Classifier
from src.utils.errors import UserError

HERE = f"{__name__.replace('.', '/')}.py"
DIMS = (3, 8, 8)


def images(count=6):
    return (torch.rand(count, *DIMS) - 0.5) / 0.25


def labels(count=6):
    return torch.arange(count) % 3


class Photos(ImageDataModule):
    dims, classes = DIMS, ("daisy", "rose", "violet")
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def setup(self, stage):
        for part in ("train", "val") if stage == "fit" else ("test",):
            setattr(self, f"{part}_set", self.dataset(part))

    def dataset(self, part):
        return TensorDataset(images(), labels())


def model(network=None):
    made = Classifier("fully_connected", DIMS, Photos.classes)
    if network:
        made.network = network
    return made


def check(data, network=None):
    data.setup("fit")
    BatchCheck().on_fit_start(SimpleNamespace(datamodule=data), model(network))


def refusal(data, network=None):
    with pytest.raises(UserError) as error:
        check(data, network)
    return str(error.value)


def photos_with(monkeypatch, part, dataset):
    """Return a data module of which one part is another data set."""
    usual = Photos.dataset
    monkeypatch.setattr(
        Photos, "dataset", lambda self, name: dataset if name == part else usual(self, name)
    )
    return Photos("data")


def test_what_fits_together_is_accepted():
    check(Photos("data"))


def with_nan(pixels):
    pixels[0, 0, 0, 0] = float("nan")
    return pixels


FAULTS = {
    "bytes": (
        (torch.zeros(6, *DIMS, dtype=torch.uint8), labels()),
        "the images are torch.uint8, but must be torch.float32: scale them to 0 to 1, then apply"
        " mean and std",
    ),
    "16-bit numbers": (
        (torch.full((6, *DIMS), 40000, dtype=torch.uint16), labels()),
        "the images are torch.uint16, but must be torch.float32: scale them to 0 to 1, then apply"
        " mean and std",
    ),
    "float64": (
        (images().double(), labels()),
        "the images are torch.float64, but must be torch.float32: scale them to 0 to 1, then apply"
        " mean and std",
    ),
    "another size": (
        (torch.rand(6, 3, 9, 8), labels()),
        "the images have the shape (3, 9, 8), but dims is (3, 8, 8): resize the images, or correct"
        " dims",
    ),
    "grey images": (
        (torch.rand(6, 1, 8, 8), labels()),
        "the images have the shape (1, 8, 8), but dims is (3, 8, 8): resize the images, or correct"
        " dims",
    ),
    "channels last": (
        (torch.rand(6, 8, 8, 3), labels()),
        "the images have the shape (8, 8, 3), but dims is (3, 8, 8): resize the images, or correct"
        " dims",
    ),
    "constant images": (
        (torch.ones(6, *DIMS), labels()),
        "all pixels of 6 images are 1: check how files are read",
    ),
    "nan": ((with_nan(images()), labels()), "a pixel is nan or infinite"),
    "unscaled numbers": (
        (torch.arange(6 * 3 * 8 * 8).view(6, *DIMS).float() * 4, labels()),
        "before mean and std are applied, pixels are 0.5 to 1.15e+03, but must be 0 to 1",
    ),
    "a label too large": (
        (images(), torch.tensor([0, 1, 2, 3, 0, 1])),
        "a label is 3, but the labels of 3 classes are 0 to 2",
    ),
    "a negative label": (
        (images(), torch.tensor([0, 1, 2, -100, 0, 1])),
        "a label is -100, but the labels of 3 classes are 0 to 2",
    ),
    "one-hot labels": (
        (images(), torch.eye(3).repeat(2, 1)),
        "the labels are torch.float32 of shape (6, 3), but must be torch.int64 of shape (6,)",
    ),
    "no labels": ((images(),), "a batch must be a pair of tensors, images and labels"),
}


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_that_would_train_on_wrong_values_is_refused(monkeypatch, part, fault):
    tensors, sentence = FAULTS[fault]
    name = {"train": "training", "val": "validation", "test": "test"}[part]

    message = refusal(photos_with(monkeypatch, part, TensorDataset(*tensors)))

    assert message == f"{HERE}, {name} set: {sentence}"


def test_a_training_set_without_images_is_refused(monkeypatch):
    message = refusal(photos_with(monkeypatch, "train", TensorDataset(images(0), labels(0))))

    assert message == f"{HERE}, training set: it has no images"


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_part_that_setup_does_not_make_is_named(monkeypatch, part):
    usual = Photos.setup

    def without(self, stage):
        usual(self, stage)
        self.__dict__.pop(f"{part}_set", None)

    monkeypatch.setattr(Photos, "setup", without)

    assert refusal(Photos("data")) == f"{HERE}: setup creates no {part}_set"


def test_a_mean_of_another_number_of_channels_is_refused(monkeypatch):
    monkeypatch.setattr(Photos, "mean", (0.5, 0.5))

    assert refusal(Photos("data")).endswith("mean and std need one value per channel, 3")


# --- images in memory


@pytest.mark.parametrize(
    ("pixels", "count", "found"),
    [
        (torch.zeros(6, *DIMS, dtype=torch.uint16), 6, "torch.uint16 (6, 3, 8, 8) and 6 labels"),
        (torch.zeros(6, *DIMS), 6, "torch.float32 (6, 3, 8, 8) and 6 labels"),
        (torch.zeros(6, 8, 8, 3, dtype=torch.uint8), 6, "torch.uint8 (6, 8, 8, 3) and 6 labels"),
        (torch.zeros(6, 64, dtype=torch.uint8), 6, "torch.uint8 (6, 64) and 6 labels"),
        (torch.zeros(6, *DIMS, dtype=torch.uint8), 7, "torch.uint8 (6, 3, 8, 8) and 7 labels"),
        (np.zeros((6, *DIMS), np.uint8), 6, "uint8 (6, 3, 8, 8) and 6 labels"),
    ],
)
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_images_in_memory_must_be_bytes_of_the_right_shape(stage, pixels, count, found):
    class InMemory(ImageDataModule):
        dims, mean, std = DIMS, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

        def read(self, train):
            return pixels, labels(count)

    with pytest.raises(UserError) as error:
        InMemory("data").setup(stage)

    assert str(error.value) == (
        f"read of InMemory returned images {found}, but must return torch.uint8 (n, 3, 8, 8) and"
        " n labels"
    )


# --- folders of classes


def image_folder(root, *classes):
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(root / name / "1.png")
    return ImageFolder(root, ToTensor())


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_folder_that_lacks_a_class_is_named(monkeypatch, tmp_path, part):
    dataset = image_folder(tmp_path / "photos", "rose", "violet")

    message = refusal(photos_with(monkeypatch, part, Subset(Subset(dataset, [0, 1]), [1, 0])))

    assert message.endswith(
        f" set: the folders in {tmp_path}/photos are rose, violet, but the classes are daisy,"
        " rose, violet: each part needs one folder per class"
    )


def test_classes_in_another_order_than_the_folders_are_refused(monkeypatch, tmp_path):
    dataset = image_folder(tmp_path / "photos", "daisy", "rose", "violet")
    monkeypatch.setattr(Photos, "classes", ("violet", "rose", "daisy"))

    message = refusal(photos_with(monkeypatch, "train", dataset))

    assert "are daisy, rose, violet, but the classes are violet, rose, daisy: " in message


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint16, "I;16"), (np.float32, "F")])
def test_image_files_with_more_than_8_bits_are_refused(monkeypatch, tmp_path, dtype, mode):
    pixels = np.random.default_rng(0).integers(0, 60000, (8, 8))
    for name in Photos.classes:
        (tmp_path / name).mkdir()
        Image.fromarray(pixels.astype(dtype)).save(tmp_path / name / "0.tif")

    message = refusal(photos_with(monkeypatch, "train", ImageFolder(tmp_path, ToTensor())))

    assert message == (
        f"{HERE}, training set: {tmp_path}/daisy/0.tif has {mode} pixels, which are cut off at"
        " 255: convert such files, or give ImageFolder a loader"
    )


def test_the_folders_of_the_classes_are_accepted(monkeypatch, tmp_path):
    check(photos_with(monkeypatch, "test", image_folder(tmp_path, "daisy", "rose", "violet")))


# --- the network


class SmallNetwork(nn.Sequential):
    """Has a layer for images of 10 x 10 pixels, or returns other scores."""


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (nn.Linear(300, 3), "SmallNetwork cannot process images of shape (2, 3, 8, 8): mat1 and"),
        (nn.Linear(192, 10), "SmallNetwork turns images of shape (2, 3, 8, 8) into (2, 10), but"),
        (nn.Unflatten(1, DIMS), "SmallNetwork turns images of shape (2, 3, 8, 8) into (2, 3, 8,"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(layer, sentence):
    message = refusal(Photos("data"), SmallNetwork(nn.Flatten(), layer))

    assert message.startswith(sentence)
    assert "\n" not in message
    if "into" in sentence:
        assert message.endswith("must return scores of shape (2, 3), one per image and class")


def test_a_mistake_in_the_network_keeps_its_traceback():
    class Broken(nn.Module):
        def forward(self, images):
            return self.no_such_layer(images)

    with pytest.raises(AttributeError):
        check(Photos("data"), Broken())


@pytest.mark.parametrize("classes", [(), ("rose",)])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(UserError) as error:
        Classifier("fully_connected", DIMS, classes)

    assert str(error.value) == (
        f"a classifier needs at least two classes, not {len(classes)}: to recognise one kind of"
        " image, add a second class of other images"
    )


# --- the training that follows


def drawn():
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_a_generator_that_a_data_module_keeps_is_not_used(monkeypatch):
    def train_dataloader(self):
        return DataLoader(self.train_set, 2, shuffle=True, generator=self.generator)

    monkeypatch.setattr(Photos, "train_dataloader", train_dataloader)
    data = Photos("data")
    before = data.generator.get_state()

    check(data)

    assert torch.equal(data.generator.get_state(), before)


def test_images_that_are_sorted_by_class_are_all_represented(monkeypatch):
    wrong = torch.tensor([0] * 100 + [1] * 100 + [2] * 100 + [3] * 100)

    message = refusal(photos_with(monkeypatch, "train", TensorDataset(images(400), wrong)))

    assert message.endswith("a label is 3, but the labels of 3 classes are 0 to 2")


def test_the_check_does_not_change_the_training(sample_data):
    data = CIFAR10DataModule(sample_data, batch_size=64)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3072), nn.Dropout(), nn.Linear(3072, 10))
    classifier = Classifier("fully_connected", data.dims, data.classes)
    classifier.network = network
    batches, numbers, weights = [], [], []
    for checked in (False, True):
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        data.setup("fit")
        if checked:
            BatchCheck().on_fit_start(SimpleNamespace(datamodule=data), classifier)
        numbers.append(drawn())
        batches.append(next(iter(data.train_dataloader())))
        weights.append({name: value.clone() for name, value in network.state_dict().items()})

    assert numbers[0] == numbers[1]
    assert all(map(torch.equal, *batches))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert classifier.training
