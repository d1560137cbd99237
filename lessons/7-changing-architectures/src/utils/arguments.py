"""Arguments that are refused in one sentence if they cannot be right: see run.py."""

import argparse
import math
import re
import shlex

from test_tube import HyperOptArgumentParser

# arguments of the launch, which the training in the job has no use for
LAUNCH_ONLY = ("local", "dry_run", "nb_trials", "time_min", "mem_gb", "email", "hpc_exp_number")
# switches of Lightning's Trainer for looking for mistakes, and what they are when they are off
WHOLE = {"limit_train_batches": 1.0, "limit_val_batches": 1.0, "fast_dev_run": 0}
WHOLE["overfit_batches"] = 0
# more than enough of anything, and less than what wraps around in Slurm
MANY = 10**9


class Parser(HyperOptArgumentParser):
    """Refuses what it does not know, in one sentence."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_args(self, args=None, namespace=None):
        # test-tube lets a stray word pass that equals some argument's value, such as False
        _, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [a.option_strings[0] for a in self._actions if a.help != argparse.SUPPRESS]
            self.error(f"unknown arguments: {shlex.join(unknown)}; known are {' '.join(known)}")
        return super().parse_args(args, namespace)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see python run.py --help\n")


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

    return convert


def batches(least):
    """Return a type of argument: 10 is a number of batches and 0.1 a share, as in Lightning."""
    whole, share = number(int, least), number(float, least / 1000, 1)
    return lambda text: whole(text) if text.isdecimal() else share(text)


def shortened(hparams):
    """Return the switches that are on, by name; 1 is a single batch, and 1.0 is all of them."""
    return {k: v for k, v in vars(hparams).items() if k in WHOLE and repr(v) != repr(WHOLE[k])}


def word(pattern, rule):
    """Return a type of argument: text that matches the pattern, explained by the rule."""

    def convert(text):
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r:.80} is not {rule}")
        return text

    return convert


# names and paths stand in #SBATCH lines, where nothing can be quoted for sure
name = word(
    r"(?!version_|slurm_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "a letter or digit and up to 63 letters, digits or ._-, and no name of a log folder",
)
path = word(r"[\w./][\w./@+=:, -]*", "a path of only letters, digits, spaces and ./@+=:,_-")
email = word(r"[\w.+-]+@[\w.-]+", "an e-mail address")


def training_arguments(hparams):
    """Return the arguments by name, without those of the launch and test-tube's functions."""
    named = vars(hparams).items()
    return {k: v for k, v in named if k not in LAUNCH_ONLY and v is not None and not callable(v)}
