"""Render the pages of the course as a web site, which needs neither a server nor the internet.

    make site    # writes site/index.html

The pages are README.md and docs/**/*.md as they are in the working tree. Each lesson gets a second
page with what it changes. Sphinx does the rendering, with the settings in tools/website; a new page
appears in the navigation by itself, and GROUPS puts it under a heading.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from html import unescape
from itertools import pairwise
from pathlib import Path
from types import FrameType
from urllib.parse import unquote

from change_pages import FENCE, change_pages
from layers import git
from markdown_it import MarkdownIt
from myst_parser.slugs import github_slugify
from pygments.lexers import get_lexer_for_filename
from pygments.token import Error
from pygments.util import ClassNotFound

ROOT = Path(__file__).resolve().parents[1]
SITE = Path("site")
PREFIX = ".site-"  # of a temporary folder
START = "README.md"
# heading in the navigation -> pages in docs, in the order of the course
GROUPS = {
    "Start here": ["preparation", "practice-cluster"],
    "Lessons": [],
    "After the lessons": ["your-own-data-and-model", "what-now"],
    "Look it up": [
        *("glossary", "cheat-sheet", "troubleshooting", "reference-logs", "sites", "architecture"),
    ],
    "Teach it": ["instructor"],
    "More": [],
}
PICTURES = {".svg", ".png", ".jpg"}
DARK = "@media (prefers-color-scheme: dark)"
ADDRESS = re.compile(r'\b(?:src|srcset|href)="([^"]+)"')
# two files of one picture, in the words of a Git host
PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*(<img [^>]+>)\s*</picture>')
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# what a full disk makes impossible
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Link:
    """A link of a page to another page, a file or a picture of the repository."""

    page: str
    first: int  # the lines in which it may be, counted from 0
    last: int
    href: str

    @property
    def path(self) -> str:
        """The file to which it leads, relative to the root."""
        file = unquote(self.href.partition("#")[0])
        return os.path.normpath(Path(self.page).parent / file) if file else self.page

    @property
    def heading(self) -> str:
        return unquote(self.href.partition("#")[2])


def find_pages() -> dict[str, str]:
    """Return the path of each page -> its text."""
    paths = [Path(START), *sorted(Path("docs").rglob("*.md"))]
    return {str(path): read(str(path)) for path in paths}


def read(path: str) -> str:
    """Return the text of a file.

    Raises:
        SystemExit: if it is not a file, or not text, with its name.
    """
    file = Path(path)
    if not path.isprintable():
        raise SystemExit(f"{escaped(path)} has a name that no link can have: rename it.")
    if not file.is_file():
        what = "is not a file: rename or delete it."
        if file.is_symlink() and not file.exists():
            what = "is a link that leads nowhere: correct or delete it."
        elif not file.exists():
            what = f"is missing: restore it, such as with git restore {path}."
        raise SystemExit(f"{path} {what}")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SystemExit(f"{path}:{line} is not UTF-8 text: save the file as UTF-8.") from None


def escaped(text: str) -> str:
    """Return text without what could change a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def find_links(page: str, text: str) -> Iterator[Link]:
    first, last = 0, 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        first, last = token.map or (first, last)
        for part in token.children or [token]:
            found = ADDRESS.findall(part.content) if part.type.startswith("html_") else []
            for href in (part.attrGet("href"), part.attrGet("src"), *found):
                if href and not re.match("[a-z]+:", str(href), re.IGNORECASE):
                    yield Link(page, first, last, str(href))


