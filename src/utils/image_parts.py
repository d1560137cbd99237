"""Which image files a folder has, of which class and for which part: see image_folder.py."""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from torch import Tensor

from src.utils.errors import UserError
from src.utils.image_files import find_files, is_used, listed, refuse

PARTS = ("train", "val", "test")


class Entry(NamedTuple):
    """A file of a data set."""

    file: str  # path within the folder of the set
    label: str | float  # name of the class; in regression, a number
    part: str = ""  # one of PARTS, or empty: not yet known


def entries_of(folder: Path, split: str) -> list[Entry]:
    """Return the files of a data set: one folder per class, or what a CSV file lists.

    Raises:
        UserError: if the folder, or the CSV file, is not as `split` demands.
    """
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "missing"
        raise UserError(f"{folder} is {what}: data.path must be the folder of the images")
    if split == "seed":
        return from_class_folders(folder)
    return from_part_folders(folder) if split == "folders" else from_csv(folder, folder / split)


def from_class_folders(folder: Path, below: str = "", part: str = "") -> list[Entry]:
    place = folder / below
    names = folders_in(place)
    if not part and "train" in names and set(names) <= {*PARTS, "valid", "validation"}:
        found = listed(names)
        raise UserError(f"the folders in {folder} are {found}: use data.split=folders")
    # the class is the folder in `place`; there may be others in it
    files = [PurePosixPath(file) for file in find_files(place)]
    loose = [
        str(file) for file in files if len(file.parts) == 1 and file.suffix.lower() in SUFFIXES
    ]
    if loose:
        raise UserError(
            f"images in {place} are in no class folder: {listed(loose)}; move them into one"
        )
    entries = [
        Entry(str(PurePosixPath(below, file)), file.parts[0], part)
        for file in files
        if len(file.parts) > 1
    ]
    empty = [name for name in names if name not in {entry.label for entry in entries}]
    if empty:
        raise UserError(f"class folders in {place} contain no images: {listed(empty)}")
    if not entries:
        raise UserError(f"{place} contains no images: it must have one folder per class")
    return entries


# files in a folder of classes that are images, and not the notes beside them
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pgm", ".ppm"}


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out."""
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        refuse(error)
    return sorted(path.name for path in paths if path.is_dir() and is_used(path.name))


def from_part_folders(folder: Path) -> list[Entry]:
    names = folders_in(folder)
    missing = [str(folder / name) for name in ("train", "test") if name not in names]
    if missing:
        rule = "data.split=folders needs the folders train, test and, if you like, val"
        raise UserError(f"{listed(missing)}: missing; {rule}")
    other = [name for name in names if name not in PARTS]
    if other:
        raise UserError(f"{folder} has other folders than train, val and test: {listed(other)}")
    return [entry for name in names for entry in from_class_folders(folder, name, name)]


# --- a CSV file with the columns file, split and, if you like, label or target


def from_csv(folder: Path, path: Path) -> list[Entry]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8: save it as CSV again") from None
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file: {error}") from None
    except OSError as error:
        where = "a CSV file is looked for in data.path"
        raise UserError(f"data.split: {path} cannot be read ({error.strerror}); {where}") from None
    missing = [name for name in ("file", "split") if name not in columns]
    if missing:
        raise UserError(
            f"{path} has no column {listed(missing)}; it has {listed(columns) or 'none'}"
        )
    if {"label", "target"} <= set(columns):
        raise UserError(f"{path} has the columns label (classes) and target (numbers): keep one")
    entries, faults = [], []
    for line, row in rows:
        try:
            entries.append(entry_of(row, folder))
        except ValueError as error:
            faults.append(f"line {line}: {error}")
    faults += twice(entries)
    if faults:
        raise UserError(f"{path} has {len(faults)} faults: {listed(faults)}")
    if not entries:
        raise UserError(f"{path} lists no files")
    return entries


def entry_of(row: dict[str, str | None], folder: Path) -> Entry:
    """Return the file of a row; raise ValueError if a value is not valid."""
    values = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    file, part = values["file"], values["split"]
    if not file:
        raise ValueError("file is empty")
    if part not in PARTS:
        raise ValueError(f"split is {part!r}, but must be train, val or test")
    if not (folder / file).is_file():
        raise ValueError(f"{file} is missing in {folder}")
    if "target" in values:
        return Entry(file, number(values["target"]), part)
    label = values.get("label", PurePosixPath(file).parent.name)
    if not label:
        raise ValueError("label is empty" if "label" in values else f"{file} is in no class folder")
    return Entry(file, label, part)


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"target is {text!r}, but must be a number")
    return value


def twice(entries: list[Entry]) -> Iterator[str]:
    """Yield a sentence for each file that is listed again."""
    parts: dict[str, str] = {}
    for entry in entries:
        name = os.path.normpath(entry.file)
        if name in parts:
            yield f"{entry.file} is listed twice, for {parts[name]} and {entry.part}"
        parts[name] = entry.part


# --- what is refused


def check_readable(folder: Path, names: Sequence[str], faults: Sequence[str]) -> None:
    """Refuse files that cannot be read; a fault is empty if the file can.

    Raises:
        UserError: with all of them, ten listed.
    """
    found = [f"{name} ({fault})" for name, fault in zip(names, faults, strict=True) if fault]
    if found:
        count = f"{len(found)} of {len(names)} files in {folder}"
        raise UserError(f"{count} cannot be used: {listed(found)}; repair or remove them")


def check_duplicates(
    folder: Path, names: Sequence[str], digests: Sequence[bytes], parts: Sequence[str]
) -> None:
    """Refuse equal files in two parts: a test with training images says nothing.

    Raises:
        UserError: with all of them, ten listed.
    """
    first: dict[bytes, tuple[str, str]] = {}
    pairs = []
    for name, digest, part in zip(names, digests, parts, strict=True):
        other, other_part = first.setdefault(digest, (name, part))
        if other_part != part:
            pairs.append(f"{other} ({other_part}) and {name} ({part})")
    if pairs:
        count = f"{len(pairs)} images in {folder} are also in another part"
        remedy = "remove one of each pair, or set data.allow_duplicates=true"
        raise UserError(f"{count}: {listed(pairs)}; {remedy}")


def check_parts(
    path: Path, parts: dict[str, list[int]], labels: Tensor, classes: Sequence[str]
) -> None:
    """Refuse parts without images, or of other classes.

    Raises:
        UserError: if a training with them would fail, or its results mean little.
    """
    if len(classes) == 1:
        raise UserError(f"{path} has one class only, {classes[0]}: add images of another class")
    for part in PARTS:
        if not parts[part]:
            raise UserError(f"{path} has no images for the part {part}")
    if not classes:
        return
    found = {part: Counter(labels[torch.tensor(parts[part])].tolist()) for part in PARTS}
    absent = [name for number, name in enumerate(classes) if not found["train"][number]]
    if absent:
        raise UserError(f"{path} has no training images of {listed(absent)}")
    untested = [name for number, name in enumerate(classes) if not found["test"][number]]
    if untested:
        remedy = "each class needs training images and test images"
        raise UserError(f"{path} has no test images of {listed(untested)}: {remedy}")
