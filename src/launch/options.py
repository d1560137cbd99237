"""The options of run.py; everything else on its command line is a setting, such as seed=1."""

import argparse
import difflib
from collections.abc import Sequence

from src.config.problems import suggestion
from src.config.schema import known_names
from src.launch.sbatch_options import sbatch_options
from src.utils.errors import UserError

OPTIONS = {
    "--local": "train on this machine (default if it has no Slurm)",
    "--no-local": "submit a job, also where sbatch is missing",
    "--dry-run": "list the runs and print the batch script of the first one; submit nothing",
    "--yes": "submit more than 20 runs without asking back",
    "--print-config": "print the settings, and the file and line of each; run nothing",
    "--help": "list the settings, their units and defaults",
}
# argument of lesson 9 -> setting, where the names do not tell
OF_LESSON_9 = {
    "arch": "network",
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "weights": "init_from",
    "criterion": "loss",
    "dataset": "data",
    "data_dir": "data.data_dir",
    "experiment": "experiment",
    "nb_trials": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "momentum": "optimizer.momentum",
}
WITH_FOLDER = {
    "--config_dir": "a folder with more files, such as experiment/mine.yaml",
    "--resume": "continue the run in this folder, with its settings",
    "--from": "start a new run with the settings of the run in this folder",
}


class UsageError(UserError):  # type: ignore[misc]
    """A command line that cannot be used."""

    code = 2


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"run.py: {message}; see python run.py --help")


def parse_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the words that are settings.

    The words after -- become options.sbatch. Dashes and underscores in names are equivalent.

    Raises:
        UsageError: for an unknown option, with the nearest known one.
    """
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    parser = Parser(prog="run.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--local", action=argparse.BooleanOptionalAction)
    for name in ("--dry-run", "--yes", "--print-config", "--help", "-h"):
        parser.add_argument(name, action="store_true")
    for name in WITH_FOLDER:
        parser.add_argument(name, dest=name.strip("-") if name != "--from" else "from_run")
    known = [*OPTIONS, *WITH_FOLDER, "-h"]
    own = [spelled(word, known) for word in words[:end]]
    options, rest = parser.parse_known_args(own)
    for word in rest:
        if word.startswith("-"):
            raise UsageError(refusal(word.partition("=")[0], known))
    for name in WITH_FOLDER:
        if getattr(options, name.strip("-") if name != "--from" else "from_run") == "":
            raise UsageError(f"run.py: {name} is empty: name a folder")
    if options.resume and options.from_run:
        raise UsageError("run.py: --resume continues a run and --from starts another: use one")
    if options.resume and options.config_dir:
        raise UsageError("run.py: --resume reads the settings of the run only: omit --config_dir")
    options.help |= options.h
    try:
        options.sbatch = sbatch_options(words[end + 1 :])
    except ValueError as error:
        raise UsageError(f"run.py: {error}") from None
    return options, rest


def spelled(word: str, known: Sequence[str]) -> str:
    """Return an option spelled as declared, with dashes or underscores."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    alike = {option.replace("_", "-"): option for option in known}
    return alike.get(name.replace("_", "-"), name) + equals + value


def refusal(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    plain = name.strip("-").replace("-", "_")
    setting = suggestion(plain, known_names()).partition("did you mean ")[2].strip("?")
    setting = OF_LESSON_9.get(plain, setting)
    without = f"settings are written without dashes: {setting or 'seed'}=..."
    hint = f"did you mean {near[0]}?" if near else without
    return f"run.py: unknown option {name:.80}; {hint}"
