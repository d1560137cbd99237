"""Classes and functions that settings name by their path, in _target_: torch.optim.Adam"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from src.utils.errors import UserError

TARGET = "_target_"
LIBRARIES = {"torch", "torchvision", "lightning", "torchmetrics"}
# what settings may name in this project, and the only functions in a library that they may name:
# among the others are some that read files, delete them, or run programs
PARTS = ("src.callbacks.", "src.datasets.", "src.models.", "src.networks.")
NETWORKS = "torchvision.models."
# names that libraries use for what the program knows: the number of channels of an image, the
# number of scores, and the length of the training
CHANNELS = ("in_chans", "in_channels", "num_channels")
OUTPUTS = ("num_classes", "num_outputs", "out_features")
LENGTHS = ("T_max", "total_steps", "total_iters")
# packages whose classes settings may name; config.yaml can add others
trusted = {"src", *LIBRARIES}


def may_be_function(path: str) -> bool:
    """Return whether a function with this path may be named, not only a class."""
    package = path.partition(".")[0]
    if package in LIBRARIES:
        return path.startswith(NETWORKS) and "._" not in path
    return is_part(path)


def is_part(path: str) -> bool:
    """Return whether a path may be named, if it is one of this project."""
    return not path.startswith("src.") or path.startswith(PARTS)


def trust(packages: Iterable[str]) -> None:
    """Let settings name classes of these packages, too."""
    trusted.update(packages)


def find_target(path: str) -> Callable[..., Any]:
    """Return the class or function with this path, such as torch.optim.Adam.

    Raises:
        UserError: if its package is not trusted, or if there is no such class or function.
    """
    package, _, _ = path.partition(".")
    if package not in trusted:
        known = ", ".join(sorted(trusted))
        raise UserError(f"{path} is not in a trusted package ({known}): add {package} to trusted")
    module, _, name = path.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{TARGET} {path}: {error}") from None
    # where it is defined: a module also has what it imports
    home = f"{getattr(found, '__module__', '')}."
    if not is_part(path) or (package == "src" and not home.startswith(PARTS)):
        raise UserError(f"{TARGET} {path} may not be named: it is not in {', '.join(PARTS)}")
    is_function = callable(found) and may_be_function(path)
    if package in LIBRARIES:
        is_function = is_function and home.startswith(NETWORKS)
    if not isinstance(found, type) and not is_function:
        raise UserError(f"{TARGET} {path} is not a class")
    if isinstance(found, type) and package in LIBRARIES and not issubclass(found, kinds()):
        names = ", ".join(kind.__name__ for kind in kinds())
        raise UserError(f"{TARGET} {path} is a class of another kind than {names}")
    return found


@cache
def kinds() -> tuple[type, ...]:
    """Return the kinds of classes that settings may name in a library.

    Among the other ones are some that run programs.
    """
    # imported late: run.py reads settings, too, and these take seconds
    import lightning as L
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    return (
        nn.Module,
        Optimizer,
        LRScheduler,
        L.Callback,
        L.LightningDataModule,
        Strategy,
        Logger,
    )


def instantiate(settings: Mapping[str, Any], *given: Any, **offered: Any) -> Any:
    """Build what `_target_` names, from the other settings and the given values.

    An offered value is used if the target has an argument of that name which the settings do not
    set, or set to null. Settings that name a target themselves are built first, also in lists.

    Raises:
        UserError: if the target does not exist, is not trusted, or refuses its arguments.
    """
    path = settings[TARGET]
    target = find_target(path)
    own = {name: build(value) for name, value in settings.items() if name != TARGET}
    names = parameters(target)
    taken = {k: v for k, v in offered.items() if k in names and own.get(k) is None}
    own = {name: value for name, value in own.items() if name not in taken}
    try:
        return target(*given, **{**taken, **own})
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {error}") from error


def build(value: Any) -> Any:
    """Return a value in which all settings that name a target have been built."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return instantiate(value)
        return {name: build(part) for name, part in value.items()}
    return [build(part) for part in value] if isinstance(value, list) else value


def parameters(target: Callable[..., Any]) -> set[str]:
    """Return the names of a target's arguments; none if Python cannot tell."""
    try:
        return set(inspect.signature(target).parameters)
    except ValueError:
        return set()
