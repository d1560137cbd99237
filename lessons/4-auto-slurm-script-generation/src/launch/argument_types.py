"""Argument types: functions that convert text to a value, or refuse it in one sentence."""

import argparse
import math
import re

# upper limit of numbers without a stricter one
MANY = 10**9
# 68 years: more seconds do not fit into 32 bits
MOST_SECONDS = 2**31 - 1


def number(kind, low, high=MANY):
    """Return an argument type: an int or a float from low to high; nan is refused."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            noun = "a whole number" if kind is int else "a number"
            both = high != MANY or value > high
            bounds = f"from {low} to {high}" if both else f"that is at least {low}"
            raise argparse.ArgumentTypeError(f"{text!r:.80} is not {noun} {bounds}")
        return value

    convert.metavar = "N" if kind is int else "X"
    return convert


def word(pattern, rule, metavar):
    """Return an argument type: text that matches the pattern; errors quote the rule."""

    def convert(text):
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r:.80} is not {rule}")
        return text

    convert.metavar = metavar
    return convert


# names and paths appear in #SBATCH lines, where quoting is not reliable
experiment = word(
    r"(?!version_|slurm_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "a name of up to 64 letters, digits and ._- that begins with a letter or digit"
    " (but not with version_ or slurm_)",
    "NAME",
)
path = word(
    r"(?!.*(://|::))[\w./][\w./@+=:, -]*",
    "a path that consists of letters, digits, spaces and ./@+=:,_- (URLs are not allowed)",
    "PATH",
)
email = word(r"[\w.+-]+@[\w.-]+", "an e-mail address", "ADDRESS")


def minutes(text):
    """Return a time limit in minutes, rounded up, from M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = re.fullmatch(r"(?:(?P<days>\d{1,9})-)?(?P<rest>\d{1,9}(:\d{1,9}){0,2})", text)
    if not match:
        rule = "is not a time: use minutes, hours:minutes:seconds, or days-hours:minutes:seconds"
        raise argparse.ArgumentTypeError(f"{text!r:.80} {rule}")
    parts = [int(part) for part in match["rest"].split(":")]
    # after days, the next number is hours; without days, one or two numbers begin with minutes
    unit = 3600 if match["days"] or len(parts) == 3 else 60
    seconds = sum(part * unit // 60**place for place, part in enumerate(parts))
    seconds += int(match["days"] or 0) * 24 * 3600
    if not 0 < seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is not a time from 1 minute to 68 years")
    return -(-seconds // 60)


minutes.metavar = "TIME"
