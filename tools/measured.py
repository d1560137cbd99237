"""docs/measured.toml: the source of every measured number on the pages.

Each table is a measurement: its values, how and where they were measured, and the sentences and
table rows of the pages that show them, as templates. In a template, {name} stands for a value, the
machine, the date or a version, ... for any text within a line, and white space for any white space.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs/measured.toml"
HEADER = """\
# The source of every measured number on the pages. `make measure` measures, writes this file and
# inserts the numbers into the pages. Edit by hand only the templates (pages) and [[not-measured]],
# and the measurements that tools/measurements.py lists as made by hand.
"""
Table = dict[str, Any]


class MeasuredError(Exception):
    """A page and docs/measured.toml do not fit together; its text says where, and what to do."""


# --- the file


def load(text: str) -> Table:
    return tomllib.loads(text)


def measurements(data: Table) -> dict[str, Table]:
    return {name: entry for name, entry in data.items() if name != "not-measured"}


def dump(data: Table) -> str:
    """Return the file for these measurements. Python reads TOML, but does not write it."""
    parts = [HEADER]
    for name, entry in measurements(data).items():
        plain = {key: value for key, value in entry.items() if key not in ("values", "pages")}
        parts.append(table(f"[{name}]", plain))
        parts.append(table(f"[{name}.values]", entry["values"]))
        parts += [table(f"[[{name}.pages]]", page) for page in entry["pages"]]
    parts += [table("[[not-measured]]", entry) for entry in data.get("not-measured", [])]
    return "\n".join(parts)


def table(title: str, entries: Table) -> str:
    lines = [f"{key} = {to_toml(value)}\n" for key, value in entries.items()]
    return f"{title}\n{''.join(lines)}"


def to_toml(value: object) -> str:
    if isinstance(value, str):
        if "\n" in value:
            return f"'''\n{value}'''"
        # a literal string needs no escapes
        plain = "'" in value or ("\\" not in value and '"' not in value)
        return json.dumps(value, ensure_ascii=False) if plain else f"'{value}'"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {to_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return str(value)


# --- templates


NUMBER = r"\d+(?:[.,:]\d+)*[KMG]?"
DATE = r"\d{4}-\d\d-\d\d"
NAME = r"[^|(),;:]+?"  # of a processor


def names_of(entry: Table) -> Table:
    """Return everything that a template of a measurement may refer to."""
    evidence = {key: entry[key] for key in ("machine", "cpus", "date") if key in entry}
    return {**entry["values"], **entry["versions"], **evidence}


def fill_in(field: str, names: Table) -> str:
    """Return the text that a page shows for a field such as {accuracy:.2f}.

    Raises:
        MeasuredError: if the measurement has no such value.
    """
    try:
        return field.format(**names)
    except (LookupError, ValueError) as error:
        raise MeasuredError(
            f"a template of docs/measured.toml has the field {field}, but its measurement has no "
            f"such value ({error}): correct the template"
        ) from None


def fields_of(text: str) -> list[str]:
    return re.findall(r"\{[^{}]*\}", text)


def words(text: str) -> str:
    """Return a pattern for a text in which any white space stands for any other."""
    return r"\s+".join(map(re.escape, re.split(r"\s+", text)))


def pattern(text: str, names: Table) -> re.Pattern[str]:
    """Return a pattern for a template, with one group per field: any number fits."""
    parts = []
    for part in re.split(r"(\{[^{}]*\})", text.strip()):
        if part.startswith("{"):
            value = fill_in(part, names)
            kinds = (kind for kind in (DATE, NUMBER) if re.fullmatch(kind, value))
            parts.append(f"({words(value)}|{next(kinds, NAME)})")
        else:
            parts.append(words(part).replace(re.escape("..."), r"[^\n]*?"))
    # a template begins and ends with whole words and numbers
    return re.compile(rf"(?:(?<!\w)|(?!\w)){''.join(parts)}(?:(?!\w)|(?<!\w))")


def find(template: Table, names: Table, page: str) -> re.Match[str]:
    """Return the place of a template on its page.

    Raises:
        MeasuredError: if there is none, or more than one.
    """
    found = list(pattern(template["text"], names).finditer(page))
    if len(found) != 1:
        how_often = f"{len(found)} times" if found else "nowhere"
        raise MeasuredError(
            f"{template['page']} contains {how_often}: {short(template['text'])}\n"
            "  a template of docs/measured.toml; change it as you changed the page"
        )
    return found[0]


def short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 200 else words[:200] + " ..."


def insert(template: Table, names: Table, page: str) -> str:
    """Return the page with the values of a measurement in the place of the numbers there."""
    match = find(template, names, page)
    for group, field in reversed(list(enumerate(fields_of(template["text"]), 1))):
        start, end = match.span(group)
        page = replace(page, start, end, fill_in(field, names))
    return page


def replace(page: str, start: int, end: int, new: str) -> str:
    """Replace a number, and keep the other columns in their places if spaces surround it."""
    before, after, longer = page[:start], page[end:], len(new) - (end - start)
    left = len(before) - len(before.rstrip(" "))
    right = len(after) - len(after.lstrip(" "))
    if left > 1:  # right-aligned
        before = before.rstrip(" ") + " " * max(left - longer, 1)
    elif right > 1:
        after = " " * max(right - longer, 1) + after.lstrip(" ")
    return before + new + after


# --- numbers without a source


WORD = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|sixty"
AMOUNT = rf"(?:{NUMBER}|\b(?:{WORD})\b)"
UNIT = (
    r"(?:minutes?|min|seconds?|s|ms|hours?|[kKMGT]B|%|images/s|images\s+per\s+second|times|x"
    r"|M\s+parameters|files|calls)(?![\w/])"
)
# each finds numbers that look measured; the group is the number
LOOKS_MEASURED = [
    r"(?<![\w.,:-])(\d+\.\d+)(?!\.?\d|\w)",
    rf"(?<![\w.,-])({AMOUNT})\s*-?{UNIT}",
    rf"(?<![\w.,-])({AMOUNT})\s+(?:to|or)\s+{AMOUNT}\s*{UNIT}",
    rf"(?<![\w.,-])({AMOUNT})\s+to\s+(?:read|run)",
    r"(?<![\w.,])(\d{1,3}(?:,\d{3})+)",
    rf"\|\s*({NUMBER})\s*(?=\|)",
    rf"({AMOUNT})\s+with\s+(?:the\s+full\s+|CIFAR|MNIST)",
    rf"\bcompared\s+with\s+({AMOUNT})\b",
    rf"\b(?:about|around|nearly|almost)\s+({AMOUNT})\b(?!-)",
    r"(?<![\w.,])(\d+)\s+of\s+\d+",
    r"(?<![\w.,])\d+\s+of\s+(\d+)",
    rf"({DATE})",
    r"(?:torch|torchvision|lightning)\s+(\d+(?:\.\d+)+)",
]
# in an output that no command is compared with
IN_OUTPUT = [rf"(?<![\w.:])(\d+[.:]{NUMBER}|\d+[KMG]|\d+(?=\s*(?:\||%)))(?!\w)"]
FENCE = re.compile(r"^```(\w*)(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)


def blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def split_page(page: str) -> tuple[str, str]:
    """Return the prose of a page, and the outputs that no command is compared with.

    In both, spaces stand for the rest, so that places and lines stay the same.
    """
    prose, outputs, end = "", "", 0
    for match in FENCE.finditer(page):
        free = match[1] == "output" and re.search(r"shape|no-run", match[2])
        prose += page[end : match.start()] + blank(match[0])
        head = blank(page[end : match.start(3)])
        outputs += head + (match[3] if free else blank(match[3])) + blank("```")
        end = match.end()
    prose += page[end:]
    for code in (r"`[^`]*`", r"\]\([^)]*\)", r"<[^>\n]*>", r"&\w+;"):
        prose = re.sub(code, lambda match: blank(match[0]), prose)
    return prose, outputs


def numbers_that_look_measured(page: str) -> Iterator[tuple[int, int]]:
    prose, outputs = split_page(page)
    found = set()
    for text, patterns in ((prose, LOOKS_MEASURED), (outputs, IN_OUTPUT)):
        for one in patterns:
            found |= {match.span(1) for match in re.finditer(one, text)}
    yield from sorted(found)


def places_of_fields(name: str, page: str, data: Table) -> list[tuple[int, int]]:
    """Return the places of all numbers on a page that come from a measurement."""
    places = []
    for entry in measurements(data).values():
        for template in entry["pages"]:
            if template["page"] == name:
                match = find(template, names_of(entry), page)
                places += [match.span(k) for k in range(1, len(match.groups()) + 1)]
    return places


def places_of_exceptions(name: str, page: str, data: Table) -> list[tuple[int, int]]:
    return [
        match.span()
        for entry in data.get("not-measured", [])
        if re.fullmatch(entry.get("page", ".*"), name)
        for match in re.finditer(entry["pattern"].replace(" ", r"\s+"), page, re.MULTILINE)
    ]


# --- the check


def pages() -> dict[str, str]:
    paths = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def line_of(page: str, place: int) -> int:
    return page.count("\n", 0, place) + 1


def disagreements(data: Table, texts: dict[str, str]) -> list[str]:
    """Return one message for each number on a page that differs from its measurement."""
    found = []
    for name, entry in measurements(data).items():
        names = names_of(entry)
        for template in entry["pages"]:
            page = texts[template["page"]]
            try:
                match = find(template, names, page)
            except MeasuredError as error:
                found.append(f"[{name}] {error}")
                continue
            for group, field in enumerate(fields_of(template["text"]), 1):
                expected = " ".join(fill_in(field, names).split())
                if " ".join(match[group].split()) != expected:
                    line = line_of(page, match.start(group))
                    found.append(
                        f"{template['page']}:{line} shows {match[group]}, but [{name}] in "
                        f"docs/measured.toml has {expected}: run make measure INSERT=1"
                    )
    return found


def without_source(data: Table, texts: dict[str, str]) -> list[str]:
    """Return one message for each number that looks measured and is in no measurement."""
    found = []
    for name, page in texts.items():
        known = places_of_fields(name, page, data) + places_of_exceptions(name, page, data)
        for start, end in numbers_that_look_measured(page):
            if not any(a <= start and end <= b for a, b in known):
                around = short(page[max(start - 30, 0) : end + 30])
                found.append(
                    f"{name}:{line_of(page, start)} has the number {page[start:end]} without a "
                    f"source, in: {around}\n  add a template to its measurement in "
                    "docs/measured.toml; or, if it was not measured, a pattern to [[not-measured]]"
                )
    return found


def unused_exceptions(data: Table, texts: dict[str, str]) -> list[str]:
    """Return one message for each exception that fits no page, or whose setting has changed."""
    found = []
    for entry in data.get("not-measured", []):
        used = (
            places_of_exceptions(name, page, {"not-measured": [entry]})
            for name, page in texts.items()
        )
        if not any(used):
            found.append(f"[[not-measured]] {entry['pattern']} is on no page: remove it")
        if "file" in entry and entry["contains"] not in (ROOT / entry["file"]).read_text():
            found.append(
                f"[[not-measured]] {entry['pattern']}: {entry['file']} no longer contains "
                f"{entry['contains']}: correct the page"
            )
    return found


def problems(data: Table, texts: dict[str, str]) -> list[str]:
    return disagreements(data, texts) or (
        without_source(data, texts) + unused_exceptions(data, texts)
    )


def write(path: Path, text: str) -> None:
    """Write the whole file or nothing."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)


def insert_all(data: Table, texts: dict[str, str]) -> dict[str, str]:
    """Return the pages that change when every measured number is inserted."""
    new = dict(texts)
    for entry in measurements(data).values():
        for template in entry["pages"]:
            new[template["page"]] = insert(template, names_of(entry), new[template["page"]])
    return {name: page for name, page in new.items() if page != texts[name]}
