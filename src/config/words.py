"""Read the words of the command line: key=value, or folder=file of configs/."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from src.config.problems import SettingsError, in_words, suggestion
from src.config.values import ROOT, from_root
from src.utils.targets import TARGET

CONFIGS = ROOT / "configs"
COMMAND_LINE = "command line"
KEY = re.compile(r"\+{0,2}[A-Za-z_][\w-]*([./][\w-]+)*(@.*)?", re.ASCII)
LONGEST_KEY = 200  # characters
MOST_BRACKETS = 50  # in a word; reading those within others takes much longer with each
MOST_RUNS = 1000  # of one command
WITHOUT_CLASS = ("experiment", "trainer", "slurm")  # folders of configs/ without a _target_
SEVERAL_FILES = ("experiment", "callbacks")  # folders whose files can be combined
PATHS = ("log_path", "ckpt", "init_from", "predict", "data.data_dir", "data.path")


@dataclass
class Change:
    """A word of the command line: key=value."""

    key: str
    value: Any
    word: str  # as in the command line, with the value of this run
    is_choice: bool = False  # of a file in a folder of configs/


def split_words(words: Sequence[str], folders: Sequence[Path], cwd: Path) -> list[list[Change]]:
    """Return the changes of each run; a list such as seed=1,2,3 makes several runs.

    Raises:
        SettingsError: with all words that are not key=value.
    """
    problems, choices = [], []
    parser = OverridesParser.create()
    for word in words:
        try:
            choices.append(alternatives(parser, word, folders, cwd))
        except (HydraException, ValueError) as error:
            problems.append(f"{COMMAND_LINE}: {word!r:.80} {plain_reason(error)}")
    keys = [change.key for changes in choices for change in changes[:1]]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    problems += [f"{COMMAND_LINE}: {key}=... is there twice: leave out one" for key in twice]
    if math.prod(map(len, choices)) > MOST_RUNS:
        problems.append(f"{COMMAND_LINE}: these lists describe more than {MOST_RUNS} jobs")
    if problems:
        raise SettingsError(problems)
    return [list(run) for run in itertools.product(*choices)]


def alternatives(parser: OverridesParser, word: str, folders: Sequence[Path],
                 cwd: Path) -> list[Change]:  # fmt: skip
    """Return what a word changes, in each of the runs.

    Raises:
        ValueError: if it is not key=value.
        HydraException: if its value has a wrong syntax.
    """
    if word.startswith("~"):
        raise ValueError("removes a setting: choose another file, such as callbacks=none")
    if "=" not in word:
        raise ValueError("is neither an option nor key=value, such as trainer.max_epochs=20")
    name = word.partition("=")[0]
    if len(name) > LONGEST_KEY or not KEY.fullmatch(name):
        raise ValueError("has no key of names and dots before its =, as trainer.max_epochs=20 has")
    if sum(map(word.count, "[{(")) > MOST_BRACKETS:
        raise ValueError(f"has more than {MOST_BRACKETS} brackets: write it into a file of configs")
    override = parser.parse_override(with_home(word))
    key = override.key_or_group
    if override.package is not None:
        raise ValueError("names a package after @: give the key without it")
    is_group = any((folder / key).is_dir() for folder in folders)
    if not override.is_sweep_override():
        values = [override.value()]
    elif override.is_choice_sweep() or override.is_range_sweep():
        found = itertools.islice(override.sweep_iterator(), MOST_RUNS + 1)
        values = [plain_value(value) for value in found]
    else:
        raise ValueError(f"must list its values: {key}=a,b,c")
    if len(set(map(repr, values))) < len(values):
        raise ValueError("lists a value twice")
    if key in PATHS:
        values = [from_root(value, cwd) for value in values]
    return [change(key, value, is_group, folders) for value in values]


def with_home(word: str) -> str:
    """Expand ~ at the start of a path, which shells expand only at the start of a word."""
    name, _, value = word.partition("=")
    if name in PATHS and value.startswith("~/"):
        return f"{name}={Path.home()}{value[1:]}"
    return word


def plain_value(value: Any) -> Any:
    """Return an element of a list, which Hydra may give as quoted text."""
    return getattr(value, "text", value)


def change(key: str, value: Any, is_group: bool, folders: Sequence[Path]) -> Change:
    word = f"{key}={in_words(value) if not isinstance(value, str) else value}"
    if is_group and value is None and key != "experiment":
        raise ValueError("needs a file: choose from " + ", ".join(names_in(key, folders)))
    if is_group and isinstance(value, list) and key not in SEVERAL_FILES:
        raise ValueError(f"can be one file only; for a job with each, write {key}=a,b")
    is_class = is_group and isinstance(value, str) and "." in value and key not in WITHOUT_CLASS
    if is_class and not value.endswith(".yaml") and not file_of(key, value, folders):
        value = {TARGET: value}  # network=torchvision.models.vgg11
    is_choice = is_group and not isinstance(value, Mapping)
    return Change(key, value, word, is_choice)


def plain_reason(error: Exception) -> str:
    if isinstance(error, HydraException):
        first = str(error).partition("\n")[0]
        return (
            f"cannot be read ({first}); put a text with special characters in quotes:"
            " 'key=\"...\"', or in a list 'key=[\"...\"]'"
        )
    return str(error)


def file_of(group: str, name: str, folders: Sequence[Path]) -> Path | None:
    """Return the file of a choice, or None."""
    if name.startswith("/") or ".." in name.split("/"):
        return None
    found = (folder / group / f"{name}.yaml" for folder in folders)
    return next((file for file in found if file.is_file()), None)


def names_in(group: str, folders: Sequence[Path]) -> list[str]:
    """Return the names of the files that can be chosen in a folder of configs/."""
    files = {
        file.relative_to(folder / group).with_suffix("").as_posix()
        for folder in folders
        for file in (folder / group).rglob("*.yaml")
        if file.is_file()
    }
    return sorted(files)


def groups_in(folders: Sequence[Path]) -> list[str]:
    """Return the names of the folders of configs/ from which a file can be chosen."""
    return sorted({path.name for folder in folders for path in folder.iterdir() if path.is_dir()})


def no_file(group: str, name: str, folders: Sequence[Path]) -> str:
    """Return the sentence about a file that a folder of configs/ does not have."""
    known = names_in(group, folders)
    if name.removesuffix(".yaml") in known:
        remedy = ": leave out .yaml"
    else:
        remedy = suggestion(name, known) or f": choose from {', '.join(known)}"
    return f"{group}={name} has no file configs/{group}/{name}.yaml{remedy}"
