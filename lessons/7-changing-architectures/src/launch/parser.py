"""An argument parser with groups and spelling suggestions: see arguments.py."""

import argparse
import difflib
import sys

from src.launch.sbatch_options import sbatch_options


class HelpFormatter(argparse.HelpFormatter):
    """Adds the default value, if any, to the help text of an argument."""

    def _get_help_string(self, action):
        silent = any(action.default is none for none in (None, False, argparse.SUPPRESS))
        return action.help if silent else f"{action.help} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """Groups arguments, and treats dashes and underscores in their names as equivalent."""

    group = None  # the group in which the next argument is declared

    def __init__(self, **kwargs):
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: HelpFormatter(prog, max_help_position=30, width=100),
            usage="python run.py [arguments] [-- sbatch options]",
            **kwargs,
        )
        self.group_of = {}  # name of an argument -> its group
        self.options_of = {}  # name of an argument -> its values in the trials
        self.collections = []

    def begin_group(self, title, description=None, launch_only=False, collect_as=None):
        """Begin a new group of arguments.

        The arguments of a launch_only group are not passed to the training. Those of a group with
        collect_as are passed as one dictionary of that name.
        """
        self.group = self.add_argument_group(title, description)
        self.group.launch_only, self.group.collect_as = launch_only, collect_as
        self.collections += [collect_as] if collect_as else []

    def add_argument(self, *names, **kwargs):
        if self.group is None:  # argparse declares --help before any group
            return super().add_argument(*names, **kwargs)
        if "type" in kwargs:
            kwargs.setdefault("metavar", getattr(kwargs["type"], "metavar", None))
        action = self.group.add_argument(*names, **kwargs)
        self.group_of[action.dest] = self.group

    def opt_list(self, name, options, **kwargs):
        """Declare an argument that takes a different one of the options in each trial."""
        self.add_argument(name, **kwargs)
        self.options_of[name] = options

    def trials(self, hparams):
        """Return the arguments of each trial: hparams, with its own values from the options."""
        if hparams.nb_trials == 1:
            return [hparams]
        # imported late: it imports PyTorch, which takes seconds
        from test_tube import HyperOptArgumentParser

        search = HyperOptArgumentParser()
        for name, options in self.options_of.items():
            search.opt_list(name, default=options[0], options=options, tunable=True)
        names = [name.removeprefix("--") for name in self.options_of]
        trials = search.parse_args([]).generate_trials(hparams.nb_trials)
        chosen = [{name: getattr(trial, name) for name in names} for trial in trials]
        return [argparse.Namespace(**{**vars(hparams), **values}) for values in chosen]

    def known(self):
        """Return the names of all arguments declared so far."""
        return [name for action in self._actions for name in action.option_strings]

    def parse_args(self, args=None, namespace=None):
        """Return the arguments by name, and the words after -- as sbatch_options."""
        words = list(sys.argv[1:] if args is None else args)
        end = words.index("--") if "--" in words else len(words)
        self.given = own = [self.spelled(word) for word in words[:end]]
        hparams, unknown = self.parse_known_args(own, namespace)
        if unknown:
            self.refuse(unknown[0])
        try:
            hparams.sbatch_options = sbatch_options(words[end + 1 :], self.known())
        except ValueError as error:
            self.error(str(error))
        return hparams

    def was_given(self, name):
        """Return whether an argument is on the command line, even with its default value."""
        return any(word.partition("=")[0] == name for word in self.given)

    def spelled(self, word):
        """Return an argument spelled as declared, with dashes or underscores."""
        if not word.startswith("--"):
            return word
        name, equals, value = word.partition("=")
        alike = {known.replace("-", "_"): known for known in self.known()}
        return alike.get(name.replace("-", "_"), name) + equals + value

    def refuse(self, word):
        name = word.partition("=")[0]
        if not name.startswith("-"):
            self.error(f"unknown word {word!r:.80}: arguments begin with --")
        near = nearest(name, self.known())
        if near:
            self.exit(2, f"{self.prog}: unknown argument {name:.80}; did you mean {near}?\n")
        self.error(f"unknown argument {name:.80}")

    def _check_value(self, action, value):
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = nearest(value, action.choices)
            error.message += f"; did you mean {near!r}?" if near else ""
            raise

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see python run.py --help\n")

    def settings(self, hparams):
        """Return the training's arguments by name, without those that have no value."""
        found = {name: {} for name in self.collections}
        for name, group in self.group_of.items():
            if not group.launch_only and getattr(hparams, name) is not None:
                place = found[group.collect_as] if group.collect_as else found
                place[name] = getattr(hparams, name)
        return found

    def words(self, hparams):
        """Return the training's arguments as words of a command line."""
        words = []
        for name, group in self.group_of.items():
            value = getattr(hparams, name)
            if group.launch_only or value is None:
                continue
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            else:
                words.append(f"--{name}={value}")  # one word: the value may begin with a dash
        return words


def nearest(word, known):
    """Return the known word most similar to a word, or None; ignore case and dashes."""
    plain = {bare(name): name for name in known}
    found = difflib.get_close_matches(bare(word), plain, n=1)
    return plain[found[0]] if found else None


def bare(word):
    return str(word).lstrip("-").replace("-", "_").lower()
