"""Resolve paths: given ones from the current folder, defaults from the repository's root."""

import argparse
import os
from pathlib import Path

from src.launch.argument_types import path
from src.launch.provenance import IS_COPY, ROOT


def enter_root(parser, hparams):
    """Make the repository's root the current folder; paths that were given keep their meaning.

    The copy of the program in a run folder does nothing here: its job already starts in the root.
    """
    if IS_COPY:
        return
    for name in ("log_path", "data_dir"):
        if Path.cwd() != ROOT and parser.was_given(f"--{name}"):
            given = Path(getattr(hparams, name)).absolute()
            given = given.relative_to(ROOT) if given.is_relative_to(ROOT) else given
            try:
                setattr(hparams, name, path(str(given)))
            except argparse.ArgumentTypeError as error:
                parser.error(f"argument --{name}: {error}")
    os.chdir(ROOT)
