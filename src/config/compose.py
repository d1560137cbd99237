"""Compose the settings of a run from configs/ and the command line: see configs/config.yaml.

Hydra chooses and merges the files. The values of the command line are added here, so that all
mistakes can be named at once: Hydra stops at the first one.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.components import validate
from src.config.origins import read_yaml
from src.config.problems import SettingsError, sentence
from src.config.rules import broken_rules
from src.config.schema import Settings
from src.config.sources import MAIN, Files, merge_files
from src.config.values import ROOT, shown
from src.config.words import (
    COMMAND_LINE,
    CONFIGS,
    Change,
    file_of,
    no_file,
    split_words,
)
from src.utils.targets import TARGET

DEFAULTS = re.compile(r"configs/(config|\w+/default)\.yaml:")  # places of default values
Places = dict[str, str]  # name of a setting -> file and line that set it
Base = tuple[Mapping[str, Any], Mapping[str, str]]  # settings of a run, and their lines


@dataclass
class Composed:
    """The settings of one run, and where they come from."""

    settings: Settings
    values: dict[str, Any]
    where: dict[str, str]  # name of a setting -> file and line
    choices: dict[str, str]  # folder of configs/ -> chosen file
    of_a_run: bool = False  # the file of another run has the settings that are not given now
    differs: dict[str, Any] = field(default_factory=dict)  # what tells this run from its siblings

    def was_given(self, name: str) -> bool:
        """Return whether a setting differs from the defaults of configs/ on purpose."""
        place = self.where.get(name, "configs/config.yaml:")
        if self.of_a_run and place != COMMAND_LINE and not place.startswith("configs/"):
            group, _, key = name.rpartition(".")
            values = self.values[group] if group else self.values
            return bool(values[key] != default_of(group, key))
        return not DEFAULTS.match(place)


def default_of(group: str, key: str) -> Any:
    """Return the default of a setting, or None if the files of configs cannot be read."""
    file = CONFIGS / (f"{group}/default.yaml" if group else f"{MAIN}.yaml")
    try:
        values, _ = read_yaml(file, shown(file))
    except SettingsError:
        return None
    return values.get(key) if isinstance(values, dict) else None


def compose_runs(words: Sequence[str], config_dir: Path | None = None,
                 base: Base | None = None, cwd: Path = ROOT,
                 resumes: bool = False) -> list[Composed]:  # fmt: skip
    """Return the settings of each run that the words of a command line describe.

    Args:
        words: such as network=resnet34 or seed=1,2,3.
        config_dir: a folder with more files, which replace those of configs/ with the same name.
        base: the settings of another run, which are used instead of the files.
        cwd: the folder to which the paths in the words are relative.
        resumes: whether the run of base goes on.

    Raises:
        SettingsError: with all mistakes.
    """
    folders = [*([checked_folder(config_dir)] if config_dir else []), CONFIGS]
    problems: list[str] = []
    runs = []
    merged: dict[str, Files] = {}  # files that several runs choose are read only once
    all_changes = split_words(words, folders, cwd)
    several = {
        changes[n].key
        for changes in all_changes
        for n in range(len(changes))
        if changes[n].word != all_changes[0][n].word
    }
    for changes in all_changes:
        try:
            run = compose_run(changes, folders, base, merged, resumes)
        except SettingsError as error:
            problems += error.problems
            continue
        run.differs = {c.key: c.word.partition("=")[2] for c in changes if c.key in several}
        runs.append(run)
    if problems:
        raise SettingsError(problems)
    return runs


def checked_folder(config_dir: Path) -> Path:
    """Return the folder of --config_dir.

    Raises:
        SettingsError: if it is not a folder, or cannot be read.
    """
    try:
        names = {path.name for path in config_dir.iterdir()}
    except OSError as error:
        raise SettingsError([f"--config_dir {config_dir}: {error.strerror}"]) from None
    if f"{MAIN}.yaml" in names:
        remedy = "move its settings to experiment/NAME.yaml, and choose experiment=NAME"
        problem = f"would replace all of configs/{MAIN}.yaml: {remedy}"
        raise SettingsError([f"{config_dir / MAIN}.yaml: {problem}"])
    return config_dir.resolve()


def compose_run(changes: Sequence[Change], folders: Sequence[Path], base: Base | None,
                merged: dict[str, Files], resumes: bool) -> Composed:  # fmt: skip
    choices = [change for change in changes if change.is_choice]
    problems = [p for change in choices for p in missing_file(change, folders)]
    if problems:
        raise SettingsError(problems)
    words = [change.word for change in choices]
    if base is None:
        chosen_words = " ".join(words)
        if chosen_words not in merged:
            merged[chosen_words] = merge_files(words, folders)
        files = copy.deepcopy(merged[chosen_words])
        config, where, chosen = files.config, files.where, files.chosen
    else:
        config, where, chosen = from_base(base, words, folders)
    for change in changes:
        if not change.is_choice:
            problems += set_value(config, where, change)
    broken: dict[str, str] = {}
    values = resolved(config, "", broken)
    problems += [sentence(key, rule, {}, where) for key, rule in broken.items()]
    if values.get("experiment_name", "") is None:
        values["experiment_name"] = name_of_data(values, chosen)
    if not resumes:  # otherwise the program in that folder is run, which must be trusted anyway
        problems += check_trusted(values, where, is_own=base is not None)
    settings, found = check_values(values, where, set(broken))
    problems += found
    if problems or settings is None:
        raise SettingsError(problems)
    return Composed(settings, settings.as_dict(), where, chosen, base is not None)


def from_base(base: Base, words: Sequence[str],
              folders: Sequence[Path]) -> tuple[DictConfig, Places, dict[str, str]]:  # fmt: skip
    """Return the settings of another run, with the files that the words choose."""
    values, where = base
    config, where, chosen = OmegaConf.create(dict(values)), dict(where), {}
    if words:  # otherwise the files of configs/ do not matter: they may have changed
        files = merge_files(words, folders)
        groups = [word.partition("=")[0] for word in words]
        if "experiment" in groups:
            raise SettingsError(
                [f"{COMMAND_LINE}: experiment=... is not possible with --from or --resume"]
            )
        for group in groups:
            config[group] = files.config[group]
            where = {key: w for key, w in where.items() if not f"{key}.".startswith(f"{group}.")}
            where |= {key: w for key, w in files.where.items() if f"{key}.".startswith(f"{group}.")}
            chosen[group] = files.chosen.get(group, "")
    return config, where, chosen


def missing_file(change: Change, folders: Sequence[Path]) -> list[str]:
    names = change.value if isinstance(change.value, list) else [change.value]
    return [
        f"{COMMAND_LINE}: {no_file(change.key, str(name), folders)}"
        for name in names
        if name is not None and not file_of(change.key, str(name), folders)
    ]


def set_value(config: DictConfig, where: dict[str, str], change: Change) -> list[str]:
    """Set a value of the command line; return what is wrong with it."""
    replaces = isinstance(change.value, Mapping) and TARGET in change.value
    try:
        OmegaConf.update(config, change.key, change.value, merge=not replaces, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        reason = " ".join(str(error).partition("\n")[0].split())
        return [f"{COMMAND_LINE}: {change.word:.80} cannot be set ({reason})"]
    if replaces:
        for name in [name for name in where if name.startswith(f"{change.key}.")]:
            del where[name]
    where[change.key] = COMMAND_LINE
    return []


def resolved(node: Any, prefix: str, broken: dict[str, str]) -> Any:
    """Return plain values; add what is wrong with those that cannot be resolved to `broken`."""
    if OmegaConf.is_list(node):
        items: list[tuple[Any, str]] = [(n, str(n)) for n in range(len(node))]
        found: Any = []
    elif OmegaConf.is_dict(node):
        items, found = [(key, str(key)) for key in node], {}
    else:
        return node
    for key, name in items:
        full = f"{prefix}.{name}" if prefix else name
        if OmegaConf.is_missing(node, key):
            broken[full] = f"has no value: set it, such as {full}=..."
            continue
        try:
            value = resolved(node[key], full, broken)
        except (OmegaConfBaseException, RecursionError) as error:
            broken[full] = unresolved(error)
            continue
        if isinstance(found, list):
            found.append(value)
        else:
            found[name] = value
    return found


def unresolved(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    if isinstance(error, RecursionError) or "recurs" in text.lower():
        return "refers to itself: remove the ${...} that lead back to it"
    variable = re.search(r"[Ee]nvironment variable '(\w+)' not found", text)
    if variable:
        name = variable[1]
        return f"needs the environment variable {name}, which is not set: export {name}=..."
    return f"cannot be resolved: {text}"


def name_of_data(values: Mapping[str, Any], chosen: Mapping[str, str]) -> str:
    """Return the name of the file of the data set, or of its class."""
    data = values.get("data")
    target = data.get(TARGET) if isinstance(data, Mapping) else None
    return chosen.get("data", "").rpartition("/")[2] or str(target).rpartition(".")[2]


def check_trusted(values: Mapping[str, Any], where: Mapping[str, str],
                  is_own: bool) -> list[str]:  # fmt: skip
    """Refuse packages that neither configs/config.yaml nor the user declares as trusted.

    is_own: whether the settings are those of a run in this repository.
    """
    if not values.get("trusted"):
        return []
    place = next((where[k] for k in where if k == "trusted" or k.startswith("trusted.")), MAIN)
    known = default_of("", "trusted") or []
    if all(package in known for package in values["trusted"]):
        return []
    if place == COMMAND_LINE or (is_own and not place.startswith("/")):
        return []
    rule = "may be set only in configs/config.yaml or on the command line"
    return [f"{place}: trusted={values['trusted']} {rule}"]


def check_values(values: dict[str, Any], where: Mapping[str, str],
                 broken: set[str]) -> tuple[Settings | None, list[str]]:  # fmt: skip
    """Return the checked settings, and all that is wrong with them, beside the broken ones."""
    settings, problems = validate(values, where, broken)
    if settings:
        rules = broken_rules(settings)
        problems += [sentence(key, rule, values, where) for key, rule in rules]
    return settings, problems
