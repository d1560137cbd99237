"""The pictures of the pages: make pictures, and what a reader needs to read them."""

import importlib
import re
import runpy
import subprocess
import sys
from itertools import combinations, pairwise
from xml.etree import ElementTree

import matplotlib
import pictures
import pytest
import torch
import torchvision
from drawings import architecture, config_order, loop_and_module, resnet, roadmap, sheet
from PIL import Image, ImageFont, ImageStat

from clone import ROOT

DRAWN = dict(pictures.pictures())
PHONE = 360  # pixels
FONTS = f"{matplotlib.get_data_path()}/fonts/ttf"
PAGES = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
SVG = "{http://www.w3.org/2000/svg}"
SCREENSHOTS = [path for path in ROOT.glob(".img/*.png") if not path.stem.endswith("-dark")]
every_screenshot = pytest.mark.parametrize("path", SCREENSHOTS, ids=lambda path: path.stem)
every_picture = pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)


# --- the files, and the pages that show them


@every_picture
def test_a_picture_is_the_one_that_its_source_draws(path):
    drawn = path.read_text() == DRAWN[path]

    assert drawn, f"{path.name} is older than what it shows: run make pictures"


def test_a_missing_folder_of_pictures_gets_one_sentence(tmp_path, monkeypatch):
    known = {tmp_path / ".img/a.svg": "<svg/>"}
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    monkeypatch.setattr(pictures, "pictures", lambda: known.items())

    with pytest.raises(SystemExit, match=r"\.img is not a folder: restore it with git restore"):
        pictures.main([])

    (tmp_path / ".img").mkdir()
    pictures.main([])
    assert (tmp_path / ".img/a.svg").read_text() == "<svg/>"
    assert [path.name for path in (tmp_path / ".img").iterdir()] == ["a.svg"]


def test_a_picture_that_cannot_be_written_gets_one_sentence(tmp_path, monkeypatch):
    known = {tmp_path / ".img/a.svg": "<svg/>"}
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    monkeypatch.setattr(pictures, "pictures", lambda: known.items())
    (tmp_path / ".img/a.svg").mkdir(parents=True)

    with pytest.raises(SystemExit, match=r"a\.svg cannot be written: it is a folder"):
        pictures.main([])


def test_ctrl_c_while_pictures_are_drawn_ends_quietly(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupt)

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tools/pictures.py"), run_name="__main__")

    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_every_svg_has_a_source():
    assert set(ROOT.glob(".img/*.svg")) == set(DRAWN)


@every_picture
def test_a_page_shows_the_picture_and_says_in_words_what_it_shows(path):
    shown = rf"^!\[([^\]]*)\]\((?:\.\./)*\.img/{re.escape(path.name)}\)$"

    texts = [text for page in PAGES for text in re.findall(shown, page.read_text(), re.MULTILINE)]

    assert texts
    assert all(len(text.split()) >= 10 for text in texts), texts


@every_screenshot
def test_a_page_shows_a_screenshot_in_both_schemes_and_says_what_it_shows(path):
    scheme = r'<source media="\(prefers-color-scheme: dark\)" '
    dark = rf'  {scheme}srcset="((?:\.\./)*\.img/){path.stem}-dark\.png">'
    light = rf'  <img src="\1{path.stem}\.png" width="(\d+)" alt="(.*)">'
    both = rf"^<picture>\n{dark}\n{light}\n</picture>$"

    found = [shown for page in PAGES for shown in re.findall(both, page.read_text(), re.MULTILINE)]

    assert found
    for _, width, text in found:
        # sharp on a phone, which shows it at more than two thirds of its size
        assert 2 * int(width) == Image.open(path).width
        assert int(width) * 2 / 3 < PHONE
        assert len(text.split()) >= 10


@every_screenshot
def test_a_screenshot_is_small_and_has_a_dark_variant_of_its_size(path):
    dark = path.with_stem(f"{path.stem}-dark")
    sizes = [Image.open(one).size for one in (path, dark)]
    means = [ImageStat.Stat(Image.open(one).convert("L")).mean for one in (path, dark)]

    assert sizes[0] == sizes[1]
    assert max(one.stat().st_size for one in (path, dark)) < 150_000
    assert means[1] < means[0]


def test_the_program_takes_every_screenshot_of_tensorboard():
    screenshots = pytest.importorskip("screenshots", reason="pip install -r requirements-dev.txt")

    names = {path.stem for path in SCREENSHOTS if path.stem.startswith("tensorboard")}

    assert names == {f"tensorboard-{name}" for name in screenshots.SHOTS}


def test_pictures_are_drawn_by_name():
    program = [sys.executable, ROOT / "tools/pictures.py"]

    unknown = subprocess.run([*program, "network", "road"], capture_output=True, text=True)

    assert unknown.returncode == 1
    assert unknown.stderr.startswith("road: no such picture; there are architecture, ")


# --- how they look


def letters(text):
    """Return the edges of a text, left, top, right, bottom, in a wide font."""
    look = text.get("class", "").split()
    size = sheet.BOLD if "bold" in look else sheet.SMALL
    name = "DejaVuSans-Bold" if {"bold", "strong"} & set(look) else "DejaVuSans"
    width = ImageFont.truetype(f"{FONTS}/{name}.ttf", 100).getlength(text.text) * size / 100
    x, y = float(text.get("x")), float(text.get("y"))
    left = x - width / 2 if "middle" in look else x - width if "end" in look else x
    return left, y - 0.76 * size, left + width, y + 0.2 * size


