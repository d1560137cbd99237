"""Begin a training with the weights of another one: see src/main.py."""

import logging
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from src.networks.resnet import NAMES, imagenet_weights
from src.utils.errors import UserError

log = logging.getLogger(__name__)
IMAGENET = "imagenet"
# what programs put before the names of a network's weights
PREFIXES = ("", "network.", "model.", "module.", "backbone.")
MAX_SHOWN = 5


def load_initial_weights(model: Any, path: str) -> None:
    """Load the weights whose name and shape fit into model.network; the log says which.

    path: a checkpoint of this program or of another one, a file of weights such as torchvision's,
    or imagenet for a ResNet. The last layer of another number of classes stays as it is.

    Raises:
        UserError: if the weights cannot be read, or if none of them fits.
    """
    network: nn.Module = model.network
    found = weights_of_imagenet(model) if path == IMAGENET else read_weights(Path(path))
    own = network.state_dict()
    found = without_prefix(found, own)
    shapes = {name: tuple(part.shape) for name, part in own.items()}
    fits = {k: part for k, part in found.items() if shapes.get(k) == tuple(part.shape)}
    if not fits:
        names = f"{next(iter(found), 'none')}, not {next(iter(own), 'none')}"
        raise UserError(f"init_from: nothing in {path} fits the network: its names are {names}")
    network.load_state_dict({**own, **fits})
    kept = [f"{name} {shapes[name]}" for name in own if name not in fits]
    left_out = [f"{k} {tuple(part.shape)}" for k, part in found.items() if k not in fits]
    log.info(f"init_from {path}: loaded {len(fits)} of {len(own)} tensors; initial: {some(kept)}")
    log.info(f"init_from {path}: left out {len(left_out)} tensors of the file: {some(left_out)}")


def some(names: list[str]) -> str:
    more = [f"and {len(names) - MAX_SHOWN} more"] if len(names) > MAX_SHOWN else []
    return ", ".join([*names[:MAX_SHOWN], *more]) or "none"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return name -> weight of a file; it may be a checkpoint.

    Raises:
        UserError: if it is missing, damaged, or something else.
    """
    if not path.is_file():
        raise UserError(f"init_from: there is no file {path}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"init_from: {path} is no file of weights: {reason:.200}") from None
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    weights = found if isinstance(found, dict) else {}
    return {name: part for name, part in weights.items() if isinstance(part, Tensor)}


def without_prefix(found: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names that have the most in common with the network's own."""
    choices = [
        {k.removeprefix(prefix): part for k, part in found.items() if k.startswith(prefix)}
        for prefix in PREFIXES
    ]
    return max(choices, key=lambda choice: len(choice.keys() & own.keys()))


def weights_of_imagenet(model: Any) -> dict[str, Tensor]:
    """Return torchvision's weights for the ResNet that the model's settings name.

    Raises:
        UserError: if it is another network, or if the file is missing or damaged.
    """
    settings = model.hparams["network"]
    arch = settings.get("arch", settings["_target_"].rpartition(".")[2])
    if arch not in NAMES:
        choices = ", ".join(NAMES)
        raise UserError(f"init_from: {IMAGENET} is for {choices}; for {arch}, give a file")
    found: dict[str, Tensor] = imagenet_weights(arch, model.network.conv1.in_channels)
    return found
