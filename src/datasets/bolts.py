"""CIFAR-10 from Lightning Bolts, adapted to Lightning 2: configs/data/bolts.yaml"""

import logging
import warnings
from functools import cached_property
from inspect import signature

from torch.utils.data import Subset
from torchvision.datasets import CIFAR10, VisionDataset
from torchvision.transforms import v2

from data.check import REQUIRED
from src.datasets.cifar10 import CIFAR10DataModule
from src.datasets.image_data_module import ImageDataModule
from src.utils.errors import UserError
from src.utils.splits import labels_of

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Bolts warns about most of its own classes
        from pl_bolts import datamodules
except ModuleNotFoundError as error:
    remedy = "install requirements-bolts.txt in an environment of its own"
    raise UserError(f"src/datasets/bolts.py needs {error.name}: {remedy}") from None

log = logging.getLogger(__name__)


class CIFAR10Files(CIFAR10):
    """Replaces the data set that Bolts uses: torchvision's class reads only the official files.

    Here the files may also be the sample; data/check.py has checked them. The rest of torchvision's
    class, which makes images of them and transforms these, stays the same.
    """

    classes = CIFAR10DataModule.classes

    def __init__(self, root, train=True, transform=None):
        VisionDataset.__init__(self, root, transform=transform)
        images, labels = CIFAR10DataModule(root).read(train)
        self.data = images.permute(0, 2, 3, 1).numpy()  # (n, c, h, w) -> (n, h, w, c)
        self.targets, self.train = labels.tolist(), train


class BoltsDataModule(ImageDataModule):
    """Adapts a DataModule of Bolts: its data sets, transforms and split, with our own loaders.

    Lightning 2 rejects the DataModule itself ("Expected a parent"). To adapt another one, add a
    file to src/datasets with a subclass that sets bolts_class.
    """

    bolts_class = "CIFAR10DataModule"

    @cached_property
    def bolts(self):
        made = self.make_bolts()
        if getattr(made, "dataset_cls", None) is CIFAR10:
            made.dataset_cls = CIFAR10Files
        if self.transform is not None:
            as_bytes = [v2.PILToTensor(), self.transform, v2.ToPILImage()]
            made.train_transforms = v2.Compose([*as_bytes, made.default_transforms()])
        return made

    @cached_property
    def folder(self):  # in data_dir, where torchvision looks for the files
        dataset = getattr(self.bolts, "dataset_cls", None)
        return getattr(dataset, "base_folder", getattr(dataset, "__name__", None))

    @cached_property
    def dims(self):
        return tuple(self.bolts.dims)

    @cached_property
    def classes(self):
        dataset, count = getattr(self.bolts, "dataset_cls", None), self.bolts.num_classes
        names = getattr(dataset, "classes", ())
        return tuple(names if len(names) == count else map(str, range(count)))

    @cached_property
    def normalization(self):
        """Mean and standard deviation per channel, which Bolts' own transforms apply."""
        steps = getattr(self.bolts.default_transforms(), "transforms", [])
        found = [(tuple(step.mean), tuple(step.std)) for step in steps if hasattr(step, "std")]
        return found[0] if found else ((), ())

    @property
    def mean(self):
        return self.normalization[0]

    @property
    def std(self):
        return self.normalization[1]

    def make_bolts(self):
        """Return the DataModule; its own loaders are unused, so it gets no loader settings."""
        bolts_class = getattr(datamodules, self.bolts_class)
        settings = {"val_split": self.val_split, "seed": self.seed, "normalize": True}
        unknown = settings.keys() - signature(bolts_class).parameters
        if unknown:
            log.warning(f"Bolts' {self.bolts_class} ignores {', '.join(sorted(unknown))}")
        known = {name: value for name, value in settings.items() if name not in unknown}
        return bolts_class(self.data_dir, **known)

    def prepare_data(self):  # not that of Bolts, which downloads
        if self.folder in REQUIRED:
            super().prepare_data()

    def setup(self, stage):
        """Take the data sets from Bolts.

        Raises:
            UserError: if Bolts cannot read their files.
        """
        try:
            if stage in ("fit", "validate"):
                self.bolts.setup("fit")
                self.train_set = self.bolts.train_dataloader().dataset
                self.val_set = self.bolts.val_dataloader().dataset
            if stage == "test":
                self.bolts.setup(stage)
                self.test_set = self.bolts.test_dataloader().dataset
        except (OSError, RuntimeError) as error:
            missing = f"Bolts' {self.bolts_class} cannot read its data in {self.data_dir}: {error}"
            raise UserError(f"{missing}; download the data before the training") from error
        if self.folds and stage != "test" and isinstance(self.train_set, Subset):
            labels = labels_of(self.train_set.dataset)
            train, val = self.split(len(labels), labels)
            self.train_set = Subset(self.train_set.dataset, train)
            self.val_set = Subset(self.val_set.dataset, val)
