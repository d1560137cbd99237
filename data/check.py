"""Check a data set against its SHA256SUMS: python data/check.py FOLDER."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

# the files that each data set must contain, and the scripts that download it
REQUIRED = {
    "MNIST": (
        "raw/t10k-images-idx3-ubyte",
        "raw/t10k-labels-idx1-ubyte",
        "raw/train-images-idx3-ubyte",
        "raw/train-labels-idx1-ubyte",
    ),
    "cifar-10-batches-py": (
        "batches.meta",
        *(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
    ),
}
FETCH = {"MNIST": "data/get_mnist.sh", "cifar-10-batches-py": "data/get_cifar10.sh"}


def check_data(folder: str | Path) -> str:
    """Compare every file of a data set with its SHA256SUMS, written when the set was made.

    Returns one line for the log, which names the data: the full set or the sample.

    Raises:
        SystemExit: if a file is missing, damaged, unreadable or unknown.
    """
    folder = Path(folder)
    try:
        folder.stat()  # if the folder is missing, report the folder and not a file in it
        comments, sums = read_sums(folder / "SHA256SUMS")
        for name in REQUIRED.get(folder.name, ()):
            if name not in sums:
                raise ValueError(f"{folder / name} is not listed in SHA256SUMS")
        for name, expected in sums.items():
            check_file(folder / name, expected)
        for path in sorted(folder.rglob("*")):
            check_known(path, folder, sums)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{describe(error)}; {remedy(folder)}") from None
    kind = comments[0] if comments else "full set"
    return f"data: {folder.name}, {kind}, {len(sums)} files checked in {folder.resolve()}"


def read_sums(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the comments of a SHA256SUMS file, and the sum of each file that it lists."""
    comments, sums = [], {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if line.startswith("#"):
            comments.append(line.lstrip("# "))
        elif len(digest) == 64 and name and not Path(name).is_absolute() and ".." not in name:
            sums[name] = digest
        else:
            raise ValueError(f"{path} has a line that is not a SHA-256 sum: {line[:60]!r}")
    if not sums:
        raise ValueError(f"{path} is empty, but should list the files of the set")
    return comments, sums


def check_file(path: Path, expected: str) -> None:
    """Raise ValueError or OSError unless the file has the expected SHA-256 sum."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 sum is not the one in SHA256SUMS")


def check_known(path: Path, folder: Path, sums: dict[str, str]) -> None:
    """Raise ValueError for a file that SHA256SUMS does not list; hidden files are ignored."""
    name = path.relative_to(folder).as_posix()
    hidden = any(part.startswith(".") for part in Path(name).parts)
    if path.is_file() and not hidden and name not in sums and name != "SHA256SUMS":
        raise ValueError(f"{path} does not belong to the set: SHA256SUMS does not list it")


def describe(error: Exception) -> str:
    """Return a short description of the error, with the name of the file."""
    match error:
        case FileNotFoundError():
            return f"{error.filename} is missing"
        case UnicodeDecodeError():
            return "SHA256SUMS is damaged: it is not text"
        case OSError():
            return f"{error.filename} cannot be read ({error.strerror})"
    return str(error)


def remedy(folder: Path) -> str:
    """Return the command that repairs the set, with its folder if that is not the default."""
    if folder.name not in FETCH:
        return f"create {folder} again, then write its sums with sha256sum"
    beside = folder.resolve().parent == Path(__file__).resolve().parent
    where = "" if beside else f" {shlex.quote(str(folder.parent))}"
    fetch = f'run "bash {FETCH[folder.name]}{where}" on a node with internet'
    if folder.exists():
        return fetch
    return f'{fetch}, or "env/bin/python data/make_sample.py{where}" for the small sample'


def main() -> None:
    """Check the folder given on the command line."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("Check a data set against its SHA256SUMS: python data/check.py FOLDER")
    print(check_data(sys.argv[1]))


if __name__ == "__main__":
    main()
