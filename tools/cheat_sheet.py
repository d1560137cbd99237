"""Print docs/cheat-sheet.md on one A4 page, cheat-sheet.pdf: make cheat-sheet

The page is black on white, in letters of 9 points, with embedded fonts.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from endings import quiet_interrupt, write_whole
from site_checks.report import printable

with quiet_interrupt():  # they take a moment
    import matplotlib
    from fpdf import FPDF
    from fpdf.enums import MethodReturnValue
    from fpdf.fonts import TTFFont

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
    """Return the kind and the texts of each part: a title, heading, paragraph or row of a table.

    Raises:
        ValueError: if a row has not one text per column.
    """
    for match in re.finditer(r"[^\n]+(?:\n[^\n]+)*", markdown):
        block, first = match[0].strip(), markdown.count("\n", 0, match.start()) + 1
        marks, _, words = block.partition(" ")
        if marks in ("#", "##"):
            yield {"#": "title", "##": "heading"}[marks], (" ".join(words.split()),)
        elif block.startswith("| "):
            # after the names of the columns and their rule
            for number, line in enumerate(block.split("\n")[2:], first + 2):
                yield "row", row_of(line, number)
        elif block:
            yield "paragraph", (plain(" ".join(block.split())),)


def row_of(line: str, number: int) -> Row:
    row = tuple(plain(cell).strip() for cell in line.strip("| ").split(" | "))
    if len(row) != len(COLUMNS) or not all(row):
        rule = f"a row has {len(COLUMNS)} cells, none of them empty: | command | what | lesson |"
        raise ValueError(f"line {number} is {printable(line)!r}; {rule}")
    return row


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
        """Draw a part below the others.

        Raises:
            ValueError: if it cannot be drawn.
        """
        self.refuse_unknown(kind, texts)
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

    def refuse_unknown(self, kind: str, texts: Row) -> None:
        """Refuse characters for which the font has no picture."""
        families = [family for family, _ in COLUMNS] if kind == "row" else ["sans"]
        style = "B" if kind in ("title", "heading") else ""
        for family, text in zip(families, texts, strict=True):
            known = cast("TTFFont", self.fonts[f"{family}{style}"]).cmap
            unknown = sorted({one for one in text if ord(one) not in known})
            if unknown:
                names = ", ".join(
                    f"U+{ord(one):04X} {unicodedata.name(one, '')}".strip() for one in unknown
                )
                rule = f"the font of the sheet lacks {names}: write it in other characters"
                raise ValueError(f'in "{shown(text)}", {rule}')

    def line_of(self, text: str, size: int, height: int) -> None:
        self.set_font("sans", "B", size)
        if self.get_string_width(text) > self.epw:
            raise ValueError(f'the heading "{shown(text)}" is wider than the sheet: shorten it')
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


def shown(text: str) -> str:
    return printable(text if len(text) <= 60 else f"{text[:60]}...")


def read_page(markdown: Path) -> list[tuple[str, Row]]:
    """Return the parts of the page.

    Raises:
        ValueError: with a sentence, if it is not there, not text, empty, or has a wrong row.
    """
    restore = f"restore it with git restore docs/{markdown.name}"
    try:
        parts = list(parse(markdown.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror}): {restore}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text: correct it, or {restore}") from None
    if not parts:
        raise ValueError(f"it is empty: {restore}")
    return parts


def main(markdown: Path, pdf: Path) -> None:
    sheet = Sheet()
    try:
        for kind, texts in read_page(markdown):
            sheet.put(kind, texts)
    except ValueError as error:
        sys.exit(f"{markdown.name}: {error}")
    if sheet.left_out:
        lines = f"{len(sheet.left_out)} line{'s' * (len(sheet.left_out) > 1)}"
        sys.exit(
            f"{markdown.name} does not fit on one A4 page: shorten it by {lines} or more;"
            f' the first that did not fit is "{shown(sheet.left_out[0])}"'
        )
    write_whole(pdf, bytes(sheet.output()))
    print(f"{pdf}: one A4 page, for printing")


if __name__ == "__main__":
    with quiet_interrupt():
        main(ROOT / "docs/cheat-sheet.md", ROOT / "cheat-sheet.pdf")
