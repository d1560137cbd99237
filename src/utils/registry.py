"""Find a data set or a network by name: the name of its file, or one of the file's NAMES.

A file can describe itself in constants, which are read without importing it, since importing
torch takes seconds:
    NAMES = ["small", "large"]      several names; its function gets the name as first argument
    ARGUMENTS = {"width": {"default": 32, "help": "..."}}    its own arguments of run.py
    NEEDS = "some_package"          offered only if this package is installed
"""

import ast
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from src.utils.errors import UserError

SRC = Path(__file__).parents[1]
# suffix of the class or function in a file: my_photos.py contains MyPhotosDataModule
ENDINGS = {"datasets": "DataModule", "networks": ""}
# files with base classes, which cannot be chosen
BASES = {"image_data_module"}


def constant(file, name, default):
    """Return a constant of a file without importing it.

    Raises:
        UserError: if it is not a literal.
    """
    try:
        for node in ast.parse(file.read_bytes()).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(targets) == name:
                return ast.literal_eval(node.value)
    except SyntaxError:
        pass  # reported when the file is used
    except (ValueError, TypeError, OSError):
        raise UserError(f"{name} in {file.relative_to(SRC.parent)} must be a literal") from None
    return default


def sources(folder):
    """Return name -> file for everything in a folder of src that can be used here.

    Raises:
        UserError: if a name is ambiguous, or if a file would be ignored.
    """
    found, taken = {}, {}
    for file in filter(Path.is_file, sorted((SRC / folder).glob("[!._]*.py"))):
        if file.stem in BASES:
            continue
        if not file.stem.isidentifier():
            rule = "its name must consist of letters, digits and _, and begin with a letter"
            raise UserError(f"src/{folder}/{file.name} would be ignored: {rule}")
        for name in offered_names(file):
            other = taken.setdefault(plain(name), file)
            if other != file:
                both = f"src/{folder}/{other.name} and src/{folder}/{file.name}"
                raise UserError(f"{both} both offer the name {name!r}: rename one")
            found[name] = file
    for file in (SRC / "models").glob("*.py"):
        if folder == "networks" and plain(file.stem) in taken:
            raise UserError(f"src/models/{file.name} would be ignored: move it to src/networks")
    return found


def plain(name):
    """Return a name in lower case and without underscores, which do not distinguish names."""
    return name.replace("_", "").lower()


def offered_names(file):
    """Return the names that a file offers: none if a package that it needs is missing."""
    where = file.relative_to(SRC.parent)
    own, needs = constant(file, "NAMES", [file.stem]), constant(file, "NEEDS", "os")
    if not isinstance(own, list) or not all(isinstance(name, str) and name for name in own):
        raise UserError(f'NAMES in {where} must be a list of names, such as ["small", "large"]')
    if not isinstance(needs, str) or not needs.isidentifier():
        raise UserError(f'NEEDS in {where} must be the name of a package, such as "timm"')
    return own if find_spec(needs) else []


def own_arguments(folder, name):
    """Return the ARGUMENTS of a file: name -> keywords of its declaration.

    Raises:
        UserError: if run.py cannot declare them.
    """
    file = source(folder, name)
    found = constant(file, "ARGUMENTS", {}) if file else {}
    example = '{"width": {"default": 32, "help": "..."}}'
    if not isinstance(found, dict):
        raise UserError(f"ARGUMENTS in src/{folder}/{file.name} must look like {example}")
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
            raise UserError(f"{where} must be a number, a string, True or False")
    return found


def fits(values, kinds):
    """Return whether every value has a known name and the expected type."""
    return all(isinstance(value, kinds.get(name, ())) for name, value in values.items())


def names(folder):
    return list(sources(folder))


def source(folder, name):
    """Return the file that offers a name, or None."""
    return sources(folder).get(name)


def find(folder, name):
    """Return the class or function that builds the data set or network of this name.

    Raises:
        UserError: if it does not exist, or needs a package that is not installed.
    """
    file = source(folder, name)
    if not file:
        raise UserError(f"src/{folder} has no {name!r}: choose from {', '.join(names(folder))}")
    where = f"src/{folder}/{file.name}"
    try:
        module = import_module(f"src.{folder}.{file.stem}")
    except ModuleNotFoundError as error:
        raise UserError(f"{where} needs {error.name}, which is not installed") from None
    wanted = plain(file.stem + ENDINGS[folder])
    found = [value for key, value in vars(module).items() if key.lower() == wanted]
    if not found:
        example = file.stem.title().replace("_", "") + ENDINGS[folder]
        rule = f"name its class after the file, such as {example}"
        raise UserError(f"{where} has no class {wanted}: {rule}")
    return partial(found[0], name) if constant(file, "NAMES", None) else found[0]
