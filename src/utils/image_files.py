"""Read image files of any kind as bytes of one size: see src/datasets/image_folder.py."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from src.utils.errors import UserError

# Pillow warns about what it can read nevertheless, such as a damaged comment
warnings.filterwarnings("ignore", module=r"PIL\.")
Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")

BILINEAR = Image.Resampling.BILINEAR  # of Pillow: it averages all pixels when it shrinks an image
# how an image of other proportions becomes one of this size, (w, h)
FITS: dict[str, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "stretch": lambda image, size: image.resize(size, BILINEAR),
    "crop": lambda image, size: ImageOps.fit(image, size, BILINEAR),  # the middle of it
    "pad": lambda image, size: ImageOps.pad(image, size, BILINEAR, color=0),  # black borders
}
BITS_16 = (0, 65535)
MAX_LISTED = 10
# what systems and browsers leave behind in folders, besides hidden files
IGNORED = {"Thumbs.db", "desktop.ini", "__MACOSX"}


class UnreadableImageError(Exception):
    """The reason why a file is not used; it fits into brackets after the file's name."""


@dataclass(frozen=True)
class ImageReader:
    """Turns a file into (c, h, w), uint8.

    Orientation: as EXIF says. Transparent parts become white. Colours become grey, or grey ones
    colours, as channels asks (luma of ITU-R 601-2). Pixels of 16 bits become bytes: value_range is
    what becomes 0 and 255; of 16 bits per colour, the upper 8 are used. Only the first picture of
    an animation, or page of a TIFF file, is used.
    """

    size: tuple[int, int]  # (h, w) in pixels
    channels: int  # 1 or 3
    fit: str = "stretch"
    value_range: tuple[float, float] = BITS_16

    def read(self, path: str | Path) -> Pixels:
        return self.read_with_digest(path)[0]

    def read_with_digest(self, path: str | Path) -> tuple[Pixels, bytes]:
        """Return the image, and a digest of the file, which equal files share.

        Raises:
            UnreadableImageError: if the file is not a complete image of a known kind.
        """
        try:
            content = Path(path).read_bytes()
            with Image.open(BytesIO(content)) as image:
                pixels = self.converted(image)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file raises almost anything
            raise UnreadableImageError(reason(error, path)) from error
        return pixels, hashlib.blake2b(content, digest_size=16).digest()

    def converted(self, image: Image.Image) -> Pixels:
        twice = 2 * max(self.size)
        image.draft(None, (twice, twice))  # a large JPEG file is read at a half, a fourth ...
        image = ImageOps.exif_transpose(image)
        if image.mode[0] == "I":
            image = self.eight_bits(image)
        elif image.mode == "F":
            raise UnreadableImageError("its pixels are 32-bit floats: convert them to 16 bits")
        elif image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        pixels = np.asarray(FITS[self.fit](image, self.size[::-1]))
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def eight_bits(self, image: Image.Image) -> Image.Image:
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > BITS_16[1]:
            span = f"{values.min():g} to {values.max():g}"
            raise UnreadableImageError(f"its pixels are {span}, but must be 0 to {BITS_16[1]}")
        low, high = self.value_range
        scaled = (values - low) * 255 / (high - low)
        return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def reason(error: Exception, path: str | Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image" if Path(path).stat().st_size else "empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text:.120}"


def channels_of(files: Iterable[str | Path]) -> int:
    """Return 3 if a file has colours, or a palette, and 1 if all are grey."""
    for file in files:
        try:
            with Image.open(file) as image:  # reads only the first bytes
                if image.mode[0] not in "1LIF" or image.mode == "LAB":
                    return 3
        except Exception:  # who reads the file will report it
            continue
    return 1


def find_files(folder: Path) -> list[str]:
    """Return the paths within a folder of all files below it, sorted; hidden ones are left out.

    Raises:
        UserError: if a folder cannot be read.
    """
    found = []
    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if is_used(name)]
        inside = Path(root).relative_to(folder)
        found += [(inside / name).as_posix() for name in files if is_used(name)]
    return sorted(found)


def refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def is_used(name: str) -> bool:
    return not name.startswith(".") and name not in IGNORED


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result of each item, in order; Pillow decodes images in parallel threads."""
    with ThreadPoolExecutor(num_cpus()) as pool:
        yield from pool.map(function, items)


def num_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux
    return len(usable(0)) if usable else os.cpu_count() or 1


def listed(items: list[str], most: int = MAX_LISTED) -> str:
    """Return a list for a sentence, of ten items at most."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
