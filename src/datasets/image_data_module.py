"""Images in memory, and the base class of all data sets: see src/datasets."""

import logging

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset, get_worker_info, random_split
from torchvision.transforms import v2

from data.check import check_data
from src.utils.data_shares import SeededBatches, evaluation_share, processes, training_share
from src.utils.errors import UserError
from src.utils.setting_checks import check_sampling
from src.utils.splits import class_counts, k_fold, labels_of
from src.utils.targets import build

log = logging.getLogger(__name__)


class Images(Dataset):
    """Images which are augmented and normalised a whole batch at a time.

    A subclass has pixels, which returns the images with these indices (b, c, h, w), uint8.
    """

    def __init__(self, labels, mean, std, transform=None):
        self.labels = labels
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices):
        """Return images (b, c, h, w), float32, and labels (b,); each has its own augmentation."""
        pixels = self.pixels(indices)
        images = self.transformed(pixels) if self.transform else pixels.float().div_(255)
        return images.sub_(self.mean).div_(self.std), self.labels[torch.tensor(indices)]

    def transformed(self, pixels):
        """Transform each image (c, h, w), uint8, by itself; return (b, c, h, w) in [0, 1].

        Raises:
            UserError: if a transform fails, or returns something else than images of this shape.
        """
        shape, results = pixels.shape[1:], []
        for image in pixels:
            try:
                result = self.transform(image)
            except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"transform failed on an image {tuple(shape)}: {reason}") from error
            if not isinstance(result, torch.Tensor) or result.shape != shape:
                found = tuple(getattr(result, "shape", ())) or type(result).__name__
                rule = f"the result must be an image {tuple(shape)}"
                raise UserError(f"transform turns an image {tuple(shape)} into {found}: {rule}")
            results.append(v2.functional.to_dtype(result, torch.float32, scale=True))
        return torch.stack(results)

    @staticmethod
    def collate_fn(batch):
        """Return the batch from __getitems__; a worker passes it on in shared memory."""
        # done here, since an error in Python's own transfer is lost, and the training hangs
        return [part.share_memory_() for part in batch] if get_worker_info() else batch


class ImagesInMemory(Images):
    """Images (n, c, h, w), uint8, with random crops and mirroring."""

    def __init__(self, images, labels, mean, std, shift=0, mirror=False, transform=None):
        super().__init__(labels, mean, std, transform)
        # a black border of `shift` pixels, (n, c, h + 2 * shift, w + 2 * shift)
        padded = F.pad(images, (shift, shift, shift, shift)) if shift else images
        # a view, not a copy: [k, :, top, left] is image k cropped at that corner, (c, h, w)
        self.crops = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
        self.shift = shift
        self.mirror = mirror

    def pixels(self, indices):
        top, left = torch.randint(2 * self.shift + 1, (2, len(indices))).numpy()
        # NumPy gathers and mirrors twice as fast as torch
        pixels = self.crops.numpy()[indices, :, top, left]
        if self.mirror:
            mirrored = (torch.rand(len(indices)) < 0.5).numpy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return torch.from_numpy(pixels)


