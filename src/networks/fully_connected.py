"""A network of three fully connected layers: python run.py network=fully_connected"""

import math

from torch import nn


class FullyConnected(nn.Sequential):
    """Maps images (b, *dims) to one score per class, (b, num_classes)."""

    def __init__(self, dims, num_classes):
        super().__init__(
            nn.Flatten(),  # (b, c, h, w) -> (b, c * h * w)
            nn.Linear(math.prod(dims), 128),
            nn.ReLU(),
            nn.Linear(128, 256),
            nn.ReLU(),
            nn.Linear(256, num_classes),
        )
