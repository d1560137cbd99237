"""Write a page for each lesson with what it changes, for tools/make_site.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from layers import Files, Lesson, git, read_lessons, read_tree, snapshot, write_tree

FENCE = "~" * 12
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml"}
TAGS = {"+": "ins", "-": "del"}


def change_pages() -> dict[str, str]:
    """Return the page of each lesson -> the text of the page with its changes.

    They are those of the working tree, as `tools/lessons.py diff` shows them.
    """
    with snapshot() as (tree, env):
        lessons = read_lessons(read_tree(tree, env), env)
        return {
            f"docs/lessons/{lesson.number}.md": change_page(lessons, lesson.number, env)
            for lesson in lessons
        }


def change_page(lessons: list[Lesson], number: int, env: Mapping[str, str]) -> str:
    lesson = lessons[number - 1]
    if number == 1:
        title, how = "The files of lesson 1", f"git switch {lesson.name}"
        parts = [file_block(path, line, env) for path, line in sorted(lesson.program.items())]
        intro = f"[Lesson 1](1.md) begins with {len(parts)} files, folded below. In your clone:"
    else:
        before = lessons[number - 2]
        title, how = f"The changes of lesson {number}", f"git diff {before.name} {lesson.name}"
        text = diff(before.program, lesson.program, env)
        parts = [raw(diff_block(section)) for section in sections(text)]
        intro = f"[Lesson {number}]({number}.md) changes {len(parts)} files of lesson {number - 1},"
        intro += " folded below. In your clone:"
    return "\n\n".join(
        (f"# {title}", raw(message_block(lesson)), intro, f"```bash\n{how}\n```", *parts, "")
    )


def diff(before: Files, after: Files, env: Mapping[str, str]) -> str:
    trees = [write_tree(side, env) for side in (before, after)]
    # diff-tree: unlike git diff, it ignores a user's own settings
    return git("diff-tree", "-r", "-p", "-M", *trees, env=env).stdout


def raw(html: str) -> str:
    return f"{FENCE}{{raw}} html\n{html}\n{FENCE}"


def message_block(lesson: Lesson) -> str:
    """Return the commit message of a lesson: its title and its list."""
    title, *lines = lesson.message.splitlines()
    text = "\n".join(line for line in lines if not line.startswith("Removes:"))
    points = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
    items = "".join(f"<li>{escape(' '.join(point.split()))}</li>" for point in points)
    return f'<div class="message"><p>{escape(title)}</p><ul>{items}</ul></div>'


def file_block(path: str, line: str, env: Mapping[str, str]) -> str:
    """Return a file of the first lesson, folded."""
    text = git("cat-file", "blob", line.split()[2], env=env).stdout
    language = LANGUAGES.get(Path(path).suffix, "text")
    size = len(text.splitlines())
    opening = '<details class="file">' + summary(path, f"{size} line" + "s" * (size > 1))
    return "\n\n".join((raw(opening), f"{FENCE}{language}\n{text}\n{FENCE}", raw("</details>")))


def summary(path: str, what: str) -> str:
    return f"<summary><code>{escape(path)}</code> {what}</summary>"


def sections(text: str) -> Iterator[list[str]]:
    """Yield the lines of each file in a diff."""
    section: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("diff --git ") and section:
            yield section
            section = []
        section.append(line)
    if section[0]:
        yield section


def diff_block(section: list[str]) -> str:
    """Return the diff of a file, folded, with a tag around each line."""
    start = next((n for n, line in enumerate(section) if line.startswith("@@")), len(section))
    head, body = section[:start], section[start:]
    lines = "".join(tagged(line) for line in body)
    return (
        f'<details class="diff">{summary(*describe(head, body))}\n'
        f"<pre>{lines or 'The lines are the same.'}</pre></details>"
    )


def tagged(line: str) -> str:
    tag = TAGS.get(line[:1], "span")
    kind = ' class="hunk"' if line.startswith("@@") else ""
    return f"<{tag}{kind}>{escape(line)}\n</{tag}>"


def describe(head: list[str], body: list[str]) -> tuple[str, str]:
    """Return the path of a file, and what happens to it."""
    names = re.fullmatch("diff --git a/(.*) b/(.*)", head[0])
    old, new = names.groups() if names else ("", head[0])
    kind = "changed"
    if any(line.startswith("new file") for line in head):
        kind = "new file"
    elif any(line.startswith("deleted file") for line in head):
        kind = "removed"
    elif old != new:
        kind = f"was <code>{escape(old)}</code>"
    counts = (f"<{TAGS[s]}>{s}{n}</{TAGS[s]}>" for s in "+-" if (n := count(body, s)))
    return new, " ".join((kind, *counts))


def count(body: list[str], sign: str) -> int:
    return sum(line.startswith(sign) for line in body)