def edges(box):
    x, y, width, height = (float(box.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def segments(lines):
    """Return the segments of all lines, which are horizontal or vertical, as edges."""
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for (x1, y1), (x2, y2) in pairwise(points):
            assert x1 == x2 or y1 == y2
            yield min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one, other):
    return all(one[k] >= other[k] + 1 and one[k + 2] <= other[k + 2] - 1 for k in (0, 1))


@every_picture
def test_letters_are_readable_on_a_phone(path):
    style = DRAWN[path].partition("</style>")[0]

    sizes = [int(size) for size in re.findall(r"\b(\d+)px", style)]

    assert set(sizes) == {sheet.SMALL, sheet.BOLD}
    assert min(sizes) * PHONE / sheet.WIDTH >= 11
    assert "font-size" not in DRAWN[path].partition("</style>")[2]


@every_picture
def test_no_text_touches_an_edge_a_line_or_another_text(path):
    root = ElementTree.fromstring(DRAWN[path])
    texts = [(text.text, letters(text)) for text in root.iter(f"{SVG}text")]
    boxes = [edges(box) for box in root.iter(f"{SVG}rect")]
    lines = list(segments(root.iter(f"{SVG}polyline")))

    page, *_ = boxes
    for words, place in texts:
        assert inside(place, page), f"{words} leaves the picture"
        for box in boxes:
            assert inside(place, box) or not overlap(place, box), f"{words} leaves its box"
        assert not any(overlap(place, line) for line in lines), f"a line crosses {words}"
    for (one, place), (other, other_place) in combinations(texts, 2):
        assert not overlap(place, other_place), f"{one} and {other} overlap"


@every_picture
def test_boxes_and_lines_are_within_the_picture(path):
    root = ElementTree.fromstring(DRAWN[path])
    page, *boxes = [edges(box) for box in root.iter(f"{SVG}rect")]

    for place in [*boxes, *segments(root.iter(f"{SVG}polyline"))]:
        assert inside(place, page)


def brightness(colour):
    """Return the relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "gray"])
def test_letters_stand_out_from_every_colour(scheme, ink):
    for name in sheet.PALETTE.keys() - {"ink", "gray"}:
        values = [brightness(sheet.PALETTE[both][scheme]) for both in (ink, name)]

        assert (max(values) + 0.05) / (min(values) + 0.05) >= 4.5, name


@every_picture
def test_a_picture_has_a_light_and_a_dark_scheme(path):
    light, dark = DRAWN[path].split("@media (prefers-color-scheme: dark)")
    drawn = dark.partition("</style>")[2]

    for scheme, style in enumerate((light, dark)):
        for name, both in sheet.PALETTE.items():
            assert both[scheme] in style, name
    # all colours are in the style
    assert not re.search(r"#[0-9a-f]{6}|fill=|stroke=", drawn)


@every_picture
def test_nothing_is_said_by_colour_alone(path):
    root = ElementTree.fromstring(DRAWN[path])
    texts = [letters(text) for text in root.iter(f"{SVG}text")]

    for box in root.iter(f"{SVG}rect"):
        if box.get("class") in ("blue", "amber"):
            assert any(inside(place, edges(box)) for place in texts)


# --- what they show


def test_the_roadmap_has_every_lesson_once():
    numbers = [number for _, lessons in roadmap.PARTS for number in lessons]

    assert numbers == list(range(1, len(list(ROOT.glob("lessons/*.txt"))) + 1))


def test_the_sizes_of_the_resnet_are_those_of_the_network():
    network = torchvision.models.resnet18(num_classes=10).eval()
    found = []
    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "fc"):
        layer = getattr(network, name)
        layer.register_forward_hook(lambda *given: found.append(tuple(given[2].shape[1:])))

    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))

    drawn = [tuple(map(int, re.findall(r"\d+", size))) for _, size, _ in resnet.LAYERS]
    assert drawn == [*found[:6], (512,), found[6]]


def test_the_values_that_win_are_those_that_the_page_prints():
    page = (ROOT / "docs/lessons/10.md").read_text()

    for name in config_order.COLUMNS:
        [value] = [place[name] for _, _, place in config_order.PLACES if name in place][:1]
        assert re.search(rf"^  {name}: {re.escape(value)} +#", page, re.MULTILINE), name


def test_the_picture_of_the_loop_has_the_names_of_both_lessons():
    old = (ROOT / "lessons/1-simple-model-training/src/main.py").read_text()
    new = (ROOT / "lessons/2-lightning-module/src/main.py").read_text()

    for lines, methods, is_yours in loop_and_module.ROWS:
        for line in lines:
            parts = re.split(r"\.\.\.|, eval\(\)", line)
            assert all(part in old for part in parts), line
        names = re.findall(r"\w+_\w+(?=,|$)", " ".join(methods))
        for name in names if is_yours else []:
            assert f"def {name}(" in new or f"{name}=True" in new or name == "on_epoch", name


def test_the_architecture_is_computed_from_the_imports():
    found = architecture.parts()

    assert {"run.py", "main.py", "launch/", "utils/"} <= found.keys() == architecture.WHAT.keys()
    assert found["utils/"] == set()
    assert "training.py" in found["main.py"]
    order = architecture.in_order(found)
    for name, others in found.items():
        assert all(order.index(other) > order.index(name) for other in others)


def test_the_page_of_the_architecture_says_what_its_picture_shows():
    text = (ROOT / "docs/architecture.md").read_text()
    found = architecture.parts()

    for name in found:
        shown = name if name == "run.py" else f"src/{name.rstrip('/')}"
        others = [other for other in architecture.in_order(found) if other in found[name]]
        words = ", ".join(other.removesuffix(".py").rstrip("/") for other in others[:-1])
        assert f" {shown}: {words}." in text or others in ([], ["utils/"]), name
        assert others[-1:] == ["utils/"] or name == "utils/"
