"""Check the defaults list of a file, which chooses other files: - override /network: resnet34"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.config.problems import suggestion
from src.config.words import file_of, groups_in, no_file

SELF = "_self_"  # the file itself, in the order of its defaults list
OVERRIDE = "override "
EXAMPLE = "- override /network: resnet34"


def check_defaults(path: str, entries: Any, folders: Sequence[Path]) -> list[tuple[int, str]]:
    """Return the numbers of the wrong entries of a file, from 0, and what is wrong with them.

    Hydra reports these mistakes, too, but without the line, and sometimes for another file.

    Args:
        path: of the file in a folder of configs, such as experiment/mine.
        entries: the value of defaults in this file.
        folders: the folders of configs, the first one first.
    """
    if not isinstance(entries, list):
        return [(0, f"defaults must be a list: write, in a line of its own, {EXAMPLE}")]
    found = ((n, problem_of(path, entry, folders)) for n, entry in enumerate(entries))
    return [(n, problem) for n, problem in found if problem]


def problem_of(path: str, entry: Any, folders: Sequence[Path]) -> str:
    group = path.rpartition("/")[0]
    if isinstance(entry, str):
        if entry.startswith(OVERRIDE):
            return f"{entry} names no file: write {EXAMPLE}"
        is_file = entry == SELF or "/" in entry or "@" in entry or file_of(group, entry, folders)
        return "" if is_file else no_file(group, entry, folders)
    if not isinstance(entry, Mapping):
        return f"{entry!r:.80} is not a file: write {EXAMPLE}"
    if len(entry) != 1:
        return f"{len(entry)} files in one entry: write a dash before each, {EXAMPLE}"
    [(key, name)] = entry.items()
    return problem_of_choice(group, str(key), name, folders)


def problem_of_choice(group: str, key: str, name: Any, folders: Sequence[Path]) -> str:
    """Return what is wrong with an entry such as override /network: resnet34."""
    chosen = key.removeprefix(OVERRIDE).strip()
    if "@" in chosen or chosen.startswith("optional"):
        return ""
    known = groups_in(folders)
    wanted = chosen.removeprefix("/")
    if chosen == wanted and any((folder / group / wanted).is_dir() for folder in folders):
        return ""  # a folder beside the file
    if wanted not in known:
        near = suggestion(wanted, known) or f": choose from {', '.join(known)}"
        return f"{key}: configs has no folder {wanted}{near}"
    if key != f"{OVERRIDE}/{wanted}" and wanted != group:
        return f"{key}: another file has chosen this before: write - {OVERRIDE}/{wanted}: {name}"
    names = name if isinstance(name, list) else [name]
    missing = [n for n in names if n is not None and not file_of(wanted, str(n), folders)]
    return no_file(wanted, str(missing[0]), folders) if missing else ""
