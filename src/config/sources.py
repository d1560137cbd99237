"""Choose and merge the files of configs/ as Hydra does: https://hydra.cc/docs/advanced/defaults_list

Hydra's own function `compose` would also load the settings of Hydra itself, about folders, logging
and the start of jobs. That takes longer than everything else, and a file could set them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.defaults import check_defaults
from src.config.origins import read_yaml
from src.config.problems import SettingsError
from src.config.values import shown

MAIN = "config"  # the file with the defaults list
HEADER = "# @package _global_"  # the first line of an experiment, which sets values of all groups


@dataclass
class Files:
    """What the chosen files say."""

    config: DictConfig
    where: dict[str, str] = field(default_factory=dict)  # name of a setting -> file and line
    chosen: dict[str, str] = field(default_factory=dict)  # folder of configs/ -> file


class Folder(FileConfigSource):
    """A folder of YAML files, whose mistakes are named with file and line."""

    def __init__(self, folder: Path, folders: Sequence[Path], read: list[str]) -> None:
        super().__init__("configs", str(folder))
        self.folders = folders  # this one, and the others
        self.read = read  # names of the files that were read, from all folders
        self.lines: dict[str, tuple[Path, dict[str, int]]] = {}  # of each file that was read

    def load_config(self, config_path: str) -> ConfigResult:
        file = Path(self.path, f"{config_path}.yaml")
        if ".." in file.parts:
            raise SettingsError([f"{config_path}.yaml is not in a folder of configs"])
        self.read.append(shown(file))
        values, lines = read_yaml(file, shown(file))
        values = {} if values is None else values
        if not isinstance(values, dict):
            raise SettingsError([f"{shown(file)}: has no settings: write key: value"])
        with file.open(encoding="utf-8") as text:
            first = text.read(512)
        if config_path.startswith("experiment/") and HEADER not in first:
            raise SettingsError([f"{shown(file)}: the first line of an experiment is {HEADER}"])
        if "defaults" in values and config_path != MAIN:
            wrong = check_defaults(config_path, values["defaults"], self.folders)
            problems = [(lines.get(f"defaults.{n}", lines["defaults"]), text) for n, text in wrong]
            if problems:
                raise SettingsError([f"{shown(file)}:{line}: {text}" for line, text in problems])
        self.lines[config_path] = file, lines
        try:
            config, header = OmegaConf.create(values), self._get_header_dict(first)
        except (OmegaConfBaseException, ValueError) as error:
            line = lines.get(str(getattr(error, "full_key", "")), 1)
            raise SettingsError([f"{shown(file)}:{line}: {one_line(error)}"]) from None
        return ConfigResult(self.provider, f"file://{self.path}", config, header)


class Repository(ConfigRepository):
    """Folders of files; those of the first one take precedence."""

    def __init__(self, folders: Sequence[Path]) -> None:
        read: list[str] = []
        self.folders = [Folder(folder, folders, read) for folder in folders]
        self.sources = list(self.folders)


def merge_files(words: Sequence[str], folders: Sequence[Path]) -> Files:
    """Return what the files say that configs/config.yaml and words such as data=mnist choose.

    Raises:
        SettingsError: with the file, if it cannot be used.
    """
    version.setbase("1.3")  # of the rules
    cached = CachingConfigRepository(Repository(folders))
    repository: Any = cached.delegate  # a copy of it
    sources: list[Folder] = repository.folders
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
        defaults = create_defaults_list(
            cached, MAIN, overrides, prepend_hydra=False, skip_missing=False
        )
        found = Files(OmegaConf.create())
        for entry in defaults.defaults:
            path = entry.config_path or MAIN
            result = cached.load_config(path)
            add_file(found, path, entry.package, result.config if result else None)
            add_places(found, path, entry.package, sources)
    except RecursionError:
        file = sources[0].read[-1]
        raise SettingsError([f"{file}: its defaults list leads back to itself"]) from None
    except (HydraException, OmegaConfBaseException, ValueError, AssertionError) as error:
        # Hydra names the file that has named a missing one; otherwise it is the last one
        text = one_line(error)
        named = re.match(r"In '([\w/.-]+)': ", text)
        wanted = [f for f in sources[0].read if named and f.endswith(f"{named[1]}.yaml")]
        file = [*sources[0].read, *wanted][-1]
        raise SettingsError([f"{file}: {text[named.end() if named else 0 :]}"]) from None
    return found


def add_file(found: Files, path: str, package: str | None, config: Any) -> None:
    """Merge the values of a file into the others."""
    if package:
        outer = OmegaConf.create()
        OmegaConf.update(outer, package, config, merge=False)
        config = outer
    found.config.merge_with(config)
    group, _, name = path.partition("/")
    if name:
        found.chosen[group] = name


def add_places(found: Files, path: str, package: str | None, sources: Sequence[Folder]) -> None:
    """Remember the lines of a file."""
    file, lines = next(s.lines[path] for s in sources if path in s.lines)
    for key, line in lines.items():
        if key != "defaults" and not key.startswith("defaults."):  # no setting
            found.where[f"{package}.{key}" if package else key] = f"{shown(file)}:{line}"


def one_line(error: Exception) -> str:
    text = str(error) or str(error.__cause__ or error.__context__ or type(error).__name__)
    text = re.split(r"Config search path|full_key:", text)[0]
    return " ".join(text.split())[:300]
