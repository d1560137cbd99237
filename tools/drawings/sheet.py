"""The sheet on which every picture is drawn: one palette, one font, a light and a dark scheme.

Lengths are in units of the picture, which is 400 units wide: on a phone, 10 units are 9 pixels.
"""

from __future__ import annotations

import re
from html import escape

WIDTH = 400
SHOWN = 440  # width in pixels, where the page is wide enough
MARGIN = 10
LINE = 17  # from one line of small text to the next
SMALL, BOLD = 13, 15  # sizes of the letters

# name: on a light page, on a dark page
PALETTE = {
    "page": ("#ffffff", "#15191f"),
    "ink": ("#1a1a1a", "#f0f3f6"),
    "gray": ("#59636e", "#b3bac3"),
    "plain": ("#eef1f5", "#262c36"),
    "blue": ("#dbe9fb", "#1d3858"),
    "amber": ("#fbeccb", "#4b3a14"),
}
# each look also differs from the others in its edge, or its box says what it stands for
STYLE = """
text { font: 13px sans-serif; fill: var(--ink) }
.bold { font-weight: bold; font-size: 15px }
.strong { font-weight: bold }
.middle { text-anchor: middle }
.end { text-anchor: end }
.crossed { text-decoration: line-through; fill: var(--gray) }
rect { fill: var(--plain); stroke: var(--gray) }
.page { fill: var(--page); stroke: none }
.result { fill: var(--page); stroke: var(--ink); stroke-width: 2.5 }
.blue { fill: var(--blue) }
.amber { fill: var(--amber); stroke: var(--ink) }
.frame { fill: none }
.mark { fill: none; stroke: var(--ink); stroke-width: 2.5 }
.idle { fill: none; stroke-dasharray: 4 3 }
polyline { fill: none; stroke: var(--ink); stroke-width: 1.6 }
.dashed { stroke-dasharray: 4 3 }
.head { fill: var(--ink) }
"""
HEAD = (
    '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6"'
    ' orient="auto"><path class="head" d="M0 0L10 5L0 10z"/></marker>'
)


def style(scheme: int) -> str:
    """Return the style sheet with the colours of a scheme; not every viewer knows var()."""
    return re.sub(r"var\(--(\w+)\)", lambda name: PALETTE[name[1]][scheme], STYLE)


class Sheet:
    """A picture, drawn from back to front."""

    def __init__(self, title: str, height: int) -> None:
        self.title = title
        self.height = height
        self.parts: list[str] = []
        self.rect(0, 0, WIDTH, height, "page")

    def rect(self, x: float, y: float, width: float, height: float, look: str = "plain") -> None:
        corner = "" if look == "page" else ' rx="5"'
        self.parts.append(
            f'<rect class="{look}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
            f"{corner}/>"
        )

    def text(self, x: float, y: float, words: str, look: str = "") -> None:
        """Write a line, whose letters stand on y; look: bold, strong, crossed, middle, end."""
        look = f' class="{look}"' if look else ""
        self.parts.append(f'<text{look} x="{x:g}" y="{y:g}">{escape(words, quote=False)}</text>')

    def lines(self, x: float, y: float, *lines: str, look: str = "") -> None:
        """Write lines, one below the other; a line that begins with * is bold."""
        for line in lines:
            bold = line.startswith("*")
            if line:
                self.text(x, y, line.lstrip("*"), f"{'bold ' if bold else ''}{look}".strip())
            y += LINE

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *lines: str,
        look: str = "plain",
        left: bool = False,
    ) -> None:
        """Draw a box with lines in its middle, or at its left edge."""
        self.rect(x, y, width, height, look)
        first = y + (height - LINE * len(lines)) / 2 + 13
        start = x + 10 if left else x + width / 2
        self.lines(start, first, *lines, look="" if left else "middle")

    def line(self, *points: tuple[float, float], look: str = "", head: bool = False) -> None:
        where = " ".join(f"{x:g},{y:g}" for x, y in points)
        look = f' class="{look}"' if look else ""
        end = ' marker-end="url(#head)"' if head else ""
        self.parts.append(f'<polyline{look} points="{where}"{end}/>')

    def curve(self, points: list[tuple[float, float]], look: str) -> None:
        where = "L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path class="{look}" d="M{where}"/>')

    def dot(self, x: float, y: float) -> None:
        self.parts.append(f'<circle class="head" cx="{x:g}" cy="{y:g}" r="3"/>')

    def arrow(self, *points: tuple[float, float], look: str = "") -> None:
        self.line(*points, look=look, head=True)

    def svg(self) -> str:
        styles = f"{style(0)}@media (prefers-color-scheme: dark) {{{style(1)}}}"
        height = f"{self.height * SHOWN / WIDTH:g}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}"'
                f' width="{SHOWN}" height="{height}" role="img" aria-labelledby="title">',
                f'<title id="title">{escape(self.title, quote=False)}</title>',
                f"<style>{styles}</style>",
                f"<defs>{HEAD}</defs>",
                *self.parts,
                "</svg>\n",
            ]
        )
