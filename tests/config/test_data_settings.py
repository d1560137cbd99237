"""Settings of the data: augmentation, balanced sampling, folds, class weights: make test-fast."""

import inspect
import sys
from contextlib import suppress
from itertools import chain
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import Subset, TensorDataset

from clone import ROOT
from src.callbacks.exact_state import ExactState
from src.datasets.image_data_module import ImageDataModule
from src.utils.data_shares import TrainingSampler
from src.utils.errors import UserError
from src.utils.splits import balanced_order, balanced_weights, labels_of, stratified
from src.utils.targets import find_target, instantiate

DIMS = (3, 6, 6)
CLASSES = ("daisy", "rose", "violet")
COUNTS = (3, 30, 90)  # images of each class
ROTATION = {"_target_": "torchvision.transforms.v2.RandomRotation", "degrees": 30}
MIRROR = {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1.0}


class Flowers(ImageDataModule):
    """123 images, of which the first three pixels are their number."""

    dims, classes = DIMS, CLASSES
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    shift, mirror = 2, False

    def prepare_data(self):
        pass

    def read(self, train):
        labels = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
        images = torch.randint(
            256, (len(labels), *DIMS), generator=torch.Generator().manual_seed(0)
        )
        images[:, :, 2, 2] = torch.arange(len(labels))[:, None]
        return images.to(torch.uint8), labels


def flowers(**settings):
    data = Flowers("none", **{"batch_size": 10, **settings})
    data.setup("fit")
    return data


def epoch(data, number=0, batches=0):
    """Return the images and the labels of the batches in an epoch, or in the rest of one."""
    data.position = {"epoch": number, "batches": batches}
    return [(images, labels) for images, labels in data.train_dataloader()]


def same(first, second):
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


def refusal(**settings):
    with pytest.raises(UserError) as error:
        flowers(**settings).train_dataloader()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- augmentation


def test_a_transform_changes_training_images_only_and_replaces_the_own_augmentation():
    plain, mirrored = flowers(transform=[]), flowers(transform=[MIRROR])

    assert torch.equal(mirrored.train_set[5][0], plain.train_set[5][0].flip(-1))
    assert torch.equal(mirrored.val_set[5][0], plain.val_set[5][0])
    # without a border of the crops
    assert all(torch.equal(plain.train_set[5][0], plain.train_set[5][0]) for _ in range(5))
    own = flowers()
    assert len({own.train_set[5][0].sum().item() for _ in range(20)}) > 1


def test_each_image_of_a_batch_gets_its_own_random_transform():
    data = flowers(transform=[ROTATION])
    torch.manual_seed(0)

    images, _ = data.train_set.__getitems__([4] * 20)

    assert len({image.sum().item() for image in images}) > 5


@pytest.mark.parametrize("settings", [{"transform": [ROTATION]}, {"balanced": True}, {}])
def test_random_numbers_depend_on_seed_epoch_and_batch_only(settings):
    data = flowers(**settings)
    whole = epoch(data)

    torch.manual_seed(99)
    assert same(epoch(flowers(**settings, num_workers=2)), whole)
    for batches in (1, 5, len(whole)):
        assert same(epoch(flowers(**settings), batches=batches), whole[batches:])
    assert not same(epoch(data, 1), whole)
    assert not same(epoch(flowers(**settings, seed=2)), whole)


def test_a_float_image_is_taken_as_it_is():
    to_float = {
        "_target_": "torchvision.transforms.v2.ToDtype",
        "dtype": torch.float32,
        "scale": True,
    }

    assert torch.equal(
        flowers(transform=[to_float]).train_set[5][0], flowers(transform=[]).train_set[5][0]
    )


@pytest.mark.parametrize(
    ("path", "arguments", "sentence"),
    [
        (
            "Resize",
            {"size": [4, 4]},
            "transform turns an image (3, 6, 6) into (3, 4, 4): the result must be an image"
            " (3, 6, 6)",
        ),
        (
            "ToPILImage",
            {},
            "transform turns an image (3, 6, 6) into Image: the result must be an image (3, 6, 6)",
        ),
        ("Normalize", {"mean": [0.5], "std": [0.5]}, "transform failed on an image (3, 6, 6): "),
    ],
)
def test_a_transform_that_does_not_return_the_image_is_refused(path, arguments, sentence):
    data = flowers(transform=[{"_target_": f"torchvision.transforms.v2.{path}", **arguments}])

    with pytest.raises(UserError) as error:
        data.train_dataloader().dataset.__getitems__([3, 1])

    assert str(error.value).startswith(sentence)


# --- balanced sampling


