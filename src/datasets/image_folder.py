"""Your own images, one folder per class, or listed in a CSV file: configs/data/image_folder.yaml"""

import logging
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from src.datasets.image_data_module import ImageDataModule, Images, ImagesInMemory
from src.utils.data_shares import processes
from src.utils.errors import UserError
from src.utils.image_files import (
    BITS_16,
    ImageReader,
    UnreadableImageError,
    channels_of,
    in_threads,
)
from src.utils.image_parts import (
    PARTS,
    check_duplicates,
    check_parts,
    check_readable,
    entries_of,
)
from src.utils.setting_checks import check_images, is_number
from src.utils.splits import stratified

log = logging.getLogger(__name__)


class ImagesInFiles(Images):
    """Images that are read from their files whenever a batch needs them."""

    def __init__(self, files, reader, labels, mean, std, transform=None):
        super().__init__(labels, mean, std, transform)
        self.files = files
        self.reader = reader

    def pixels(self, indices):
        torch.randint(1, (2, len(indices)))  # as ImagesInMemory: both give the same training
        return torch.from_numpy(np.stack([self.read(self.files[index]) for index in indices]))

    def read(self, file):
        try:
            return self.reader.read(file)
        except UnreadableImageError as error:
            raise UserError(f"{file} cannot be read any more ({error})") from error


@dataclass
class Contents:
    """What reading all files has shown."""

    images: torch.Tensor | None  # (n, c, h, w), uint8: training, validation, test images
    mean: list  # per channel of the training images, in [0, 1]
    std: list


