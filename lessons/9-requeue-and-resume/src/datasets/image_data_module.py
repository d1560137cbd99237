"""Images in memory, and the base class of all data sets: see src/datasets."""

import logging

import lightning as L
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, get_worker_info, random_split

from data.check import check_data
from src.utils.data_shares import SeededBatches, evaluation_share, processes, training_share
from src.utils.errors import UserError

log = logging.getLogger(__name__)


class ImagesInMemory(Dataset):
    """Images (n, c, h, w), uint8, which are fetched and normalised a whole batch at a time."""

    def __init__(self, images, labels, mean, std, shift=0, mirror=False):
        # a black border of `shift` pixels, (n, c, h + 2 * shift, w + 2 * shift)
        padded = F.pad(images, (shift, shift, shift, shift))
        # a view, not a copy: [k, :, top, left] is image k cropped at that corner, (c, h, w)
        self.crops = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
        self.labels = labels
        self.shift = shift
        self.mirror = mirror
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices):
        """Return images (b, c, h, w), float32, and labels (b,); each image has its own crop."""
        top, left = torch.randint(2 * self.shift + 1, (2, len(indices))).numpy()
        # NumPy gathers and mirrors twice as fast as torch
        pixels = self.crops.numpy()[indices, :, top, left]
        if self.mirror:
            mirrored = (torch.rand(len(indices)) < 0.5).numpy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        images = torch.from_numpy(pixels).float()
        return images.div_(255).sub_(self.mean).div_(self.std), self.labels[torch.tensor(indices)]

    @staticmethod
    def collate_fn(batch):
        """Return the batch from __getitems__; a worker passes it on in shared memory."""
        # done here, since an error in Python's own transfer is lost, and the training hangs
        return [part.share_memory_() for part in batch] if get_worker_info() else batch


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
    ):
        super().__init__()
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.val_split = val_split
        self.seed = seed
        self.pin_memory = pin_memory
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
        if stage == "fit":
            images, labels = self.read_checked(train=True)
            train, val = self.split(len(labels))
            augment = {"shift": self.shift, "mirror": self.mirror}
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

    def split(self, length):
        """Return the indices of the training images and of the validation images.

        They depend on seed, val_split and length only: every call returns the same ones.
        """
        self.generator = torch.Generator().manual_seed(self.seed)
        shares = [1 - self.val_split, self.val_split]
        return [part.indices for part in random_split(range(length), shares, self.generator)]

    def train_dataloader(self):
        train_set = SeededBatches(self.train_set, self.seed)
        return self.loader(train_set, **training_share(self, train_set))

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
