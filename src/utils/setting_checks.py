"""Refuse settings of the data that are not valid: see src/datasets/image_data_module.py."""

import math
from pathlib import Path
from typing import Any

from src.utils.errors import UserError
from src.utils.image_files import FITS


def check_sampling(val_split: Any, balanced: Any, folds: Any, fold: Any) -> None:
    """Check the settings that divide the training images.

    Raises:
        UserError: if one of them is not valid.
    """
    if not is_number(val_split) or not 0 < val_split < 1:
        raise UserError(f"data.val_split must be a share between 0 and 1, not {val_split!r}")
    if not isinstance(balanced, bool):
        raise UserError(f"data.balanced must be true or false, not {balanced!r}")
    if folds is not None and (not is_number(folds, int) or folds < 2):
        raise UserError(f"data.folds must be null or a number of parts from 2, not {folds!r}")
    if not is_number(fold, int) or fold < 0:
        raise UserError(f"data.fold must be the number of a part, from 0, not {fold!r}")
    if folds is None and fold:
        raise UserError(f"data.fold is {fold}, but data.folds is not set: set the number of parts")
    if folds is not None and fold >= folds:
        raise UserError(f"data.fold must be 0 to {folds - 1} with data.folds={folds}, not {fold}")


def is_number(value: Any, kind: Any = (int, float)) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def check_images(given: dict[str, Any]) -> None:
    """Refuse settings that are not valid.

    Raises:
        UserError: for the first of them.
    """
    for name, (valid, rule) in rules_of_images(given).items():
        if not valid:
            raise UserError(f"data.{name} must be {rule}, not {given[name]!r}")


def rules_of_images(given: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """Return name -> whether the setting is valid, and what it must be."""
    size, span, channels = given["image_size"], given["value_range"], given["channels"]
    per_channel = "null, or a list of one number in [0, 1] per channel"
    return {
        "path": (
            isinstance(given["path"], str | Path) and given["path"] != "",
            "the folder of your images",
        ),
        "image_size": (
            positive(size) or (is_list(size, 2) and all(map(positive, size))),
            "a number of pixels, or [height, width]",
        ),
        "channels": (channels is None or is_one(channels, 1, 3), "null, 1 or 3"),
        "fit": (is_one(given["fit"], *FITS), "stretch, crop or pad"),
        "value_range": (
            is_list(span, 2) and all(map(is_number, span)) and span[0] < span[1],
            "two numbers, [black, white], such as [0, 4095]",
        ),
        "split": (
            is_one(given["split"], "seed", "folders") or str(given["split"]).endswith(".csv"),
            "seed, folders, or the name of a CSV file",
        ),
        "test_split": (
            is_number(given["test_split"]) and 0 < given["test_split"] < 1,
            "a share between 0 and 1",
        ),
        "split_seed": (is_number(given["split_seed"], int), "a whole number"),
        "in_memory": (isinstance(given["in_memory"], bool), "true or false"),
        "allow_duplicates": (isinstance(given["allow_duplicates"], bool), "true or false"),
        "mean": (given["mean"] is None or are_numbers(given["mean"], -math.inf), per_channel),
        "std": (given["std"] is None or are_numbers(given["std"], 0), per_channel),
    }


def are_numbers(values: Any, above: float) -> bool:
    return is_list(values) and all(is_number(value) and value > above for value in values)


def is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, list | tuple) and length in (None, len(value)) and len(value) > 0


def is_one(value: Any, *choices: Any) -> bool:
    return not isinstance(value, bool) and any(value == choice for choice in choices)


def positive(value: Any) -> bool:
    return is_number(value, int) and value > 0
