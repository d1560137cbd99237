"""CIFAR-10, 60,000 small photos in ten classes: python run.py data=cifar10"""

import pickle
from pathlib import Path

import numpy as np
import torch

from src.datasets.image_data_module import ImageDataModule
from src.utils.errors import UserError

TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]
# all names that a pickled array refers to; old files such as CIFAR-10's say numpy.core
NUMPY = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads only arrays and plain values; anything else could run code from the file's author."""

    def find_class(self, module, name):
        module = module.replace("numpy.core", "numpy._core")
        if (module, name) not in NUMPY:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no array needs")
        return super().find_class(module, name)


def read_batch(path):
    """Return images (n, 3072), uint8, and labels (n,) of a batch file.

    Raises:
        UserError: if the file is not a batch of CIFAR-10.
    """
    try:
        with path.open("rb") as file:
            batch = ArrayUnpickler(file, encoding="latin1").load()
        images, labels = batch["data"], np.array(batch["labels"])
        if images.dtype != np.uint8 or images.shape != (len(labels), 3072):
            raise ValueError(f"its images are {images.dtype} {images.shape}")
    except Exception as error:  # a damaged pickle raises almost anything
        reason = f"{path} is not a batch of CIFAR-10: {error}"
        remedy = 'run "bash data/get_cifar10.sh" on a node with internet'
        raise UserError(f"{reason}; {remedy}") from None
    return images, labels


class CIFAR10DataModule(ImageDataModule):
    """Colour images of 32 x 32 pixels in ten classes: 50,000 for training, 10,000 for testing."""

    folder = "cifar-10-batches-py"
    dims = (3, 32, 32)
    classes = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    # mean and standard deviation per colour channel of the training images, in [0, 1]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    # augmentation: maximum random shift in pixels; mirroring with probability 0.5
    shift, mirror = 4, True

    def read(self, train):
        """Return images (n, 3, 32, 32), uint8, and labels (n,), int64."""
        folder = Path(self.data_dir, self.folder)
        batches = [read_batch(folder / name) for name in (TRAIN_FILES if train else ["test_batch"])]
        images, labels = map(np.concatenate, zip(*batches, strict=True))
        return torch.from_numpy(images).view(-1, *self.dims), torch.from_numpy(labels)
