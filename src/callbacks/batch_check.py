"""Check that the data and the network fit together before the training: see src/main.py."""

import math
import warnings
from copy import deepcopy
from functools import partial

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import DatasetFolder, ImageFolder
from torchvision.datasets.folder import default_loader

from src.utils.errors import UserError
from src.utils.targets import TARGET

NUM_IMAGES = 32
PARTS = {"train": "training", "val": "validation", "test": "test"}


class BatchCheck(L.Callback):
    """Refuses data and networks that would fail later, or train on wrong values.

    It checks a few images of each part, and draws none of the training's random numbers.
    """

    def on_fit_start(self, trainer, pl_module):
        check_monitors(trainer, pl_module.metric_names())
        data = trainer.datamodule
        with isolate_rng(include_cuda=False):  # augmentation draws random numbers
            data.setup("test")
            for part in PARTS:
                images, labels = check_part(data, part, pl_module)
            check_network(pl_module, images[:2])
            check_loss(pl_module, images, labels)


def check_monitors(trainer, known):
    """Check that callbacks and schedules follow metrics that exist.

    Raises:
        UserError: if one of them does not.
    """
    schedules = [config for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
    pairs = [("schedule", part) for part in schedules]
    pairs += [(f"callbacks: {type(part).__name__}", part) for part in trainer.callbacks]
    for what, part in pairs:
        monitor = getattr(part, "monitor", None)
        if monitor and monitor not in known:
            choices = ", ".join(known)
            raise UserError(f"{what}: monitor is {monitor}, but the metrics are {choices}")


def check_part(data, part, model):
    """Return some images of a part (b, c, h, w), and their labels.

    Raises:
        UserError: if the part cannot be used for a training.
    """
    where = f"{type(data).__module__.replace('.', '/')}.py"
    try:
        loader = getattr(data, f"{part}_dataloader")()
    except AttributeError as error:
        if error.name != f"{part}_set":
            raise
        raise UserError(f"{where}: setup creates no {part}_set") from None
    dataset = loader.dataset
    fault = next(folder_faults(dataset, data.classes), None) if len(dataset) else "it has no images"
    if not fault:
        # evenly spaced, so that images sorted by class give labels of all classes; not in the order
        # of the loader, whose generator the training may use too
        places = range(0, len(dataset), math.ceil(len(dataset) / NUM_IMAGES))
        [batch] = DataLoader(dataset, len(places), sampler=places, collate_fn=loader.collate_fn)
        fault = next(batch_faults(batch, data, model), None)
    if fault:
        raise UserError(f"{where}, {PARTS[part]} set: {fault}")
    return batch


def folder_faults(dataset, classes):
    """Yield a sentence if folders and classes differ, or if pixels have more than 8 bits."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    # a label is the position of a folder in their sorted list
    if isinstance(dataset, DatasetFolder) and dataset.classes != list(classes):
        found, expected = ", ".join(dataset.classes), ", ".join(classes)
        where = f"the folders in {dataset.root} are {found}"
        yield f"{where}, but the classes are {expected}: each part needs one folder per class"
    if isinstance(dataset, ImageFolder) and dataset.loader is default_loader:
        path, _ = dataset.samples[0]
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                remedy = "convert such files, or give ImageFolder a loader"
                yield f"{path} has {image.mode} pixels, which are cut off at 255: {remedy}"


def batch_faults(batch, data, model):
    """Yield a sentence for each thing that is wrong; the later ones rely on the earlier ones."""
    if len(batch) != 2 or not all(isinstance(item, torch.Tensor) for item in batch):
        yield "a batch must be a pair of tensors, images and labels"
    images, labels = batch
    if images.dtype != torch.float32:
        remedy = "scale them to 0 to 1, then apply mean and std"
        yield f"the images are {images.dtype}, but must be torch.float32: {remedy}"
    shape, dims = tuple(images.shape[1:]), tuple(data.dims)
    if shape != dims:
        remedy = "resize the images, or correct dims"
        yield f"the images have the shape {shape}, but dims is {dims}: {remedy}"
    yield from pixel_faults(images, data)
    yield from model.label_faults(labels)


def pixel_faults(images, data):
    low, high = images.min().item(), images.max().item()
    if not images.isfinite().all():
        yield "a pixel is nan or infinite"
    if low == high:
        yield f"all pixels of {len(images)} images are {low:g}: check how files are read"
    mean, std = (torch.tensor(values) for values in (data.mean or [0.0], data.std or [1.0]))
    if not {len(mean), len(std)} <= {1, len(images[0])}:
        yield f"mean and std need one value per channel, {len(images[0])}"
    pixels = images.cpu() * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    low, high = pixels.min().item(), pixels.max().item()
    # augmentation may exceed 0 to 1, but by far less than 8-bit or 16-bit numbers do
    if low < -10 or high > 10:
        span = f"{low:.3g} to {high:.3g}"
        yield f"before mean and std are applied, pixels are {span}, but must be 0 to 1"


def check_network(model, images):
    """Check that the network can process some images, and returns one score per class.

    Raises:
        UserError: if it cannot process them, or returns something else.
    """
    name, shape = type(model.network).__name__, tuple(images.shape)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            scores = model(images.to(model.device))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} cannot process images of shape {shape}: {reason}") from None
    model.train(was_training)
    found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    expected = (len(images), model.num_outputs)
    if found != expected:
        raise UserError(
            f"{name} turns images of shape {shape} into {found}, but must return scores of shape"
            f" {expected}, {model.per_image}"
        )


def check_loss(model, images, labels):
    """Check that the loss, and each metric of the settings, returns one number for these images.

    Raises:
        UserError: if one of them does not.
    """
    was_training = model.training
    model.eval()
    labels = model.as_target(labels.to(model.device))
    with torch.no_grad():
        outputs = model(images.to(model.device))
    model.train(was_training)
    path = model.hparams.loss[TARGET]
    check_number(f"loss: {path}", partial(model.loss, outputs, labels))
    for name, settings in (model.hparams.metrics or {}).items():
        metric = partial(deepcopy(model.val_metrics[f"val_{name}"]), outputs, labels)
        check_number(f"metrics.{name}: {settings[TARGET]}", metric)


def check_number(what, compute):
    """Raise a UserError that says what does not return one number."""
    try:
        with warnings.catch_warnings(action="ignore"):  # such as of classes that are absent here
            found = compute()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{what} cannot use these outputs and labels: {reason}") from None
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"{what} returns {shape}, but must return one number")
