"""Draw the pictures of the pages: make pictures, or python3 tools/pictures.py [NAME ...]

Each file in tools/drawings draws the picture of its name into .img/; sheet.py is what they share.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from endings import quiet_interrupt, write_whole

ROOT = Path(__file__).resolve().parents[1]


def pictures() -> Iterator[tuple[Path, str]]:
    """Return the path of each picture, and its SVG."""
    for source in sorted(ROOT.glob("tools/drawings/*.py")):
        if source.stem != "sheet":
            module = import_module(f"drawings.{source.stem}")
            yield ROOT / f".img/{source.stem.replace('_', '-')}.svg", module.draw().svg()


def main(names: list[str]) -> None:
    known = dict(pictures())
    unknown = set(names) - {path.stem for path in known}
    if unknown:
        stems = ", ".join(sorted(path.stem for path in known))
        sys.exit(f"{', '.join(sorted(unknown))}: no such picture; there are {stems}")
    folder = ROOT / ".img"
    if not folder.is_dir():
        sys.exit(f"{folder} is not a folder: restore it with git restore .img")
    for path, svg in known.items():
        if not names or path.stem in names:
            write_whole(path, svg.encode())


if __name__ == "__main__":
    with quiet_interrupt():
        main(sys.argv[1:])
