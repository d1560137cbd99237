"""The cheat sheet, docs/cheat-sheet.md, and its PDF for printing: make test-fast."""

import re

import cheat_sheet
import pypdfium2
import pytest

from clone import ROOT

SHEET = ROOT / "docs/cheat-sheet.md"
ROWS = re.findall(r"^\| `(.*)` \| (.*) \| (before|\d+) \|$", SHEET.read_text(), re.MULTILINE)
POINTS_PER_MM = 72 / 25.4


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "cheat-sheet.pdf"
    cheat_sheet.main(SHEET, path)
    with pypdfium2.PdfDocument(path) as document:
        yield document


def words(text):
    return " ".join(text.split())


def test_the_sheet_is_one_a4_page(pdf):
    assert len(pdf) == 1
    assert pdf[0].get_size() == pytest.approx((210 * POINTS_PER_MM, 297 * POINTS_PER_MM), abs=1)


def test_the_pdf_contains_every_row_of_the_page(pdf):
    printed = words(pdf[0].get_textpage().get_text_range())

    assert len(ROWS) >= 40
    for row in ROWS:
        assert words(" ".join(row)) in printed or all(words(cell) in printed for cell in row), row
    assert "(https://" in printed
    assert "`" not in printed and "](" not in printed


def test_all_letters_are_embedded_and_large_enough(pdf):
    letters = [
        part for part in pdf[0].get_objects() if part.type == pypdfium2.raw.FPDF_PAGEOBJ_TEXT
    ]

    assert letters
    assert all(part.get_font().is_embedded for part in letters)
    assert min(part.get_font_size() for part in letters) >= 9


def test_a_sheet_that_is_too_long_says_what_to_shorten(tmp_path):
    text = SHEET.read_text()
    row = "| `git stash pop` | bring them back | 1 |\n"
    (tmp_path / "long.md").write_text(text.replace(row, row * 20))

    with pytest.raises(
        SystemExit, match=r"^long.md does not fit on one A4 page: shorten it by \d+"
    ):
        cheat_sheet.main(tmp_path / "long.md", tmp_path / "long.pdf")
    assert not (tmp_path / "long.pdf").exists()


@pytest.mark.parametrize("command, lesson", [(row[0], row[2]) for row in ROWS])
def test_a_command_is_on_the_page_that_the_sheet_names(command, lesson):
    page = "preparation" if lesson == "before" else f"lessons/{lesson}"
    text = (ROOT / f"docs/{page}.md").read_text()

    # run.py's options are also on the pages without the rest of the command
    assert command in text or all(word in text for word in command.split())
