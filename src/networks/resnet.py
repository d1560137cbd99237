"""torchvision's residual networks by name: python run.py network=resnet18"""

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
import torchvision
from torch import nn

from src.utils.errors import UserError

# the names that arch accepts
NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def resnet(
    arch: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"], dims, num_classes
):
    """Return a network that maps images (b, *dims) to scores (b, num_classes).

    Raises:
        UserError: if arch is not one of NAMES.
    """
    if arch not in NAMES:
        raise UserError(f"network.arch: {arch} is none of {', '.join(NAMES)}")
    network = torchvision.models.get_model(arch)
    # replaces the layer for ImageNet's 1000 classes; 512 features in ResNet-18, 2048 in ResNet-50
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    if dims[0] != 3:
        old = network.conv1
        kernel = {"kernel_size": old.kernel_size, "stride": old.stride, "padding": old.padding}
        network.conv1 = nn.Conv2d(dims[0], old.out_channels, **kernel, bias=False)
    # channels last, (b, h, w, c) in memory: the fastest layout for convolutions, on CPUs and GPUs
    return network.to(memory_format=torch.channels_last)


def imagenet_weights(arch, channels):
    """Return name -> ImageNet weight, from torch.hub's cache.

    Raises:
        UserError: if the file is missing from the cache, or damaged.
    """
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    remedy = f'run "bash src/utils/cache_models.sh {arch}" on a node with internet'
    if not path.is_file():
        raise UserError(f"init_from: {path} is missing; {remedy}, or leave init_from out")
    # the name ends in the first digits of the file's SHA-256 sum: resnet18-f37072fd.pth
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.split("-")[-1]):
        raise UserError(f"init_from: {path} is damaged; {remedy}")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError):
        raise UserError(f"init_from: {path} is not a weights file; {remedy}") from None
    # grey images: the sum of the weights for the three colours
    if channels == 1:
        weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)
    return weights
