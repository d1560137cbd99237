"""Rules for single values: functions that return a value, or raise ValueError with the rule."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGENET = "imagenet"  # in place of a file of weights
MANY = 10**9  # upper limit of numbers without a stricter one
MOST_SECONDS = 2**31 - 1  # 68 years: more seconds do not fit into 32 bits


def word(pattern: str, rule: str) -> Callable[[str], str]:
    """Return a check of a text that must match a pattern; the error quotes the rule."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"is not {rule}")
        return text

    return check


# paths appear in #SBATCH lines, where quoting is not reliable
path = word(
    r"(?!.*(://|::))[\w./][\w./@+=:, -]*",
    "a path that consists of letters, digits, spaces and ./@+=:,_- (URLs are not allowed)",
)


def batches(least: int) -> Callable[[Any], Any]:
    """Return a check of a number of batches: 10 is a number, 0.1 a fraction, as in Lightning.

    0 (where allowed) and 1.0 turn the switch off: the value is None.
    """

    def check(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, int):
            if not least <= value <= MANY:
                raise ValueError(f"is not a whole number from {least} to {MANY}")
        elif not least / 1000 <= value <= 1:
            raise ValueError(f"is not a fraction of the batches, from {least / 1000:g} to 1.0")
        return None if repr(value) in ("0", "0.0", "1.0") else value

    return check


def minutes(value: Any) -> int:
    """Return a time limit in minutes, rounded up, from M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = re.fullmatch(r"(?:(?P<days>\d{1,9})-)?(?P<rest>\d{1,9}(:\d{1,9}){0,2})", str(value))
    if not match or isinstance(value, bool):
        rule = "use minutes, hours:minutes:seconds, or days-hours:minutes:seconds"
        raise ValueError(f"is not a time: {rule}")
    parts = [int(part) for part in match["rest"].split(":")]
    # after days, the next number is hours; without days, one or two numbers begin with minutes
    unit = 3600 if match["days"] or len(parts) == 3 else 60
    seconds = sum(part * unit // 60**place for place, part in enumerate(parts))
    seconds += int(match["days"] or 0) * 24 * 3600
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError("is not a time from 1 minute to 68 years")
    return int(-(-seconds // 60))


def from_root(value: Any, folder: Path) -> Any:
    """Return a path (or a list of them) that was given in a folder, as seen from the root."""
    if isinstance(value, list):
        return [from_root(part, folder) for part in value]
    if not isinstance(value, str) or value == IMAGENET or folder == ROOT:
        return value
    return shown((folder / value).absolute())


def shown(file: Path) -> str:
    """Return the name of a file for a person: within the repository, without its folder."""
    return str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)
