"""Write small replacements for MNIST and CIFAR-10: python data/make_sample.py [FOLDER]

This needs no internet. The replacement for MNIST has real handwritten digits (from scikit-learn,
scaled to 28x28) in MNIST's own file format. The replacement for CIFAR-10 has drawn 32x32 colour
images of ten shapes in CIFAR-10's own file format. Every machine writes the same bytes: all
arithmetic is on integers, and the random numbers come from numpy's frozen RandomState.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

try:
    import numpy as np
    from sklearn.datasets import load_digits
except ModuleNotFoundError as error:
    sys.exit(f"{error.msg}: use the environment, env/bin/python data/make_sample.py")

DIGITS_ABOUT = "sample: 1797 handwritten digits from scikit-learn, scaled to 28x28"
SHAPES_ABOUT = "sample: 1800 drawn shapes, 32x32 colour images"
NUM_TEST_DIGITS = 297
NUM_SHAPES_PER_BATCH = 300  # images in each of data_batch_1 to data_batch_5 and test_batch
SHAPES = [
    *("disc", "ring", "square", "frame", "triangle"),
    *("plus", "cross", "rows", "columns", "checkers"),
]


def write_mnist(folder: Path) -> None:
    """Write the digits as MNIST's four idx files under folder/raw."""
    digits = load_digits()
    order = np.random.RandomState(1).permutation(len(digits.target))
    images = enlarge(digits.images.astype(np.int64))[order]
    labels = digits.target.astype(np.uint8)[order]
    (folder / "raw").mkdir()
    write_idx(folder / "raw/train-images-idx3-ubyte", images[:-NUM_TEST_DIGITS])
    write_idx(folder / "raw/train-labels-idx1-ubyte", labels[:-NUM_TEST_DIGITS])
    write_idx(folder / "raw/t10k-images-idx3-ubyte", images[-NUM_TEST_DIGITS:])
    write_idx(folder / "raw/t10k-labels-idx1-ubyte", labels[-NUM_TEST_DIGITS:])


