"""Print docs/cheat-sheet.md on one A4 page, cheat-sheet.pdf: make cheat-sheet

The page is black on white, in letters of 9 points, with embedded fonts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import matplotlib
from fpdf import FPDF
from fpdf.enums import MethodReturnValue

ROOT = Path(__file__).resolve().parents[1]
FONTS = Path(matplotlib.get_data_path(), "fonts/ttf")
FONT_FILES = {
    ("sans", ""): "DejaVuSans.ttf",
    ("sans", "B"): "DejaVuSans-Bold.ttf",
    ("mono", ""): "DejaVuSansMono.ttf",
}
# in points: 1/72 inch
SMALL, BOLD, TITLE = 9, 11, 16  # sizes of the letters
LINE = 11  # from one line to the next
MARGIN = 28
COLUMNS = (("mono", 294), ("sans", 203), ("sans", 42))  # command, what it does, lesson

Row = tuple[str, ...]


def parse(markdown: str) -> Iterator[tuple[str, Row]]:
    """Return the kind and the texts of each part: a title, heading, paragraph or row of a table."""
    for block in re.split(r"\n\n+", markdown.strip()):
        marks, _, words = block.partition(" ")
        if marks in ("#", "##"):
            yield {"#": "title", "##": "heading"}[marks], (words,)
        elif block.startswith("| "):
            for line in block.splitlines()[2:]:  # after the names of the columns and their rule
                yield "row", tuple(plain(cell) for cell in line.strip("| ").split(" | "))
        else:
            yield "paragraph", (plain(" ".join(block.split())),)


def plain(text: str) -> str:
    """Return a text without marks; the address of a link to another site follows its words."""
    text = re.sub(r"\[([^]]*)\]\((https://[^)]*)\)", r"\1 (\2)", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return text.replace("`", "")


class Sheet(FPDF):
    """One A4 page; what does not fit on it is only counted."""

    def __init__(self) -> None:
        super().__init__(unit="pt", format="A4")
        for (family, style), name in FONT_FILES.items():
            self.add_font(family, style, FONTS / name)
        self.set_margin(MARGIN)
        self.set_auto_page_break(False)
        self.set_title("HPC Starter: cheat sheet")
        self.c_margin = 0
        self.set_draw_color(140)
        self.add_page()
        self.left_out: list[str] = []

    def put(self, kind: str, texts: Row) -> None:
        """Draw a part below the others."""
        if kind == "title":
            self.line_of(texts[0], TITLE, TITLE + 5)
        elif kind == "heading":
            self.ln(6)
            self.line_of(texts[0], BOLD, BOLD + 6)
            self.rule(0.9)
        elif kind == "paragraph":
            self.ln(3)
            self.cells((("sans", self.epw),), texts)
        else:
            self.cells(COLUMNS, texts)
            self.rule(0.3)

    def line_of(self, text: str, size: int, height: int) -> None:
        self.set_font("sans", "B", size)
        if self.fits(height, text):
            self.cell(0, height, text, new_x="LMARGIN", new_y="NEXT")

    def cells(self, columns: tuple[tuple[str, float], ...], texts: Row) -> None:
        """Write texts side by side; a long one takes several lines."""
        numbers = []
        for (family, width), text in zip(columns, texts, strict=True):
            self.set_font(family, "", SMALL)
            lines = self.multi_cell(
                width, LINE, text, align="L", dry_run=True, output=MethodReturnValue.LINES
            )
            numbers.append(len(cast("list[str]", lines)))
        height = max(numbers) * LINE + 2.5
        if not self.fits(height, texts[0]):
            return
        top = self.y
        for (family, width), text in zip(columns, texts, strict=True):
            self.set_font(family, "", SMALL)
            self.multi_cell(width, LINE, text, align="L", new_x="RIGHT", new_y="TOP")
        self.set_xy(MARGIN, top + height)

    def rule(self, thickness: float) -> None:
        self.set_line_width(thickness)
        if not self.left_out:
            self.line(MARGIN, self.y - 1.2, self.w - MARGIN, self.y - 1.2)

    def fits(self, height: float, text: str) -> bool:
        if self.left_out or self.y + height > self.h - MARGIN:
            self.left_out.append(text)
        return not self.left_out


def main(markdown: Path, pdf: Path) -> None:
    sheet = Sheet()
    for kind, texts in parse(markdown.read_text()):
        sheet.put(kind, texts)
    if sheet.left_out:
        sys.exit(
            f"{markdown.name} does not fit on one A4 page: shorten it by {len(sheet.left_out)}"
            f' lines or more; the first that did not fit is "{sheet.left_out[0]}"'
        )
    sheet.output(pdf)
    print(f"{pdf}: one A4 page, for printing")


if __name__ == "__main__":
    main(ROOT / "docs/cheat-sheet.md", ROOT / "cheat-sheet.pdf")