@pytest.mark.parametrize("num_processes", [1, 2])
def test_balanced_sampling_shows_each_class_equally_often(num_processes):
    data, shown = flowers(balanced=True, batch_size=10 // num_processes), []
    for rank in range(num_processes):
        data.trainer = SimpleNamespace(world_size=num_processes, global_rank=rank)
        shown += [labels for _, labels in epoch(data)]

    counts = torch.bincount(torch.cat(shown)).tolist()

    assert sum(counts) == 110  # of 111 training images
    assert max(counts) - min(counts) <= 1
    usual = torch.bincount(torch.cat([labels for _, labels in epoch(flowers())])).tolist()
    assert max(usual) - min(usual) > 50


def test_all_images_of_a_class_are_used_before_one_is_used_again():
    labels = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))

    order = torch.tensor(balanced_order(labels, torch.Generator().manual_seed(1)))

    assert len(order.unique()) == len(order) == 123
    images, uses = order % 123, order // 123
    assert labels[images].bincount().tolist() == [41, 41, 41]
    assert sorted(images[labels[images] == 0].bincount().tolist()) == [13, 14, 14]
    assert uses[labels[images] == 0].bincount().tolist() == [*[3] * 13, 2]
    assert not uses[labels[images] == 2].any()


def test_an_image_that_is_used_again_gets_other_crops():
    data = flowers(balanced=True, batch_size=1)

    crops = [images for images, labels in epoch(data) if labels[0] == 0]

    assert len(crops) == 37
    assert len({crop.sum().item() for crop in crops}) > 20


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_the_processes_divide_the_balanced_epoch_of_one_process(num_processes):
    _, labels = Flowers("none").read(True)

    def order(count, rank):
        dataset = Subset(labels, range(123))
        return list(TrainingSampler(dataset, count, rank, 1, 3, 0, labels))

    shares = [order(num_processes, rank) for rank in range(num_processes)]
    together = [place for step in zip(*shares, strict=True) for place in step]

    assert together[:123] == order(1, 0)
    assert len(together) == -(-123 // num_processes) * num_processes


# --- folds


def test_each_image_is_a_validation_image_of_one_fold():
    parts = [flowers(folds=5, fold=fold) for fold in range(5)]

    val = [labels_of(part.val_set) for part in parts]
    numbers = [part.split(123, part.read(True)[1])[1] for part in parts]

    assert sorted(chain.from_iterable(numbers)) == list(range(123))
    assert {len(part.train_set) + len(part.val_set) for part in parts} == {123}
    assert {len(labels) for labels in val} == {24, 25}
    # each fold has its share of every class
    counts = torch.stack([labels.bincount(minlength=3) for labels in val])
    assert (counts.max(dim=0).values - counts.min(dim=0).values).tolist() == [1, 0, 0]


def test_folds_depend_on_the_seed_and_not_on_val_split():
    def fold(**settings):
        return Flowers("none", folds=4, **settings).split(100)

    assert fold() == fold(val_split=0.5) != fold(seed=2)
    assert fold(fold=0) != fold(fold=1)


def test_without_folds_the_split_is_that_of_random_split():
    generator = torch.Generator().manual_seed(1234)
    expected = torch.utils.data.random_split(range(123), [0.9, 0.1], generator)

    assert Flowers("none").split(123) == [part.indices for part in expected]


def test_a_share_of_each_class_is_drawn():
    labels = torch.tensor([0] * 100 + [1] * 10 + [2] * 2 + [3])

    left, drawn = stratified(labels, 0.2, seed=1)

    assert labels[drawn].bincount(minlength=4).tolist() == [20, 2, 1, 0]
    assert sorted(left + drawn) == list(range(113))
    assert stratified(labels, 0.2, seed=1) == (left, drawn) != stratified(labels, 0.2, seed=2)


# --- class counts and weights


def test_class_counts_are_those_of_the_training_images():
    data, before = Flowers("none", folds=3), torch.get_rng_state()

    assert data.class_counts() == [2, 20, 60]
    assert torch.equal(torch.get_rng_state(), before)
    assert data.class_counts() == labels_of(data.train_set).bincount().tolist()


def test_class_counts_are_found_in_any_data_set():
    data, labels = flowers(), torch.tensor([2, 0, 2, 1])
    images = torch.rand(4, *DIMS)

    for dataset, expected in [
        (TensorDataset(images, labels), [1, 1, 2]),
        (Subset(TensorDataset(images, labels), [0, 2]), [0, 0, 2]),
        (SimpleNamespace(targets=[1, 1, 0]), [1, 2, 0]),
        ([(image, int(label)) for image, label in zip(images, labels, strict=True)], [1, 1, 2]),
    ]:
        data.train_set = dataset
        assert data.class_counts() == expected


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)

    assert balanced_weights(COUNTS, CLASSES) == pytest.approx(expected.tolist())


