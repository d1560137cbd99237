"""The cheat sheet, docs/cheat-sheet.md, and its PDF for printing: make test-fast."""

import os
import re
import runpy
import subprocess
import sys

import cheat_sheet
import endings
import fpdf
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


ROW = "| command | what | lesson |\n| --- | --- | --- |\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "it cannot be read (No such file or directory): restore it with git restore docs/"),
        (b"# Sheet\n\n\xff\n", "line 3 is not UTF-8 text: correct it, or restore it with git"),
        (b"\n\n", "it is empty: restore it with git restore docs/page.md"),
        (f"# A\n\n{ROW}| x | y |\n".encode(), "line 5 is '| x | y |'; a row has 3 cells, none"),
        (f"# A\n\n{ROW}| x | | z |\n".encode(), "line 5 is '| x | | z |'; a row has 3 cells"),
        (f"{ROW}| x |  | z |\n".encode(), "line 3 is '| x |  | z |'; a row has 3 cells"),
        (
            f"{ROW}| x | y | \u6f22 |".encode(),
            'in "\u6f22", the font of the sheet lacks U+6F22 CJK',
        ),
        (b"# A\x1b[31m\n", 'in "A [31m", the font of the sheet lacks U+001B: write it in other'),
        (b"a \xf0\x9f\xa6\x84\n", "lacks U+1F984 UNICORN FACE: write it in other characters"),
        (b"# " + b"word " * 60, '..." is wider than the sheet: shorten it'),
    ],
)
def test_a_page_that_cannot_be_printed_gets_one_sentence(text, sentence, tmp_path, capsys):
    page, pdf = tmp_path / "page.md", tmp_path / "page.pdf"
    pdf.write_text("old")
    if text is not None:
        page.write_bytes(text)

    with pytest.raises(SystemExit) as ended:
        cheat_sheet.main(page, pdf)

    said = ended.value.code
    assert said.startswith("page.md: ")
    assert sentence in said and "\n" not in said and "\x1b" not in said
    assert pdf.read_text() == "old"
    assert capsys.readouterr() == ("", "")


# --- the file


def test_a_folder_in_place_of_the_pdf_is_named(tmp_path):
    (tmp_path / "a.pdf").mkdir()

    with pytest.raises(SystemExit, match=r"a\.pdf cannot be written: it is a folder: rename or"):
        cheat_sheet.main(SHEET, tmp_path / "a.pdf")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]


def test_a_read_only_pdf_stays_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "a.pdf").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything

    with pytest.raises(SystemExit, match=r"a\.pdf cannot be written: it is read-only: make it"):
        cheat_sheet.main(SHEET, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_text() == "old"


def test_a_full_disk_leaves_the_old_pdf(tmp_path):
    (tmp_path / "a.pdf").write_text("old")
    code = "import cheat_sheet as c, sys, pathlib as p; c.main(*map(p.Path, sys.argv[1:]))"
    command = ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "bash"]
    command += [sys.executable, "-c", code, str(SHEET), str(tmp_path / "a.pdf")]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "tools")

    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/a.pdf cannot be written: File too large\n"
    assert (tmp_path / "a.pdf").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"]


def test_a_link_to_the_file_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")

    endings.write_whole(tmp_path / "link", b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


# --- Ctrl-C


def test_ctrl_c_while_it_draws_ends_quietly(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fpdf.FPDF, "output", interrupt)

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools/cheat_sheet.py"), run_name="__main__")

    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_while_it_loads_ends_quietly(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise KeyboardInterrupt\n")
    command = [sys.executable, str(ROOT / "tools/cheat_sheet.py")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}

    done = subprocess.run(command, capture_output=True, text=True, env=env)

    assert (done.returncode, done.stderr) == (130, "interrupted\n")


# --- the pages


@pytest.mark.parametrize("command, lesson", [(row[0], row[2]) for row in ROWS])
def test_a_command_is_on_the_page_that_the_sheet_names(command, lesson):
    page = "preparation" if lesson == "before" else f"lessons/{lesson}"
    text = (ROOT / f"docs/{page}.md").read_text()

    # run.py's options are also on the pages without the rest of the command
    assert command in text or all(word in text for word in command.split())
