"""Apply the uncommitted edits of a layer to the later layers that contain the same files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from layers import Lesson, git, uncommitted

CONFLICT = re.compile("^(<<<<<<<|>>>>>>>) ", re.MULTILINE)
Reader = Callable[[Path], "str | None"]


def read(path: Path) -> str | None:
    return os.fsdecode(path.read_bytes()) if path.is_file() else None


def read_committed(path: Path) -> str | None:
    found = git("cat-file", "--filters", f"HEAD:{path}", ok=255)
    return None if found.returncode else found.stdout


def home(lessons: list[Lesson], lesson: Lesson) -> Path:
    """Return the folder of a lesson's own files: its layer, or the root for the last lesson."""
    return Path() if lesson is lessons[-1] else Path("lessons", lesson.name)


def carry(lessons: list[Lesson], number: int) -> None:
    """Carry the edits of a lesson into the later lessons, up to the program in the root.

    Raises:
        SystemExit: names the files, at the first conflict or if an edit would be lost.
    """
    here = home(lessons, lessons[number - 1])
    edits = [Path(path).relative_to(here) for path in uncommitted(str(here))]
    # in the lesson itself there is nothing to carry, but there may be an unresolved conflict
    for lesson in lessons[number - 1 :]:
        place = home(lessons, lesson)
        for path in edits:
            in_layer = str(path) in lesson.layer or lesson is lessons[-1]
            if lesson.number > number and in_layer:
                carry_file(lessons, number, path, place / path)
        stuck = [str(place / path) for path in edits if CONFLICT.search(read(place / path) or "")]
        if stuck:
            again = f", then: python3 tools/lessons.py carry {lesson.number}"
            more = again if lesson is not lessons[-1] else ""
            raise SystemExit(f"conflict in {', '.join(stuck)}: resolve it by hand{more}")
    print(f"lesson {number}: carried {len(edits) or 'no'} files with uncommitted edits")


def carry_file(lessons: list[Lesson], number: int, path: Path, target: Path) -> None:
    origin = home(lessons, lessons[number - 1]) / path
    before = effective(lessons[:number], lessons, path, read_committed)
    edited, current = effective(lessons[:number], lessons, path, read), read(target)
    if current is None and any(str(path) in lesson.removes for lesson in lessons[number:]):
        return
    result = merge(origin, target, before, edited, current)
    if result == current:
        return
    if uncommitted(str(target)):  # overwrite only what git can restore
        raise SystemExit(f"{target} has uncommitted edits: commit them, then carry again.")
    print(f"carried {origin} into {target}")
    if result is None:
        return target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(os.fsencode(result))
    if origin.exists():
        shutil.copymode(origin, target)


def effective(some: list[Lesson], lessons: list[Lesson], path: Path, reader: Reader) -> str | None:
    """Return the file at a path in the last of some lessons: from its layer, or an earlier one."""
    for lesson in reversed(some):
        text = reader(home(lessons, lesson) / path)
        if text is not None or str(path) in lesson.removes:
            return text
    return None


def merge(
    origin: Path, target: Path, before: str | None, edited: str | None, current: str | None
) -> str | None:
    """Return the target's text with the edit from `before` to `edited`; None if it is deleted."""
    if current in (before, edited):
        return edited
    if current is None or edited is None:
        print(f"skipped {target}: {'it does not exist' if edited else 'it has changed'}")
        return current
    with tempfile.TemporaryDirectory() as folder:
        sides = {str(target): current, "before the edit": before or "", str(origin): edited}
        for index, text in enumerate(sides.values()):
            Path(folder, str(index)).write_bytes(os.fsencode(text))
        labels = [word for label in sides for word in ("-L", label)]
        files = [str(Path(folder, str(index))) for index in range(len(sides))]
        return git("merge-file", "-p", *labels, *files, ok=127).stdout
