"""Find a data set or a network by name: that of its file, or one of the file's NAMES.

A file can say more about itself, in constants that are read without importing it, since importing
torch takes seconds:
    NAMES = ["small", "large"]      it has several; its function gets the name as first argument
    ARGUMENTS = {"width": {"default": 32, "help": "..."}}    its own arguments, for run.py
    NEEDS = "some_package"          it is offered only where this package is installed
"""

import ast
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from src.utils.errors import UserError

SRC = Path(__file__).parents[1]
# what the name of a file's class or function ends in: my_photos.py has MyPhotosDataModule
ENDINGS = {"datasets": "DataModule", "networks": ""}
# what other files of the folder derive from
BASES = {"image_data_module"}


def constant(file, name, default):
    """Return a constant of a file without importing it.

    Raises:
        UserError: with one sentence, if it is not written as a plain value.
    """
    try:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets) == name:
                return ast.literal_eval(node.value)
    except SyntaxError:
        pass  # it is reported when the file is used
    except ValueError:
        raise UserError(f"{name} in {file.relative_to(SRC.parent)} must be a plain value") from None
    return default


def sources(folder):
    """Name -> file, of all that can be used here from a folder of src."""
    found = {}
    for file in sorted((SRC / folder).glob("*.py")):
        needs = constant(file, "NEEDS", None)
        offered = file.stem.isidentifier() and file.stem[0] != "_" and file.stem not in BASES
        if offered and (needs is None or find_spec(needs)):
            for name in constant(file, "NAMES", [file.stem]):
                other = found.setdefault(name, file)
                if other != file:
                    both = f"src/{folder}/{other.name} and src/{folder}/{file.name}"
                    raise UserError(f"{name!r} is the name of two files: rename {both}")
    return found


def names(folder):
    return list(sources(folder))


def source(folder, name):
    """Return the file that has a name, or None."""
    return sources(folder).get(name)


def find(folder, name):
    """Return the class or function that makes what has this name.

    Raises:
        UserError: with one sentence, if its file cannot be imported or has none.
    """
    file = source(folder, name)
    if not file:
        raise UserError(f"src/{folder} has no {name!r}: known are {', '.join(names(folder))}")
    where = f"src/{folder}/{file.name}"
    try:
        module = import_module(f"src.{folder}.{file.stem}")
    except ModuleNotFoundError as error:
        raise UserError(f"{where} needs {error.name}, which is not there") from None
    wanted = (file.stem.replace("_", "") + ENDINGS[folder]).lower()
    found = [value for key, value in vars(module).items() if key.lower() == wanted]
    if not found:
        example = file.stem.title().replace("_", "") + ENDINGS[folder]
        rule = f"it must have a class with the name of the file, such as {example}"
        raise UserError(f"{where} has no class {wanted}: {rule}")
    return partial(found[0], name) if constant(file, "NAMES", None) else found[0]
