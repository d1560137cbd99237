"""Build a network from its settings, and fit a network of a library to the data: see src/main.py.

Any class or function will do. If it has an argument of one of the names in `offers`, it gets that
value; otherwise its first convolution and its last layer are replaced where they do not fit:
torchvision.models.mobilenet_v3_small, with 3 channels and 1000 outputs, becomes one for MNIST.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from src.utils.errors import UserError
from src.utils.targets import CHANNELS, OUTPUTS, TARGET, find_target, instantiate, parameters


def build_network(settings: Mapping[str, Any], dims: list[int], num_outputs: int) -> nn.Module:
    """Return a network that maps images (b, *dims) to outputs (b, num_outputs).

    Raises:
        UserError: if it cannot be built, or not be fitted to the data.
    """
    offers = dict.fromkeys(CHANNELS, dims[0]) | dict.fromkeys(OUTPUTS, num_outputs)
    network = instantiate(settings, dims=dims, **offers)
    if not isinstance(network, nn.Module):
        raise UserError(f"network: {settings[TARGET]} does not return a torch.nn.Module")
    if getattr(network, "aux_logits", False):
        raise UserError(
            f"network: {settings[TARGET]} returns several outputs in training: set aux_logits"
            " to false"
        )
    names = parameters(find_target(settings[TARGET])) | set(settings)
    if not names & {"dims", *CHANNELS}:
        fit_channels(network, dims[0])
    if not names & set(OUTPUTS):
        fit_outputs(network, num_outputs, settings[TARGET])
        # (b, h, w, c) in memory: the fastest layout for convolutions, on CPUs and GPUs
        network.to(memory_format=torch.channels_last)
    return network


def fit_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution if it expects another number of channels."""
    convolutions = layers(network, nn.Conv2d)
    if convolutions and convolutions[0][1].in_channels != channels:
        name, old = convolutions[0]
        network.set_submodule(name, convolution(old, channels, old.out_channels))


def fit_outputs(network: nn.Module, num_outputs: int, path: str) -> None:
    """Replace the last linear layer, or last convolution, if it has another number of outputs.

    Raises:
        UserError: if the network has neither.
    """
    found = layers(network, (nn.Linear, nn.Conv2d))
    if not found:
        raise UserError(
            f"network: {path} has no linear layer that could be fitted to {num_outputs} outputs:"
            " give it an argument num_classes"
        )
    name, old = found[-1]
    if isinstance(old, nn.Conv2d):
        if old.out_channels != num_outputs:
            network.set_submodule(name, convolution(old, old.in_channels, num_outputs))
    elif old.out_features != num_outputs:
        new = nn.Linear(old.in_features, num_outputs, bias=old.bias is not None)
        network.set_submodule(name, new)


def layers(network: nn.Module, kind: Any) -> list[tuple[str, Any]]:
    """Return name and layer of all layers of a kind, in the order in which they were added."""
    # a multi-head attention reads the weights of its last layer itself
    inner = nn.modules.linear.NonDynamicallyQuantizableLinear
    found = network.named_modules()
    return [
        (name, part)
        for name, part in found
        if name and isinstance(part, kind) and not isinstance(part, inner)
    ]


def convolution(old: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """Return a new layer like this one, with other numbers of channels."""
    return nn.Conv2d(
        inputs,
        outputs,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        dilation=old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
