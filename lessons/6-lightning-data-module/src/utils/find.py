"""Find a data set or a network by the name of its file: see --dataset in run.py."""

from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]


def names(package):
    """Return the names of the files in a folder of src, without importing them."""
    return sorted(
        p.stem for p in (ROOT / package).glob("*.py") if p.stem.isidentifier() and p.stem[0] != "_"
    )


def find(package, name, ending=""):
    """Return the class that a file is named after: small_cnn.py has SmallCNN.

    Raises:
        SystemExit: with one sentence, if the file cannot be imported or has no such class.
    """
    try:
        module = import_module(f"src.{package}.{name}")
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"src/{package}/{name}.py needs {error.name}, which is not there"
        ) from None
    wanted = (name.replace("_", "") + ending).lower()
    found = [value for key, value in vars(module).items() if key.lower() == wanted]
    if not found:
        rule = f"a class with the name of the file, such as {name.title().replace('_', '')}{ending}"
        raise SystemExit(f"src/{package}/{name}.py has no class {wanted}: it must have {rule}")
    return found[0]
