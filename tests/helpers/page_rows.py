"""The rows of "When it goes wrong" on the pages, for tests that cause what a row describes.

tests/docs/test_when_it_goes_wrong.py checks that every row has such a test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from clone import ROOT

PAGES = [*(f"lessons/{number}" for number in range(1, 11)), "practice-cluster"]


class Row(NamedTuple):
    seen: str
    cause: str
    remedy: str


def rows(page: str) -> list[Row]:
    """Return the rows of a page, such as "lessons/1"."""
    text = (ROOT / f"docs/{page}.md").read_text()
    table = text.split("\n## When it goes wrong\n\n")[1].split("\n\n")[0]
    head, _, *lines = table.splitlines()
    assert head == "| you see | cause | what to do |", page
    return [Row(*re.fullmatch(r"\| (.*) \| (.*) \| (.*) \|", line).groups()) for line in lines]


def row(page: str, beginning: str) -> Row:
    """Return the row whose first cell, without backticks, begins with these words."""
    found = [row for row in rows(page) if row.seen.replace("`", "").startswith(beginning)]
    assert len(found) == 1, f"docs/{page}.md has {len(found)} rows that begin with: {beginning}"
    return found[0]


def pattern(quoted: str) -> str:
    """Return a pattern for a quoted text, in which ... and <word> stand for any text."""
    parts = re.split(r" ?\.\.\. ?|<[a-z][\w -]*>", quoted)
    return ".*".join(map(re.escape, parts))


def shows(page: str, beginning: str, *printed: str, elsewhere: Sequence[str] = ()) -> None:
    """Check that everything that a row quotes was printed, except for what other machines print."""
    shown = "\n".join(printed)
    quotes = re.findall("`(.+?)`", row(page, beginning).seen)
    assert set(elsewhere) <= set(quotes), quotes
    for quoted in set(quotes) - set(elsewhere):
        assert re.search(pattern(quoted), shown), f"docs/{page}.md: not shown: {quoted}\n{shown}"


def advice(page: str, beginning: str, words: str) -> str:
    """Return words of what a row says to do; a test follows them."""
    remedy = row(page, beginning).remedy
    assert words in remedy, f"docs/{page}.md no longer says {words!r}, but: {remedy}"
    return words