def test_balanced_weights_need_images_of_every_class():
    with pytest.raises(UserError) as error:
        balanced_weights([3, 0, 1], CLASSES)

    assert str(error.value) == (
        "balanced weights need training images of every class, but not of rose"
    )


# --- settings that are refused

REFUSED = {
    "data.val_split must be a share between 0 and 1, not 1": {"val_split": 1},
    "data.val_split must be a share between 0 and 1, not nan": {"val_split": float("nan")},
    "data.val_split must be a share between 0 and 1, not '0.1'": {"val_split": "0.1"},
    "data.balanced must be true or false, not 'no'": {"balanced": "no"},
    "data.folds must be null or a number of parts from 2, not 1": {"folds": 1},
    "data.folds must be null or a number of parts from 2, not 2.0": {"folds": 2.0},
    "data.folds must be null or a number of parts from 2, not True": {"folds": True},
    "data.fold must be the number of a part, from 0, not -1": {"folds": 3, "fold": -1},
    "data.fold is 1, but data.folds is not set: set the number of parts": {"fold": 1},
    "data.fold must be 0 to 2 with data.folds=3, not 3": {"folds": 3, "fold": 3},
    "folds is 124, but there are only 123 training images": {"folds": 124},
    "data.transform must be a list of transforms, each with its _target_, but contains 'flip'": {
        "transform": ["flip"]
    },
    "no_package.Flip is not in a trusted package": {"transform": [{"_target_": "no_package.Flip"}]},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_setting_that_is_not_valid_is_refused(sentence):
    assert refusal(**REFUSED[sentence]).startswith(sentence)


@pytest.mark.parametrize("settings", [{"transform": [MIRROR]}, {"folds": 3}])
def test_a_setting_that_a_setup_ignores_is_refused(monkeypatch, settings):
    def setup(self, stage):
        self.train_set = TensorDataset(torch.rand(9, *DIMS), torch.arange(9) % 3)

    monkeypatch.setattr(Flowers, "setup", setup)
    [name] = settings

    assert refusal(**settings) == f"data.{name} has no effect: setup of Flowers ignores it"
    flowers().train_dataloader()


def test_numbers_cannot_be_balanced(monkeypatch):
    read = Flowers.read
    monkeypatch.setattr(Flowers, "read", lambda *args: (read(*args)[0], read(*args)[1].float()))

    sentence = "the labels are numbers, not classes: there is nothing to balance"
    assert refusal(balanced=True) == sentence


# --- an interrupted training


class Cut(L.Callback):
    """Notes the images and the loss of each step; ends the training after a step."""

    def __init__(self, step, file):
        self.step, self.file, self.steps = step, file, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        self.steps.append((images.sum().item(), labels.tolist(), outputs["loss"].item()))
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.file)
            raise Interrupted


class Interrupted(Exception):
    pass


class Model(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 3))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def train(file, cut=0, resume=False, **settings):
    torch.manual_seed(1)
    data, noted = Flowers("none", batch_size=10, **settings), Cut(cut, file)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[noted, ExactState()],
    )
    model = Model()
    ckpt = {"ckpt_path": file, "weights_only": True} if resume else {}
    with suppress(Interrupted):
        trainer.fit(model, datamodule=data, **ckpt)
    return noted.steps


@pytest.mark.parametrize(
    "settings", [{"transform": [ROTATION]}, {"balanced": True}, {"folds": 3, "fold": 1}]
)
def test_a_training_continues_within_an_epoch_with_the_same_steps(tmp_path, settings):
    file = tmp_path / "cut.ckpt"
    whole = train(file, **settings)

    for cut in (4, 11, 13):
        steps = train(file, cut, **settings) + train(file, resume=True, **settings)
        assert steps == whole


# --- the files in configs/data


def test_a_package_that_is_missing_is_named_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pl_bolts", None)
    monkeypatch.delitem(sys.modules, "src.datasets.bolts", raising=False)
    settings = yaml.safe_load((ROOT / "configs/data/bolts.yaml").read_text())

    with pytest.raises(UserError) as error:
        instantiate(settings)

    remedy = "install requirements-bolts.txt in an environment of its own"
    assert str(error.value) == f"src/datasets/bolts.py needs pl_bolts: {remedy}"
    settings = settings.keys() - {"_target_"}
    assert settings == inspect.signature(ImageDataModule).parameters.keys() - {"seed", "pin_memory"}


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_a_configuration_builds_the_data_that_its_class_builds_by_default(name, sample_data):
    settings = yaml.safe_load((ROOT / f"configs/data/{name}.yaml").read_text())

    data = instantiate({**settings, "data_dir": sample_data}, seed=1234)

    usual = find_target(settings["_target_"])(sample_data)
    for each in (data, usual):
        each.setup("fit")
    assert same(epoch(data)[:2], epoch(usual)[:2])
