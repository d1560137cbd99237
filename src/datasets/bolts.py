"""CIFAR-10 from Lightning Bolts, adapted to Lightning 2: python run.py --dataset bolts"""

import logging
import warnings
from inspect import signature

from torchvision.datasets import CIFAR10, VisionDataset

from data.check import REQUIRED
from src.datasets.cifar10 import CIFAR10DataModule
from src.datasets.image_data_module import ImageDataModule
from src.utils.errors import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Bolts warns about most of its own classes
    from pl_bolts import datamodules

# offered only if this package is installed: pip install -r requirements-bolts.txt
NEEDS = "pl_bolts"

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

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.bolts = self.make_bolts()
        dataset = getattr(self.bolts, "dataset_cls", None)
        if dataset is CIFAR10:
            dataset = self.bolts.dataset_cls = CIFAR10Files
        # the folder in data_dir where torchvision looks for the files
        self.folder = getattr(dataset, "base_folder", getattr(dataset, "__name__", None))
        self.dims, count = tuple(self.bolts.dims), self.bolts.num_classes
        names = getattr(dataset, "classes", ())
        self.classes = tuple(names if len(names) == count else map(str, range(count)))

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
            self.bolts.setup(stage)
            if stage == "fit":
                self.train_set = self.bolts.train_dataloader().dataset
                self.val_set = self.bolts.val_dataloader().dataset
            if stage == "test":
                self.test_set = self.bolts.test_dataloader().dataset
        except (OSError, RuntimeError) as error:
            missing = f"Bolts' {self.bolts_class} cannot read its data in {self.data_dir}: {error}"
            raise UserError(f"{missing}; download the data before the training") from error
