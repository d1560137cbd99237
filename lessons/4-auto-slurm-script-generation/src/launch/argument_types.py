"""Types of arguments: functions that return the value of a text, or refuse it in one sentence."""

import argparse
import math
import re

# more than enough of anything
MANY = 10**9
# Slurm counts the seconds of a time limit in 32 bits
MOST_SECONDS = 2**31 - 1


def number(kind, low, high=MANY):
    """Return a type of argument: an int or float from low to high; nan is neither."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            noun = "a whole number" if kind is int else "a number"
            both = high != MANY or value > high
            bounds = f"from {low} to {high}" if both else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r:.80} is not {noun} {bounds}")
        return value

    convert.metavar = "N" if kind is int else "X"
    return convert


def word(pattern, rule, metavar):
    """Return a type of argument: text that matches the pattern, explained by the rule."""

    def convert(text):
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r:.80} is not {rule}")
        return text

    convert.metavar = metavar
    return convert


# names and paths stand in #SBATCH lines, where nothing can be quoted for sure
experiment = word(
    r"(?!version_|slurm_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "a letter or digit and up to 63 letters, digits or ._-, and no name of a log folder",
    "NAME",
)
path = word(
    r"(?!.*(://|::))[\w./][\w./@+=:, -]*",
    "a path of only letters, digits, spaces and ./@+=:,_-, and not a URL",
    "PATH",
)
email = word(r"[\w.+-]+@[\w.-]+", "an e-mail address", "ADDRESS")


def minutes(text):
    """Return a time limit in minutes, rounded up, from M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = re.fullmatch(r"(?:(?P<days>\d{1,9})-)?(?P<rest>\d{1,9}(:\d{1,9}){0,2})", text)
    if not match:
        rule = "is not a time: minutes, hours:minutes:seconds, or days-hours:minutes:seconds"
        raise argparse.ArgumentTypeError(f"{text!r:.80} {rule}")
    parts = [int(part) for part in match["rest"].split(":")]
    # after days come hours; without days, one number or two begin with minutes
    unit = 3600 if match["days"] or len(parts) == 3 else 60
    seconds = sum(part * unit // 60**place for place, part in enumerate(parts))
    seconds += int(match["days"] or 0) * 24 * 3600
    if not 0 < seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a time of 1 minute to 68 years")
    return -(-seconds // 60)


minutes.metavar = "TIME"
