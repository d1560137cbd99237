"""MNIST, 70,000 handwritten digits: python run.py data=mnist"""

from torchvision.datasets import MNIST

from src.datasets.image_data_module import ImageDataModule


class MNISTDataModule(ImageDataModule):
    """Grey images of 28 x 28 pixels in ten classes: 60,000 for training, 10,000 for testing."""

    folder = "MNIST"
    dims = (1, 28, 28)
    classes = MNIST.classes
    # mean and standard deviation of the pixels of MNIST's training images, in [0, 1]
    mean, std = (0.1307,), (0.3081,)

    def read(self, train):
        """Return images (n, 1, 28, 28), uint8, and labels (n,), int64."""
        dataset = MNIST(self.data_dir, train=train)
        return dataset.data.unsqueeze(1), dataset.targets