class ImageDataModule(L.LightningDataModule):
    """Splits, normalises and shuffles the images that a subclass provides.

    A subclass has dims (c, h, w), classes (names), and either folder, mean, std and read, if images
    fit in memory, or prepare_data, and a setup that creates train_set, val_set and test_set.
    """

    mean, std = (), ()
    shift, mirror = 0, False

    def __init__(
        self,
        data_dir,
        batch_size=64,  # images per process and step
        num_workers=0,  # per process
        val_split=0.1,
        seed=1234,
        pin_memory=False,
        transform=None,  # for training images, in place of the class's own augmentation
        balanced=False,  # show each class equally often in an epoch
        folds=None,  # number of parts for cross-validation
        fold=0,  # the part with the validation images, which replace val_split
    ):
        super().__init__()
        check_sampling(val_split, balanced, folds, fold)
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_split = val_split
        self.seed = seed
        self.pin_memory = pin_memory
        self.balanced = balanced
        self.folds = folds
        self.fold = fold
        self.augmentation = compose(transform)
        given = {"transform": transform, "folds": folds}
        # settings that have no effect yet: a setup of a subclass may not know them
        self.unused = {name for name, value in given.items() if value is not None}
        self.prepare_data_per_node = False  # one process checks the data for all nodes
        self.checked = False
        self.generator = torch.Generator().manual_seed(seed)
        self.position = {"epoch": 0, "batches": 0}  # where the training begins, or continues

    def state_dict(self):  # for checkpoints: the position in the training data
        loop = self.trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        ended = epochs.processed == epochs.started
        return {"epoch": epochs.processed, "batches": 0 if ended else batches.processed}

    def load_state_dict(self, state):
        self.position = state

    def prepare_data(self):  # runs in one process, before the training and before the test
        if not self.checked:
            log.info(check_data(f"{self.data_dir}/{self.folder}"))
        self.checked = True

    def setup(self, stage):  # runs in every process
        if stage in ("fit", "validate"):
            images, labels = self.read_checked(train=True)
            train, val = self.split(len(labels), labels)
            augment = {"shift": self.shift, "mirror": self.mirror}
            if self.transform is not None:
                augment = {"transform": self.transform}
            self.train_set = self.in_memory(images[train], labels[train], **augment)
            self.val_set = self.in_memory(images[val], labels[val])
            # each process draws its own random numbers, for example for dropout; those of the
            # crops are the concern of SeededBatches
            torch.manual_seed(self.seed + processes(self)[1])
        if stage == "test":
            self.test_set = self.in_memory(*self.read_checked(train=False))

    def read_checked(self, train):
        """Return what `read` returns.

        Raises:
            UserError: if that is not bytes of the shape dims, with one label per image.
        """
        images, labels = self.read(train)
        shape, dims = tuple(images.shape), ", ".join(map(str, self.dims))
        if images.dtype != torch.uint8 or shape != (len(labels), *self.dims):
            found = f"images {images.dtype} {shape} and {len(labels)} labels"
            rule = f"must return torch.uint8 (n, {dims}) and n labels"
            raise UserError(f"read of {type(self).__name__} returned {found}, but {rule}")
        return images, labels

    def in_memory(self, images, labels, **augment):
        return ImagesInMemory(images, labels, self.mean, self.std, **augment)

    @property
    def preprocessing(self):
        """What turns an image into an input of the network, for src/datasets/prediction_images.py.

        Plain values, which a checkpoint can contain.
        """
        return {"dims": list(self.dims), "mean": list(self.mean), "std": list(self.std)}

    @property
    def transform(self):  # None, or what a setup applies to each training image
        self.unused.discard("transform")
        return self.augmentation

    def split(self, length, labels=None):  # labels (n,): each fold has its share of every class
        """Return the indices of the training images and of the validation images.

        They depend on seed, val_split and length only: every call returns the same ones.
        """
        self.unused.discard("folds")
        if self.folds:
            return k_fold(length if labels is None else labels, self.folds, self.fold, self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        shares = [1 - self.val_split, self.val_split]
        return [part.indices for part in random_split(range(length), shares, self.generator)]

    def class_counts(self):
        """Return the number of training images of each class.

        Raises:
            UserError: if the labels are not classes.
        """
        return class_counts(self.train_labels(), self.classes)

    def train_labels(self):
        # draws no random number of the training, although setup, or reading images for their
        # labels, may draw some
        with isolate_rng(include_cuda=False):
            if not hasattr(self, "train_set"):
                self.setup("fit")
            return labels_of(self.train_set)

    def train_dataloader(self):
        for name in sorted(self.unused):
            raise UserError(f"data.{name} has no effect: setup of {type(self).__name__} ignores it")
        train_set, labels = SeededBatches(self.train_set, self.seed), None
        if self.balanced:
            self.class_counts()  # refuses labels that are no classes
            labels = self.train_labels()
        return self.loader(train_set, **training_share(self, train_set, labels))

    def val_dataloader(self):
        val_set = SeededBatches(self.val_set, self.seed)  # draws no random numbers of the training
        return self.loader(val_set, **evaluation_share(self, val_set))

    def test_dataloader(self):
        return self.loader(self.test_set, **evaluation_share(self, self.test_set))

    def loader(self, dataset, **settings):
        return DataLoader(
            dataset,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            collate_fn=getattr(dataset, "collate_fn", None),
            **settings,
        )


def compose(transform):
    """Return one function for a list of transforms, which may be settings with _target_.

    Raises:
        UserError: if one of them is not a function.
    """
    if transform is None:
        return None
    steps = build(list(transform) if isinstance(transform, list | tuple) else [transform])
    for step in steps:
        if not callable(step):
            rule = "a list of transforms, each with its _target_"
            raise UserError(f"data.transform must be {rule}, but contains {step!r}")
    return v2.Compose(steps or [v2.Identity()])