def find_headings(text: str) -> set[str]:
    """Return the names by which links find the headings of a page, as on GitHub."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    names: set[str] = set()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            words = (part.content for part in heading.children or [])
            slug = name = github_slugify("".join(words))
            number = 0
            while name in names:
                number += 1
                name = f"{slug}-{number}"
            names.add(name)
    return names


# --- check


def exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # such as a name that is too long for a file
        return False


def fault(link: Link, pages: dict[str, str]) -> str:
    """Return what is wrong with a link; empty if it leads somewhere."""
    where = f"{link.page}:{link.first + 1}: the link {link.href} leads to"
    if link.path.startswith(("/", "..")) or not exists(link.path):
        return f"{where} {link.path}, which is not in the repository: correct the path."
    if Path(link.path).is_dir():
        return f"{where} a folder, which the site cannot show: link a file in it."
    if not Path(link.path).is_file():
        return f"{where} {link.path}, which is not a file: link another one."
    if link.heading and link.path not in pages:
        return f"{where} a heading of {link.path}, which is not a page: remove #{link.heading}."
    if link.heading and link.heading not in find_headings(pages[link.path]):
        return f"{where} a heading that {link.path} does not have: correct #{link.heading}."
    return ""


def check_links(links: list[Link], pages: dict[str, str]) -> None:
    """Refuse links that lead nowhere.

    Raises:
        SystemExit: with one sentence for each of them.
    """
    faults = [escaped(sentence) for link in links if (sentence := fault(link, pages))]
    if faults:
        raise SystemExit("\n".join(faults))


# --- assemble the sources


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def source_name(page: str) -> str:
    return "index.md" if page == START else page


def language_of(path: str, text: str) -> str:
    """Return the word for Pygments by which it can colour a file."""
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        return "text"
    errors = (kind in Error for kind, _ in lexer.get_tokens(text))
    return "text" if any(errors) else lexer.aliases[0]


def write_file_page(path: str, sources: Path) -> str:
    """Write a page that shows a file of the repository, and return its name.

    A file that is not text is copied instead, so that its link downloads it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        (sources / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, sources / path)
        return path
    # a search for a word of the course should find its pages first
    head = "---\norphan: true\nnosearch: true\n---"
    title = f"{head}\n\n# `{path}`\n\nA file of the course."
    code = f"{FENCE}{language_of(path, text)}\n{text}\n{FENCE}"
    name = f"files/{path}.md"
    write(sources / name, f"{title}\n\n{code}\n")
    return name


def write_pictures(links: list[Link], sources: Path) -> None:
    """Copy the pictures; of a drawing with two colour schemes, write a file for each.

    A drawing alone follows the scheme of the browser, not the one chosen on the page.
    """
    for path in {link.path for link in links if Path(link.path).suffix in PICTURES}:
        target = sources / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".svg":
            drawing = read(path)
            write(target, drawing.replace(DARK, "@media not all"))
            write(target.with_suffix(".dark.svg"), drawing.replace(DARK, "@media all"))
        else:
            shutil.copy(path, target)


def retarget(text: str, links: list[Link], places: dict[str, str]) -> str:
    """Return the text of a page with links to the places where the site has the files."""
    lines = text.split("\n")
    for link in links:
        place = places.get(link.path, link.path)
        if place != link.path:
            here = Path(source_name(link.page)).parent
            new = os.path.relpath(place, here) + (f"#{link.heading}" if link.heading else "")
            for number in range(link.first, max(link.last, link.first + 1)):
                lines[number] = lines[number].replace(f"]({link.href})", f"]({new})")
    return "\n".join(lines)


def split_picture(page: str, match: re.Match[str]) -> str:
    """Return a picture with two files as two pictures: the page shows the one for its scheme.

    Raises:
        SystemExit: if it lacks an attribute.
    """
    dark, tag = match.groups()
    attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
    for name in ("src", "alt", "width"):
        if name not in attributes:
            line = match.string.count("\n", 0, match.start(2)) + 1
            raise SystemExit(
                f'{page}:{line}: the picture has no {name}: add {name}="..." to <img>.'
            )
    lines = f":alt: {unescape(attributes['alt'])}\n:width: {attributes['width']}px\n```"
    return (
        f"```{{image}} {attributes['src']}\n:class: only-light\n{lines}\n\n"
        f"```{{image}} {dark}\n:class: only-dark\n{lines}"
    )


