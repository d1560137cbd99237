"""Write the settings of a run into its folder, and read them again."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from src.config.components import validate
from src.config.origins import read_yaml
from src.config.problems import SettingsError
from src.config.schema import Settings
from src.utils.errors import NotSubmittedError, UserError
from src.utils.targets import trust

NAME = "config.yaml"


def write_settings(folder: Path, values: Mapping[str, Any]) -> None:
    """Write config.yaml, all at once.

    Raises:
        OSError: if it cannot be written.
    """
    # a name of its own: several processes may write at the same time
    part = folder / f".{NAME}.{socket.gethostname()}.{os.getpid()}"
    part.write_text(in_yaml(values))
    part.replace(folder / NAME)


@contextmanager
def changed_settings(folder: Path, values: Mapping[str, Any]) -> Iterator[None]:
    """Write config.yaml of a run that continues; bring the old one back if it does not.

    Raises:
        UserError: if it cannot be written.
    """
    file = folder / NAME
    try:
        before = file.read_bytes()
        write_settings(folder, values)
    except OSError as error:
        raise UserError(f"cannot write to {error.filename or file} ({error.strerror})") from None
    try:
        yield
    except NotSubmittedError:
        file.write_bytes(before)
        raise


def in_yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100))


def read_values(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what config.yaml in a run folder says, and the line of each setting.

    Raises:
        UserError: if it is missing, or not YAML.
    """
    file = folder / NAME
    if not file.is_file():
        example = "name the folder of a run, such as logs/cifar10/version_0"
        raise UserError(f"{file} is missing: {example}")
    values, lines = read_yaml(file, str(file))
    if not isinstance(values, dict):
        raise UserError(f"{file} has no settings")
    return values, {key: f"{file}:{line}" for key, line in lines.items()}


def read_settings(folder: Path) -> Settings:
    """Return the settings of a run, and trust the packages that they name.

    Raises:
        UserError: if config.yaml is missing, or has been edited to something that cannot be used.
    """
    settings, problems = validate(*read_values(folder))
    if problems or settings is None:
        raise SettingsError(problems)
    trust(settings.trusted)
    return settings