def enlarge(images: np.ndarray) -> np.ndarray:
    """Scale (n, 8, 8) in 0..16 to (n, 28, 28), uint8 in 0..255: 20x20 within a black border."""
    # row i of the result is at (16 i - 12) / 40 in the source: weights are in 40ths
    place = (16 * np.arange(20) - 12).clip(0, 280)
    low = (place // 40).clip(0, 6)
    weights = np.zeros((20, 8), dtype=np.int64)
    weights[np.arange(20), low] = 40 - (place - 40 * low)
    weights[np.arange(20), low + 1] = place - 40 * low
    large = weights @ images @ weights.T * 255 // (16 * 40 * 40)
    return np.pad(large, ((0, 0), (4, 4), (4, 4))).astype(np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an unsigned byte array in the idx format: magic number, sizes, values."""
    header = [0x0800 + array.ndim, *array.shape]
    path.write_bytes(np.array(header, dtype=">i4").tobytes() + array.tobytes())


def write_cifar10(folder: Path) -> None:
    """Write the shapes as CIFAR-10's six batch files and its meta file."""
    random = np.random.RandomState(2)
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        labels = random.permutation(np.arange(NUM_SHAPES_PER_BATCH) % len(SHAPES)).tolist()
        batch = {
            b"batch_label": name.encode(),
            b"labels": labels,
            # (n, 3, 32, 32) -> (n, 3072): the red plane first, then green, then blue
            b"data": np.stack([draw(SHAPES[label], random).reshape(-1) for label in labels]),
            b"filenames": [f"{SHAPES[k]}_{name}_{i}.png".encode() for i, k in enumerate(labels)],
        }
        (folder / name).write_bytes(dump(batch))
    meta = {
        b"num_cases_per_batch": NUM_SHAPES_PER_BATCH,
        b"label_names": [name.encode() for name in SHAPES],
        b"num_vis": 3072,
    }
    (folder / "batches.meta").write_bytes(dump(meta))


def draw(shape: str, random: np.random.RandomState) -> np.ndarray:
    """Draw a shape of random position, size and colour on a noisy ground: (3, 32, 32), uint8."""
    radius = random.randint(7, 12)
    row, column = random.randint(radius, 32 - radius, size=2)
    y, x = np.mgrid[:32, :32]
    inside = mask(shape, x - column, y - row, radius)
    ground, ink = random.randint(0, 256, size=(2, 3))
    while np.abs(ground - ink).sum() < 250:  # too similar to be visible
        ink = random.randint(0, 256, size=3)
    image = np.where(inside, ink[:, None, None], ground[:, None, None])
    for _ in range(2):  # blots, which a network must learn to ignore
        top, left = random.randint(0, 28, size=2)
        image[:, top : top + 4, left : left + 4] = random.randint(0, 256, size=(3, 1, 1))
    noise = random.randint(-20, 21, size=(3, 32, 32))
    return (image + noise).clip(0, 255).astype(np.uint8)


def mask(shape: str, x: np.ndarray, y: np.ndarray, radius: int) -> np.ndarray:
    """Return the pixels that belong to the shape; x, y (32, 32) are distances from its centre."""
    square = np.maximum(abs(x), abs(y)) <= radius
    distance = x * x + y * y
    arm = radius // 3
    return {
        "disc": distance <= radius**2,
        "ring": (distance <= radius**2) & (distance >= (radius - 3) ** 2),
        "square": square,
        "frame": square & (np.maximum(abs(x), abs(y)) > radius - 3),
        "triangle": (abs(y) <= radius) & (2 * abs(x) <= y + radius),
        "plus": square & ((abs(x) <= arm) | (abs(y) <= arm)),
        "cross": square & ((abs(x - y) <= arm + 1) | (abs(x + y) <= arm + 1)),
        "rows": square & (y % 4 < 2),
        "columns": square & (x % 4 < 2),
        "checkers": square & ((x % 6 < 3) ^ (y % 6 < 3)),
    }[shape]


def dump(value: object) -> bytes:
    """Pickle a value like CIFAR-10's files: protocol 2, with the byte strings of Python 2.

    The module pickle would write the module names of the installed numpy, and so different bytes
    on different machines.
    """
    return b"\x80\x02" + encode(value) + b"."


def encode(value: object) -> bytes:
    """Return the pickle opcodes of a dict, list, int, byte string or uint8 array."""
    match value:
        case dict():
            return b"}(" + b"".join(encode(part) for pair in value.items() for part in pair) + b"u"
        case list():
            return b"](" + b"".join(encode(item) for item in value) + b"e"
        case int():
            return b"J" + value.to_bytes(4, "little", signed=True)
        case bytes():
            return b"T" + len(value).to_bytes(4, "little") + value
        case np.ndarray():
            return encode_array(value)
    raise TypeError(f"no pickle opcode for {type(value).__name__}")


def encode_array(array: np.ndarray) -> bytes:
    """Return the pickle opcodes that rebuild a uint8 array, as numpy for Python 2 wrote them."""
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + encode(b"b") + b"tR"
    )
    dtype = b"cnumpy\ndtype\n(" + encode(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + encode(b"|") + b"NNN" + encode(-1) + encode(-1) + b"K\x00tb"
    shape = b"(" + b"".join(encode(size) for size in array.shape) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + encode(array.tobytes()) + b"tb"


def write_sums(folder: Path, about: str) -> None:
    """Write SHA256SUMS for the folder's files; its first line says that they are a sample."""
    lines = [f"# {about}\n"]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def is_sample(folder: Path) -> bool:
    """Tell whether this program wrote the folder."""
    sums = folder / "SHA256SUMS"
    return sums.is_file() and sums.read_text(encoding="utf-8", errors="replace")[:9] == "# sample:"


def make(target: Path, write: Callable[[Path], None], about: str) -> str:
    """Build a set, then move it to its final place as a whole; return one line on the result."""
    if target.exists() and not is_sample(target):
        return f"kept {target}: it is not the sample; to get the sample, move it elsewhere first"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part:
        new = Path(part, target.name)
        new.mkdir(mode=0o755)
        write(new)
        write_sums(new, about)
        if target.exists():
            target.rename(Path(part, "old"))
        new.rename(target)
    return f"wrote {target}: {about}"


def main() -> None:
    """Write both sets to the folder on the command line, to DATA_DIR, or next to this program."""
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        sys.exit("Write the sample data sets to a folder: python data/make_sample.py [FOLDER]")
    default = os.environ.get("DATA_DIR") or Path(__file__).resolve().parent
    folder = Path(sys.argv[1] if len(sys.argv) == 2 else default)
    try:
        print(make(folder / "MNIST", write_mnist, DIGITS_ABOUT))
        print(make(folder / "cifar-10-batches-py", write_cifar10, SHAPES_ABOUT))
    except OSError as error:
        sys.exit(f"cannot write the sample to {folder}: {error.strerror}; name another folder")


if __name__ == "__main__":
    main()