class ImageFolderDataModule(ImageDataModule):
    """Images of any size and kind, of classes, or with a number each for a regression.

    Reading a file is described in ImageReader, the folders and the CSV file in configs/data.
    """

    # with types, which are checked before a job is submitted
    def __init__(
        self,
        path: str,
        image_size=64,  # [h, w] in pixels, or one number for both
        channels: int | None = None,  # 1 or 3; None: 3 if a file has colours
        fit: Literal["stretch", "crop", "pad"] = "stretch",
        value_range=BITS_16,
        mean=None,  # per channel; None: those of the training images
        std=None,
        split: str = "seed",
        test_split: float = 0.1,
        split_seed: int = 1234,  # draws the test images, and not the seed of the run
        in_memory: bool = True,
        allow_duplicates: bool = False,
        batch_size=64,
        num_workers=0,
        val_split=0.1,
        seed=1234,
        pin_memory=False,
        transform=None,
        balanced=False,
        folds=None,
        fold=0,
    ):
        sampling = {"transform": transform, "balanced": balanced, "folds": folds, "fold": fold}
        super().__init__(path, batch_size, num_workers, val_split, seed, pin_memory, **sampling)
        check_images(locals())
        self.path = Path(path)
        self.size = (image_size, image_size) if is_number(image_size) else tuple(image_size)
        self.given = {"channels": channels, "mean": mean, "std": std}
        self.fit, self.value_range = fit, tuple(value_range)
        self.split_by, self.test_split, self.split_seed = split, test_split, split_seed
        self.images_in_memory, self.allow_duplicates = in_memory, allow_duplicates

    # each of these reads from the folder what it needs when it is first used

    @cached_property
    def entries(self):
        return entries_of(self.path, self.split_by)

    @cached_property
    def files(self):
        return [self.path / entry.file for entry in self.entries]

    @cached_property
    def classes(self):  # empty in a regression
        labels = {entry.label for entry in self.entries}
        return tuple(sorted(labels)) if all(isinstance(label, str) for label in labels) else ()

    @cached_property
    def labels(self):  # (n,), int64; in a regression float32
        numbers = {name: number for number, name in enumerate(self.classes)}
        return torch.tensor([numbers.get(entry.label, entry.label) for entry in self.entries])

    @cached_property
    def reader(self):
        channels = self.given["channels"] or channels_of(self.files)
        for name in ("mean", "std"):
            if self.given[name] is not None and len(self.given[name]) != channels:
                found = f"{len(self.given[name])} values, but the images have {channels} channels"
                raise UserError(f"data.{name} has {found}")
        return ImageReader(self.size, channels, self.fit, self.value_range)

    @property
    def dims(self):
        return (self.reader.channels, *self.size)

    @property
    def mean(self):
        return tuple(self.given["mean"] or self.contents.mean)

    @property
    def std(self):
        return tuple(self.given["std"] or self.contents.std)

    @property
    def preprocessing(self):
        how = {"fit": self.fit, "value_range": list(self.value_range)}
        return {**super().preprocessing, **how}

    @cached_property
    def parts(self):
        """The places of the files of each part, by its name."""
        names = [entry.part for entry in self.entries]
        rest, test = [], [place for place, name in enumerate(names) if name == "test"]
        if self.split_by == "seed":
            rest, test = stratified(self.labels, self.test_split, self.split_seed)
        val = [] if self.folds else [place for place, name in enumerate(names) if name == "val"]
        rest = rest or sorted(set(range(len(names))) - {*test, *val})
        parts = {"train": rest, "val": val, "test": test}
        if not val:
            train, val = self.split(len(rest), self.labels[torch.tensor(rest, dtype=torch.long)])
            parts |= {"train": [rest[k] for k in train], "val": [rest[k] for k in val]}
        check_parts(self.path, parts, self.labels, self.classes)
        return parts

    def split(self, length, labels=None):
        if self.folds:
            return super().split(length, labels)
        if not self.classes:
            labels = torch.zeros(length)
        return stratified(labels, self.val_split, self.seed)

    @cached_property
    def contents(self):
        """Read all files, which also finds the damaged ones.

        Raises:
            UserError: if a file cannot be read, or if two parts contain the same file.
        """
        order = [place for part in PARTS for place in self.parts[part]]
        files, reader = [self.files[place] for place in order], self.reader
        dims, num_train = self.dims, len(self.parts["train"])
        images = np.empty((len(order), *dims), np.uint8) if self.images_in_memory else None
        gib = f", {len(order) * math.prod(dims) / 2**30:.1f} GiB in memory"
        log.info(
            f"reading {len(order)} images in {self.path}{gib if self.images_in_memory else ''}"
        )

        def read(position):
            try:
                pixels, digest = reader.read_with_digest(files[position])
            except UnreadableImageError as error:
                return None, str(error), None
            if images is not None:
                images[position] = pixels
            sums = channel_sums(pixels) if position < num_train else 0
            return digest, "", sums

        digests, faults, sums = zip(*in_threads(read, range(len(files))), strict=True)
        names = [self.entries[place].file for place in order]
        check_readable(self.path, names, faults)
        if not self.allow_duplicates:
            of_part = [part for part in PARTS for _ in self.parts[part]]
            check_duplicates(self.path, names, digests, of_part)
        mean, std = mean_and_std(sum(sums[:num_train]), num_train * dims[1] * dims[2])
        return Contents(None if images is None else torch.from_numpy(images), mean, std)

    def prepare_data(self):  # runs in one process, before the training and before the test
        if not self.checked:
            self.contents  # noqa: B018 - finds damaged files also if mean and std are given
            log.info(f"data: {self.description()}")
        self.checked = True

    def description(self):
        parts = ", ".join(f"{len(self.parts[part])} {part}" for part in PARTS)
        classes = f"{len(self.classes)} classes" if self.classes else "numbers"
        size = " x ".join(map(str, self.dims))
        values = f"mean {list(self.mean)}, std {list(self.std)}"
        return f"{self.path}, {classes}, {parts}, {size}; {values}"

    def setup(self, stage):  # runs in every process
        if stage in ("fit", "validate"):
            self.train_set = self.part("train", self.transform)
            self.val_set = self.part("val")
            torch.manual_seed(self.seed + processes(self)[1])
        if stage == "test":
            self.test_set = self.part("test")

    def part(self, name, transform=None):
        places = self.parts[name]
        settings = (self.labels[torch.tensor(places)], self.mean, self.std)
        if not self.images_in_memory:
            files = [self.files[place] for place in places]
            return ImagesInFiles(files, self.reader, *settings, transform)
        first = sum(len(self.parts[other]) for other in PARTS[: PARTS.index(name)])
        images = self.contents.images[first : first + len(places)]
        return ImagesInMemory(images, *settings, transform=transform)


def channel_sums(pixels):
    """Return the sum, and the sum of squares, of each channel, (2, c): exact in any order."""
    values = pixels.reshape(len(pixels), -1).astype(np.int64)
    return np.stack([values.sum(axis=1), (values**2).sum(axis=1)])


def mean_and_std(sums, count):
    """Return the mean and the standard deviation per channel, in [0, 1], to four places."""
    mean, mean_square = sums / count / 255, sums[1] / count / 255**2
    std = np.sqrt(np.maximum(mean_square - mean[0] ** 2, 0)).round(4)
    return mean[0].round(4).tolist(), np.where(std == 0, 1, std).tolist()
