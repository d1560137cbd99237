#!/usr/bin/env python3
"""Would the walk of the pages notice a changed word? Change some on the way, and count.

    python3 tools/changed_words.py --number 20

It follows the pages like run_docs.py. At random places it also runs the block with a changed word,
in a copy of the reader's clone and a shell of its own, or compares the output with a changed one.
The walk goes on as if nothing had happened.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import run_docs
from run_docs import BEFORE, ROOT, Block

# a comment, what stands for anything, or a word: a name, an option, a path, a number
WORD = re.compile(r"#.*|<[a-z][a-z ]*>|\.\.\.|[\w./-]*\w")
# not changed in a command: how long it waits, what it prints for the reader, and what a job runs,
# where a change would end the job in another state
FREE = re.compile(r"sleep [\d.]+|\becho .*|--wrap='[^']*'")
# these blocks are not changed at all: another word might end the wrong process or job
HARMFUL = re.compile(r"\b(kill|scancel|practice down)\b")
# judges the options of a job, but submits none: later pages list the jobs
SBATCH = """#!/bin/bash
{sbatch} --test-only "$@" >&2 || exit
[[ " $* " == *" --parsable "* ]] && echo 0 || echo Submitted batch job 0
"""
# some words matter only in what a job computes, which no page shows
SHARE = 0.85


def changed(text: str, shape: bool = False) -> list[str]:
    """Return a text for each of its words, in which that word is changed.

    A number is replaced by another one; in a shape all numbers are free, and stay.
    """
    free = [match.span() for match in FREE.finditer(text)]
    texts = []
    for match in WORD.finditer(text):
        word, (start, end) = match[0], match.span()
        is_number = re.fullmatch(r"[\d.,:]+[KMG]?", word)
        if word[0] in "#<" or word == "..." or (is_number and shape):
            continue
        if any(first <= start < last for first, last in free):
            continue
        other = f"{int(word[0]) % 9 + 1}{word[1:]}" if word[0].isdigit() else f"{word}x"
        texts.append(text[:start] + other + text[end:])
    return texts


class Doubter(run_docs.Reader):
    """A reader who also asks whether a changed word would be noticed."""

    def __init__(self, venv: Path, chosen: dict[tuple[Path, int], list[str]]) -> None:
        super().__init__(venv)
        self.chosen = chosen  # changed texts, by page and line of their block
        self.noticed: list[str] = []
        self.missed: list[str] = []

    def run(self, block: Block) -> None:
        """Run a changed block before the real one."""
        for text in self.chosen.get((block.page, block.line), []):
            if "at-once" not in block.words:
                self.wait_for_jobs()
            self.count(block, text, self.notices(block, text))
        super().run(block)

    def after(self, block: Block, found: str) -> None:
        output = block.output
        if output is None:
            return
        for text in self.chosen.get((output.page, output.line), []):
            self.count(output, text, self.difference(output, text, found) is not None)

    def notices(self, block: Block, text: str) -> bool:
        """Return whether a changed block ends or prints differently from what its page shows."""
        copy, script, fake = (self.home / name for name in ("copy", "changed.sh", "fake"))
        script.write_text(self.fill_in(Block(block.page, block.line, text)))
        shell = self.laptop if "laptop" in block.words else self.login
        folder = self.login.run("pwd", 5)[0].strip()
        fake.mkdir(exist_ok=True)
        (fake / "sbatch").write_text(SBATCH.format(sbatch=shutil.which("sbatch")))
        (fake / "sbatch").chmod(0o755)
        path = "" if "laptop" in block.words else f"PATH={fake}:$PATH; "
        words = (
            f"rm -rf {copy} && cp -a {shlex.quote(folder)} {copy} && (cd {copy}; {path}"
            f"failed=0; trap 'failed=$?' ERR; source {script}; trap - ERR; exit $failed)"
        )
        found, code = self.execute(block, shell, words)
        return self.mistake(block, found, code) is not None

    def count(self, block: Block, text: str, noticed: bool) -> None:
        pairs = zip(block.text.split(), text.split())
        [change] = [f"{old} -> {new}" for old, new in pairs if old != new]
        print(f"{block.where}: {change}: {'noticed' if noticed else 'NOT NOTICED'}", flush=True)
        (self.noticed if noticed else self.missed).append(f"{block.where}: {change}")


def choose(pages: list[Path], number: int, seed: int) -> dict[tuple[Path, int], list[str]]:
    """Return changed texts by page and line: at random places, or everywhere if `number` is 0."""
    places = [
        ((block.page, block.line), text)
        for page in pages
        for block in blocks_of(page)
        for text in changed(block.text, "shape" in block.words)
    ]
    if number:
        # by hash, so that an edit elsewhere does not change the choice
        places = sorted(places, key=lambda place: hashed(f"{seed} {place[1]}"))[:number]
    chosen: dict[tuple[Path, int], list[str]] = {}
    for place, text in places:
        chosen.setdefault(place, []).append(text)
    return chosen


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the commands and the outputs of a page that the walk runs and compares."""
    for block in run_docs.read_page(page):
        if "no-run" not in block.words:
            if not HARMFUL.search(block.text):
                yield block
            if block.output:
                yield block.output


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the changed words that the walk notices.")
    parser.add_argument("--number", type=int, default=20, help="number of changed words; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="random seed: choice of the words")
    parser.add_argument("--keep", action="store_true", help="keep the folder after a failure")
    parser.add_argument("--venv", default=ROOT / "env", type=Path, help="Python environment")
    args = parser.parse_args()
    pages = [ROOT / name for name in BEFORE] + run_docs.lesson_pages()
    reader = Doubter(args.venv.absolute(), choose(pages, args.number, args.seed))
    run_docs.walk(reader, keep=args.keep)
    number = len(reader.noticed) + len(reader.missed)
    print(*reader.missed, sep="\n")
    print(f"changed words: {number}, noticed: {len(reader.noticed)}")
    raise SystemExit(len(reader.noticed) < SHARE * number)


if __name__ == "__main__":
    main()