def navigation(pages: dict[str, str]) -> str:
    """Return the contents of the side navigation, for the end of the start page.

    Raises:
        SystemExit: if GROUPS names a page that does not exist.
    """
    groups = {title: [f"docs/{name}" for name in names] for title, names in GROUPS.items()}
    names = [str(Path(page).with_suffix("")) for page in pages if page != START]
    lessons = [name for name in names if re.fullmatch(r"docs/lessons/\d+", name)]
    groups["Lessons"] = sorted(lessons, key=lambda name: int(Path(name).name))
    known = {name for group in groups.values() for name in group}
    for name in known - set(names):
        raise SystemExit(
            f"GROUPS in tools/make_site.py names {name}.md, which does not exist: remove the name."
        )
    groups["More"] += [name for name in names if name not in known]
    return "".join(contents(title, names) for title, names in groups.items() if names)


def contents(title: str, names: list[str]) -> str:
    caption = f":caption: {title}\n" if title else ""
    return "\n\n```{toctree}\n:hidden:\n" + caption + "\n" + "\n".join(names) + "\n```\n"


def link_changes(text: str, page: str) -> str:
    """Return the text of a lesson page with a link to its changes below its first paragraph.

    Raises:
        SystemExit: if it does not have one.
    """
    parts = text.split("\n\n", 2)
    if len(parts) < 3:
        need = "a title, a paragraph and more, with empty lines between them"
        raise SystemExit(f"{page} is too short for the page of a lesson: write {need}.")
    title, intro, rest = parts
    name = f"{Path(page).stem}-changes"
    what = "files" if name == "1-changes" else "changes"
    link = f"[All {what} of this lesson, one by one]({name}.md)"
    return f"{title}\n\n{intro}\n\n{link}\n\n{rest}{contents('', [name])}"


