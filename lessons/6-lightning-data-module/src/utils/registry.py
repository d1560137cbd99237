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
        for node in ast.parse(file.read_bytes()).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(targets) == name:
                return ast.literal_eval(node.value)
    except SyntaxError:
        pass  # it is reported when the file is used
    except (ValueError, TypeError, OSError):
        raise UserError(f"{name} in {file.relative_to(SRC.parent)} must be a plain value") from None
    return default


def sources(folder):
    """Name -> file, of all that can be used here from a folder of src."""
    found = {}
    for file in filter(Path.is_file, sorted((SRC / folder).glob("*.py"))):
        if file.stem.isidentifier() and file.stem[0] != "_" and file.stem not in BASES:
            for name in offered_names(file):
                other = found.setdefault(name, file)
                if other != file:
                    both = f"src/{folder}/{other.name} and src/{folder}/{file.name}"
                    raise UserError(f"{name!r} is the name of two files: rename {both}")
    return found


def offered_names(file):
    """Return the names that a file stands for, none if a package that it needs is missing."""
    where = file.relative_to(SRC.parent)
    own, needs = constant(file, "NAMES", [file.stem]), constant(file, "NEEDS", "os")
    if not isinstance(own, list) or not all(isinstance(name, str) and name for name in own):
        raise UserError(f'NAMES in {where} must be a list of names, such as ["small", "large"]')
    if not isinstance(needs, str) or not needs.isidentifier():
        raise UserError(f'NEEDS in {where} must be the name of a package, such as "timm"')
    return own if find_spec(needs) else []


def own_arguments(folder, name):
    """Return the ARGUMENTS of a file: the name of each, and the keywords of its declaration.

    Raises:
        UserError: with one sentence, if they are not of the form that run.py can declare.
    """
    file = source(folder, name)
    found = constant(file, "ARGUMENTS", {}) if file else {}
    example = '{"width": {"default": 32, "help": "..."}}'
    if not isinstance(found, dict):
        raise UserError(f"ARGUMENTS in src/{folder}/{file.name} must be like {example}")
    for key, keywords in found.items():
        plain = isinstance(key, str) and key.isidentifier() and isinstance(keywords, dict)
        kinds = {"default": object, "help": str, "choices": list}
        if not plain or "default" not in keywords or not fits(keywords, kinds):
            where = f"{key!r} in ARGUMENTS of src/{folder}/{file.name}"
            raise UserError(
                f"{where} must have a default, and may have help and choices: {example}"
            )
        if not isinstance(keywords["default"], bool | int | float | str):
            where = f"the default of {key!r} in ARGUMENTS of src/{folder}/{file.name}"
            raise UserError(f"{where} must be a number, a word, True or False")
    return found


def fits(values, kinds):
    """Tell whether all values have a name that is known, and are of its kind."""
    return all(isinstance(value, kinds.get(name, ())) for name, value in values.items())


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
