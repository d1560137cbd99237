"""Print the settings, and where they come from: python run.py --help, --print-config"""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from src.config.compose import Composed
from src.config.files import in_yaml
from src.config.origins import lines_of
from src.config.problems import in_words, origin
from src.config.schema import Settings
from src.config.values import ROOT
from src.config.words import CONFIGS, groups_in, names_in
from src.launch.options import OPTIONS, WITH_FOLDER

USAGE = """\
python run.py [setting=value ...] [options] [-- options of sbatch]

Train an image model, in a Slurm job or on a machine without Slurm. For example:
  python run.py network=resnet34 trainer.max_epochs=20 slurm.num_nodes=2
  python run.py experiment=cifar10_resnet18 --dry-run
  python run.py seed=1,2,3 network=resnet18,resnet34         six jobs
  python run.py stage=test ckpt=logs/cifar10/version_0/checkpoints/best.ckpt
"""


@contextmanager
def until_closed() -> Iterator[None]:
    """Print, and stop when the reader has seen enough: python run.py --help | head"""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes again when it ends


def print_help(run: Composed, config_dir: Path | None) -> None:
    """Print options, the files that can be chosen, and all settings with their defaults."""
    print(USAGE)
    print("Options:")
    for name, text in OPTIONS.items():
        print(f"  {name:<20} {text}")
    for name, text in WITH_FOLDER.items():
        print(f"  {name + ' FOLDER':<20} {text}")
    print("\nFiles in configs/, chosen by folder=file; * is the default:")
    folders = [*([config_dir] if config_dir else []), CONFIGS]
    for group in groups_in(folders):
        names = [f"{n}*" if n == run.choices.get(group) else n for n in names_in(group, folders)]
        print(textwrap.fill(" ".join(names), 98, initial_indent=f"  {group:<12} ",
                            subsequent_indent=" " * 15))  # fmt: skip
    print("\nSettings, their defaults, and the line of the file that sets them:")
    for key, value, text in described(Settings, run.values, ""):
        print(f"  {key}={in_words(value)}")
        place = run.where.get(key, "src/config/schema.py")
        print(textwrap.fill(f"{comment_at(place) or text} [{place}]", 98, initial_indent=" " * 6,
                            subsequent_indent=" " * 6))  # fmt: skip
    print("\nThe same with other files: python run.py --help optimizer=sgd schedule=cosine")


def comment_at(place: str) -> str:
    """Return the comment on a line of a YAML file: beside the setting, or above it."""
    name, _, number = place.rpartition(":")
    if not name.endswith(".yaml"):
        return ""
    *before, line = (ROOT / name).read_text(encoding="utf-8").splitlines()[: int(number)]
    beside = line.partition("  # ")[2]
    if beside:
        return beside
    above = list(itertools.takewhile(lambda text: text.lstrip().startswith("# "), before[::-1]))
    text = " ".join(text.lstrip(" #") for text in above[::-1] if "@package" not in text)
    return text.partition(" For example:")[0]


def described(
    model: type[BaseModel], values: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, str]]:
    """Yield the name, the value and the description of each setting."""
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    for name in [*known, *(name for name in values if name not in known)]:
        field = known.get(name)
        part = section_of(field.annotation) if field else None
        if part and isinstance(values.get(name), Mapping):
            yield from described(part, values[name], f"{prefix}{name}.")
        else:
            default = field.get_default() if field and name not in values else None
            texts = [limits(field), field.description] if field else ["an argument of _target_"]
            text = "; ".join(part for part in texts if part)
            yield f"{prefix}{name}", values.get(name, default), text


def section_of(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def limits(field: Any) -> str:
    """Return the words that a setting accepts, if they are listed."""
    parts = [field.annotation, *get_args(field.annotation)]
    words = [word for part in parts if get_origin(part) is Literal for word in get_args(part)]
    return " | ".join(map(str, words))


def print_config(run: Composed) -> None:
    """Print the settings of a run as YAML; a comment says where each value is set."""
    text = in_yaml(run.values)
    keys = {line: key for key, line in lines_of(text).items()}
    for number, line in enumerate(text.splitlines(), 1):
        key = keys.get(number, "")
        is_group = any(other.startswith(f"{key}.") for other in keys.values())
        place = "" if is_group else origin(key, run.where).removesuffix(": ")
        print(f"{line:<56}  # {place}" if place else line)