def check_encoding(text: str) -> None:
    """Refuse changes in a file that is not UTF-8.

    Raises:
        SystemExit: with its name.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        files = re.findall("<summary><code>(.*?)</code>", text[: error.start])
        name = unescape(files[-1]) if files else "A message in lessons/"
        raise SystemExit(f"{name} is not UTF-8 text: save the file as UTF-8.") from None


def assemble(pages: dict[str, str], links: list[Link], sources: Path) -> int:
    """Write the sources of the site, and return the number of its pages."""
    write_pictures(links, sources)
    shown = {link.path for link in links if Path(link.path).suffix not in PICTURES} - pages.keys()
    places = {path: write_file_page(path, sources) for path in sorted(shown)}
    places[START] = source_name(START)
    changes = change_pages()
    for page, text in pages.items():
        text = retarget(text, [link for link in links if link.page == page], places)
        text = PICTURE.sub(partial(split_picture, page), text)
        if page == START:
            text += navigation(pages)
        if page in changes:
            text = link_changes(text, page)
        write(sources / source_name(page), text)
    for page, text in changes.items():
        check_encoding(text)
        write(sources / page.replace(".md", "-changes.md"), text)
    return len(list(sources.rglob("*.md")))


# --- render


def version() -> tuple[str, str]:
    """Return what the pages say about their version, and its time in seconds since 1970."""
    found = git("log", "-1", "--format=%ct %h", ok=128).stdout.split()
    if not Path(".git").exists() or not found:
        return "", "0"
    seconds, commit = found
    edits = " with edits" if git("status", "--porcelain").stdout else ""
    return f"%Y-%m-%d, commit {commit}{edits}", seconds


def render(sources: Path, target: Path) -> None:
    """Run Sphinx.

    Raises:
        SystemExit: if it warns of anything.
    """
    shown, seconds = version()
    command = [sys.executable, "-m", "sphinx", "-b", "html", "--fail-on-warning", "--quiet"]
    command += ["-c", str(ROOT / "tools/website"), "-d", str(sources.parent / "doctrees")]
    if shown:
        command += ["-D", f"html_last_updated_fmt={shown}"]
    # the date of the commit, not of today: the same commit gives the same files; no colours,
    # which Sphinx also uses where FORCE_COLOR or CI is set, since its messages are changed below
    env = {**os.environ, "SOURCE_DATE_EPOCH": seconds, "NO_COLOR": "1"}
    done = subprocess.run([*command, sources, target], env=env, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        for number in FULL:
            if re.search(rf"\[Errno {number}\]|OSError\({number},", done.stderr):
                raise OSError(number, os.strerror(number), str(target))
        messages = done.stderr.replace(f"{sources}/index.md", START).replace(f"{sources}/", "")
        raise SystemExit(f"{messages.strip()}\nThe site was not written.")


# --- replace the site


def check_place() -> None:
    """Refuse to replace a folder that is not a site.

    Raises:
        SystemExit: if there is one, or a link.
    """
    if SITE.is_symlink():
        raise SystemExit(
            f"{SITE} is a symbolic link, which make site does not replace: delete the link, and"
            f" copy {SITE}/ to where it led."
        )
    if SITE.exists() and not (SITE / "searchindex.js").exists():
        raise SystemExit(f"{SITE}/ was not written by make site: rename or delete this folder.")


def replace_site(new: Path, old: Path) -> None:
    """Put the new site in the place of the old one, which is complete until then.

    All three are on one file system, so that each step is done or not done.

    Raises:
        SystemExit: if the old one cannot be replaced; it is kept.
    """
    try:
        if SITE.exists():
            SITE.rename(old)
        new.rename(SITE)
    except OSError as error:
        kept = SITE
        if old.exists():
            with suppress(OSError):
                old.rename(SITE)
            kept = SITE if SITE.exists() else old
        why = f"{SITE}/ cannot be replaced ({error.strerror}): move it elsewhere."
        raise SystemExit(f"{why} The old site is in {kept}/.") from None
    if old.exists():
        remove(old)


def remove(old: Path) -> None:
    """Remove an old site, also folders in it that are read-only."""
    try:
        for folder, _, _ in os.walk(old):
            Path(folder).chmod(0o700)
        shutil.rmtree(old)
    except OSError as error:
        print(f"Parts of the old site remain ({error.strerror}): delete {old}/.", file=sys.stderr)


def stop(number: int, frame: FrameType | None) -> None:
    """End the program; further signals must not disturb it while it cleans up."""
    ignore_signals()
    print(f"\ninterrupted: {SITE}/ is as it was", file=sys.stderr)
    raise SystemExit(128 + number)


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with a sentence after an error of the system.

    Raises:
        SystemExit: with the sentence, and without what could change a terminal.
    """
    try:
        yield
    except OSError as error:
        # of the temporary folder, which is gone, only the place says something
        place = str(error.filename or ROOT).partition(f"/{PREFIX}")[0]
        what = f"{escaped(place)}: {error.strerror or error}"
        cure = "free some space" if error.errno in FULL else "make it readable and writable"
        raise SystemExit(f"{what}: {cure}. The site was not written.") from None
    except SystemExit as error:
        if isinstance(error.code, str):
            raise SystemExit("\n".join(map(escaped, error.code.split("\n")))) from None
        raise


def make_site() -> int:
    """Write the site, and return the number of its pages."""
    check_place()
    pages = find_pages()
    links = [link for page, text in pages.items() for link in find_links(page, text)]
    check_links(links, pages)
    # beside the site: a folder on another file system could only be copied
    place = tempfile.TemporaryDirectory(prefix=PREFIX, dir=ROOT, ignore_cleanup_errors=True)
    with place as folder:
        # git must not take it for an edit
        write(Path(folder, ".gitignore"), "*\n")
        sources, target = Path(folder, "sources"), Path(folder, "site")
        count = assemble(pages, links, sources)
        render(sources, target)
        ignore_signals()
        check_place()
        replace_site(target, Path(f"{folder}.old"))
    return count


def main() -> None:
    os.chdir(ROOT)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, stop)
    with plain_errors():
        count = make_site()
    print(f"{count} pages: open {SITE}/index.html")


if __name__ == "__main__":
    main()
