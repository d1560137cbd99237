"""Parts of a training set, and its classes: see src/datasets/image_data_module.py."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from src.utils.errors import UserError

Parts = tuple[list[int], list[int]]  # the indices of the training and of the validation images


def k_fold(labels: Tensor | int, folds: int, fold: int, seed: int) -> Parts:
    """Return part `fold` of `folds` as validation images, and all others as training images.

    Each image is in one part. With labels (n,) instead of n, each part has its share of every
    class, as with StratifiedKFold of scikit-learn.

    Raises:
        UserError: if there are more parts than images.
    """
    length = labels if isinstance(labels, int) else len(labels)
    if isinstance(labels, Tensor) and labels.is_floating_point():
        labels = length  # numbers, not classes
    if folds > length:
        raise UserError(f"folds is {folds}, but there are only {length} training images")
    order = random_order(length, seed)
    dealt = order if isinstance(labels, int) else order[labels[order].argsort(stable=True)]
    part = torch.empty(length, dtype=torch.long)
    part[dealt] = torch.arange(length) % folds
    return divided(order, part == fold)


def stratified(labels: Tensor, share: float, seed: int) -> Parts:
    """Draw a share of each class, as indices: those that are left, and those that are drawn.

    At least one image of a class is drawn and one is left; a single image is left.
    """
    order = random_order(len(labels), seed)
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for label in set(labels.tolist()):
        images = order[labels[order] == label]
        count = min(max(1, round(share * len(images))), len(images) - 1)
        drawn[images[:count]] = True
    return divided(order, drawn)


def random_order(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))


def divided(order: Tensor, chosen: Tensor) -> Parts:
    """Return the images that are not chosen and those that are, both in this order."""
    chosen = chosen[order]
    return order[~chosen].tolist(), order[chosen].tolist()


def balanced_order(labels: Tensor, generator: torch.Generator) -> list[int]:
    """Return n places for n images with labels (n,), in which each class is equally often.

    All images of a class are used before one of them is used again. Place p is image p % n in its
    use p // n, so no place appears twice.
    """
    length, classes = len(labels), sorted(set(labels.tolist()))
    mixed = torch.randperm(len(classes), generator=generator).tolist()
    # if n is no multiple of the classes, the first of them are used once more
    wanted = torch.randperm(length, generator=generator) % len(classes)
    order = torch.empty(length, dtype=torch.long)
    for number, place in enumerate(mixed):
        images = (labels == classes[place]).nonzero()[:, 0]
        places = (wanted == number).nonzero()[:, 0]
        uses = -(-len(places) // len(images))
        # one permutation of the images per use, (uses, images)
        shuffled = torch.rand(uses, len(images), generator=generator).argsort(dim=1)
        counted = images[shuffled] + length * torch.arange(uses).unsqueeze(1)
        order[places] = counted.flatten()[: len(places)]
    return order.tolist()


def labels_of(dataset: Dataset[Any]) -> Tensor:
    """Return the labels (n,); a data set that does not list them has to read all its images."""
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[torch.tensor(dataset.indices, dtype=torch.long)]
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1]
    for name in ("labels", "targets"):  # ours, and torchvision's
        if hasattr(dataset, name):
            return torch.as_tensor(getattr(dataset, name))
    return torch.tensor([dataset[index][1] for index in range(len(dataset))])  # type: ignore[arg-type]


def class_counts(labels: Tensor, classes: Sequence[str]) -> list[int]:
    """Return how many of the labels each class has.

    Raises:
        UserError: if the labels are not classes.
    """
    if not classes or labels.is_floating_point():
        raise UserError("the labels are numbers, not classes: there is nothing to balance")
    return torch.bincount(labels, minlength=len(classes)).tolist()


def balanced_weights(counts: Sequence[int], classes: Sequence[str]) -> list[float]:
    """Return a weight per class, n / (classes * count): the weights "balanced" of scikit-learn.

    Each class then has the same share of the loss, and the mean weight of an image is 1.

    Raises:
        UserError: if a class has no training images.
    """
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        names = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        raise UserError(f"balanced weights need training images of every class, but not of {names}")
    return [sum(counts) / (len(counts) * count) for count in counts]
