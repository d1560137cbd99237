"""Images to predict, read as those of the training were: python run.py stage=predict"""

import logging
from pathlib import Path

import numpy as np
import torch

from src.datasets.image_data_module import ImagesInMemory
from src.utils.errors import UserError
from src.utils.image_files import (
    BITS_16,
    ImageReader,
    UnreadableImageError,
    find_files,
    in_threads,
    listed,
)

log = logging.getLogger(__name__)


class PredictionImages:
    """Batches of images (b, c, h, w), float32, with the paths of their files, in the given order.

    The settings after paths are those in `preprocessing` of the DataModule of the training. A file
    that cannot be read is left out; `damaged` then has its path and the reason.
    """

    def __init__(
        self, paths, dims, mean=(), std=(), fit="stretch", value_range=BITS_16, batch_size=64
    ):
        channels, *size = dims
        if channels not in (1, 3):
            raise UserError(
                f"the network takes images of {channels} channels, but files have 1 or 3"
            )
        self.files = files_of([paths] if isinstance(paths, str | Path) else paths)
        self.reader = ImageReader(tuple(size), channels, fit, tuple(value_range))
        self.mean, self.std = mean or [0.0], std or [1.0]
        self.batch_size = batch_size
        self.damaged = []

    def __iter__(self):
        """Yield the batches.

        Raises:
            UserError: if no file can be read.
        """
        self.damaged = []
        for first in range(0, len(self.files), self.batch_size):
            files = self.files[first : first + self.batch_size]
            results = zip(in_threads(self.read, files), files, strict=True)
            found = [(pixels, file) for pixels, file in results if self.is_whole(pixels, file)]
            if found:
                pixels, names = zip(*found, strict=True)
                yield self.normalised(np.stack(pixels)), list(names)
        names = [f"{name} ({reason})" for name, reason in self.damaged]
        if len(names) == len(self.files):
            raise UserError(f"none of the {len(names)} files can be read: {listed(names)}")
        if names:
            log.warning(f"{len(names)} of {len(self.files)} files are left out: {listed(names)}")

    def read(self, file):
        try:
            return self.reader.read(file)
        except UnreadableImageError as error:
            return error

    def is_whole(self, pixels, file):
        if isinstance(pixels, UnreadableImageError):
            self.damaged.append((file, str(pixels)))
        return isinstance(pixels, np.ndarray)

    def normalised(self, pixels):
        labels = torch.zeros(len(pixels))
        images = ImagesInMemory(torch.from_numpy(pixels), labels, self.mean, self.std)
        return images.__getitems__(list(range(len(pixels))))[0]


def files_of(paths):
    """Return the paths of all files; a folder stands for the files in it and below, sorted.

    Raises:
        UserError: if there are none, or if a path is missing.
    """
    paths = [Path(path) for path in paths]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(f"there is nothing to predict in {listed(missing)}: no such file or folder")
    files = []
    for path in paths:
        inside = find_files(path) if path.is_dir() else None
        files += [str(path)] if inside is None else [str(path / name) for name in inside]
    if not files:
        where = listed([str(path) for path in paths]) or "an empty list of paths"
        raise UserError(f"there is nothing to predict in {where}: it contains no files")
    return files
