"""Measure the step between two lessons, for `pytest tests/lessons/test_lesson_diffs.py`."""

import ast
import contextlib
import io
import os
import re
import subprocess
import tempfile
import tokenize
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import layers

# lines that a step may insert and delete in the training code: src/ without new files,
# src/launch and src/utils/errors.py
BUDGETS = {2: 145, 3: 15, 4: 45, 5: 115, 6: 85, 7: 45, 8: 60, 9: 230, 10: 1030}
MOVING = 6  # the lesson in which moved lines do not count
LAUNCH_BUDGETS = {5: 20, 6: 25, 7: 145, 8: 66, 9: 135, 10: 970}
ERRORS = "src/utils/errors.py"
ERRORS_BUDGET = 42
NEW_FILES = {
    2: {
        "src/callbacks/done.py": 90,
        "src/callbacks/progress.py": 50,
        "src/utils/library_messages.py": 40,
        ERRORS: 51,
    },
    3: {"src/utils/workers.py": 45},
    4: {"run.py": 130, "src/launch/*": 155, "src/utils/slurm.py": 90},
    5: {
        "src/callbacks/predictions.py": 75,
        "src/callbacks/summary.py": 45,
        "src/callbacks/tensorboard.py": 190,
    },
    6: {
        "src/callbacks/batch_check.py": 137,
        "src/models/*.py": 130,
        "src/networks/*.py": 130,
        "src/datasets/*.py": 150,
        "src/utils/registry.py": 150,
    },
    7: {"src/networks/resnet.py": 60, "src/utils/cache_models.sh": 60},
    8: {
        "run.sh": 40,
        "src/launch/layout.py": 130,
        "src/launch/processes.py": 70,
        "src/utils/distributed.py": 130,
        "src/utils/data_shares.py": 130,
    },
    9: {
        "src/callbacks/exact_state.py": 190,
        "src/callbacks/interruption.py": 200,
        "src/launch/resume.py": 118,
        "src/utils/attempts.py": 90,
        "src/utils/checkpoints.py": 94,
        "src/utils/stop_signal.py": 27,
    },
    10: {
        "configs/*": 70,
        "src/callbacks/averaging.py": 120,
        "src/config/*": 300,
        "src/datasets/*": 265,
        "src/launch/*": 140,
        "src/models/*": 180,
        "src/networks/build.py": 105,
        "src/stages.py": 85,
        "src/training.py": 225,
        "src/utils/*": 240,
    },
}
# maximum number of lines of src/main.py, from this lesson on
MAIN = {1: 130, 2: 180, 5: 230, 6: 130, 9: 165, 10: 45}
MAX_REWRITE_RATIO = 2
COLORS = {"old": "red", "new": "green", "oldMoved": "blue", "newMoved": "cyan"}
CLEAN = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
SIGNS = {"31": ("-", False), "32": ("+", False), "34": ("-", True), "36": ("+", True)}


@dataclass
class Hunk:
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int


@dataclass
class File:
    """What a step does to one file; a line is (text, whether it moved)."""

    old: str | None = None
    new: str | None = None
    removed: list[tuple[str, bool]] = field(default_factory=list)
    added: list[tuple[str, bool]] = field(default_factory=list)
    hunks: list[Hunk] = field(default_factory=list)


def lessons(root):
    """Return number -> {path: text} for all lessons of a working tree."""
    with contextlib.chdir(root), layers.snapshot() as (tree, env):
        found = layers.read_lessons(layers.read_tree(tree, env), env)
        blobs = {line.split()[2] for lesson in found for line in lesson.program.values()}
        texts = {blob: layers.git("cat-file", "blob", blob, env=env).stdout for blob in blobs}
        return {
            lesson.number: {path: texts[line.split()[2]] for path, line in lesson.program.items()}
            for lesson in found
        }


def git_diff(old, new, context):
    """Return the diff of two snapshots as git shows it, with moved lines in other colours."""
    with tempfile.TemporaryDirectory() as folder:
        for side, files in (("a", old), ("b", new)):
            Path(folder, side).mkdir()
            for name, text in files.items():
                path = Path(folder, side, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        config = [
            part for key, color in COLORS.items() for part in ("-c", f"color.diff.{key}={color}")
        ]
        options = ["--no-index", "--no-prefix", f"-U{context}", "--color=always"]
        options += ["--color-moved=blocks", "--ws-error-highlight=none", "--no-ext-diff"]
        command = ["git", *config, "diff", *options, "a", "b"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=CLEAN)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def step(old, new, context=0):
    """Return the files that differ between two snapshots."""
    files = []
    for line in git_diff(old, new, context).split("\n"):
        code = re.match(r"\x1b\[(\d+)m", line)
        text = re.sub(r"\x1b\[\d*m", "", line)
        if text.startswith("diff --git "):
            files.append(File())
            paths = re.fullmatch(r"diff --git [ab]/(.*) [ab]/(.*)", text)
            files[-1].old = paths[1] if paths[1] in old else None
            files[-1].new = paths[2] if paths[2] in new else None
        elif hunk := re.match(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", text):
            numbers = [1 if number is None else int(number) for number in hunk.groups()]
            files[-1].hunks.append(Hunk(*numbers))
        elif code and code[1] in SIGNS:
            sign, moved = SIGNS[code[1]]
            side = files[-1].removed if sign == "-" else files[-1].added
            side.append((text[1:], moved))
    return files


def changed_lines(old, new, follow_moves=False):
    """Count insertions and deletions, without new files."""
    files = [file for file in step(old, new) if file.old]
    lines = [line for file in files for line in (*file.removed, *file.added)]
    return sum(not (moved and follow_moves) for _, moved in lines)


def part(files, name):
    """Return the files of one part of the program: training, launch, errors or scripts."""
    return {path: text for path, text in files.items() if part_of(path) == name}


def part_of(path):
    if path == ERRORS:
        return "errors"
    if path.startswith("src/launch/"):
        return "launch"
    return "training" if path.startswith("src/") else "scripts"


def new_files(old, new):
    """Return path -> number of lines."""
    return {name: len(new[name].splitlines()) for name in sorted(new.keys() - old.keys())}


def over_budget(number, old, new):
    """Return one sentence per budget that a step exceeds."""
    found = []
    budgets = {
        "training": BUDGETS[number],
        "launch": LAUNCH_BUDGETS.get(number, 0),
        "errors": ERRORS_BUDGET,
    }
    for name, budget in budgets.items():
        sides = [part(files, name) for files in (old, new)]
        lines = changed_lines(*sides, follow_moves=number == MOVING)
        if lines > budget:
            found.append(f"lesson {number} changes {lines} lines of {name}, {budget} at most")
    for name, size in new_files(old, new).items():
        limits = NEW_FILES.get(number, {}).items()
        limit = next((limit for pattern, limit in limits if fnmatch(name, pattern)), 0)
        if limit == 0:
            found.append(f"lesson {number} adds {name}, which is not one of its new files")
        elif size > limit:
            found.append(f"lesson {number} adds {name} with {size} lines, {limit} at most")
    return found


def main_too_long(number, files):
    limit = MAIN[max(first for first in MAIN if first <= number)]
    size = len(files.get("src/main.py", "").splitlines())
    return f"src/main.py of lesson {number} has {size} lines, {limit} at most" * (size > limit)


def rewrite_ratio(snapshots):
    """Return the lines inserted in all steps, without moves, per line of the last lesson."""
    inserted, before = 0, {}
    for files in snapshots:
        added = [line for file in step(before, files) for line in file.added]
        inserted += sum(not moved for _, moved in added)
        before = files
    return inserted / sum(len(text.splitlines()) for text in before.values())


# --- noise


@dataclass
class Import:
    """An import statement; two of them have the same key if they import the same names."""

    first: int
    last: int
    key: tuple
    text: str


@dataclass
class Source:
    """A Python file: its tokens without layout, its comments and its imports, by line."""

    tokens: list[tuple[int, str]]
    comments: set[int]
    imports: list[Import]


def parse(text):
    tokens, comments = [], set()
    depth, at_start = 0, True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, kind = token.start[0], token.type
        if kind == tokenize.COMMENT:
            comments.add(row)
        elif kind in (tokenize.INDENT, tokenize.DEDENT):
            depth += 1 if kind == tokenize.INDENT else -1
        elif kind == tokenize.NEWLINE:
            at_start = True
        elif kind not in (tokenize.NL, tokenize.ENDMARKER):
            # the indentation of a statement counts, the layout within it does not
            tokens += [(row, f"depth {depth}")] if at_start else []
            tokens.append((row, normal_string(token.string)))
            at_start = False
    return Source(without_trailing_commas(tokens), comments, imports_of(text))


def normal_string(word):
    match = re.fullmatch(r"(?s)([A-Za-z]{0,3})(\"\"\"|'''|\"|')(.*)\2", word)
    if not match:
        return word
    prefix, _, body = match.groups()
    if "f" in prefix.lower():
        return f"string {prefix.lower()} {body}"
    return f"string {ast.literal_eval(word)!r}"


def without_trailing_commas(tokens):
    kept = []
    for row, word in tokens:
        # (x,) is a tuple and (x) is not, so its comma stays
        if word in (")", "]", "}") and kept and kept[-1][1] == "," and not one_tuple(kept):
            kept.pop()
        kept.append((row, word))
    return kept


def one_tuple(tokens):
    """Tell whether the final comma is the only one in a pair of brackets that is not a call."""
    depth = 0
    for index in range(len(tokens) - 2, -1, -1):
        word = tokens[index][1]
        depth += (word in (")", "]", "}")) - (word in ("(", "[", "{"))
        if word == "," and depth == 0:
            return False
        if depth < 0:
            before = tokens[index - 1][1] if index else ""
            return word == "(" and not re.fullmatch(r"\w+|[)\]]", before)
    return False


def imports_of(text):
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = sorted((alias.name, alias.asname or "") for alias in node.names)
            module = (getattr(node, "module", ""), getattr(node, "level", 0), node.col_offset)
            text_of_it = ast.get_source_segment(text, node)
            found.append(Import(node.lineno, node.end_lineno, (*module, *names), text_of_it))
    return sorted(found, key=lambda item: item.first)


def words(source, start, count):
    return [word for row, word in source.tokens if start <= row < start + count]


def touched_imports(source, start, count):
    return [item for item in source.imports if item.first < start + count and item.last >= start]


def noise(old, new):
    """Return one sentence per hunk that teaches nothing: layout, reworded comment, import order."""
    found = []
    for context in (0, 3):  # without context, a re-wrapped statement can split into several hunks
        for file in step(old, new, context):
            if file.old and file.new:
                judge = python_noise if file.new.endswith(".py") else script_noise
                for line, reason in judge(old[file.old], new[file.new], file.hunks):
                    found.append(f"{file.new}:{line}: {reason}")
    return list(dict.fromkeys(found))


def python_noise(old_text, new_text, hunks):
    old, new = parse(old_text), parse(new_text)
    gone, come = {}, {}
    for hunk in hunks:
        before = (hunk.old_start, hunk.old_lines)
        after = (hunk.new_start, hunk.new_lines)
        if words(old, *before) == words(new, *after) and not only_adds_comments(
            old.comments & set(range(hunk.old_start, sum(before))),
            new.comments & set(range(hunk.new_start, sum(after))),
        ):
            yield hunk.new_start, "changes nothing but layout or the words of a comment"
        gone.update({item.key: item for item in touched_imports(old, *before)})
        come.update({item.key: item for item in touched_imports(new, *after)})
    reordered = import_order(old, new) != import_order(new, old)
    for key in gone.keys() & come.keys():
        if reordered or gone[key].text != come[key].text:
            yield come[key].first, "changes the order or the layout of imports"


def only_adds_comments(old_rows, new_rows):
    """Tell whether comments are added or removed; a lesson may do that, but not reword them."""
    return len(old_rows) != len(new_rows)


def import_order(source, other):
    """Return the imports of a file that the other file has too."""
    keys = [item.key for item in other.imports]
    return [item.key for item in source.imports if item.key in keys]


def script_noise(old_text, new_text, hunks):
    sides = (old_text.splitlines(), new_text.splitlines())
    for hunk in hunks:
        old = sides[0][max(hunk.old_start - 1, 0) :][: hunk.old_lines]
        new = sides[1][max(hunk.new_start - 1, 0) :][: hunk.new_lines]
        if script_words(old) == script_words(new) and not only_adds_comments(
            [line for line in old if line.lstrip().startswith("#")],
            [line for line in new if line.lstrip().startswith("#")],
        ):
            yield hunk.new_start, "changes nothing but layout or the words of a comment"


def script_words(lines):
    # #SBATCH and #! are not comments
    return " ".join(re.sub(r"^\s*#(?!SBATCH|!).*|(?<=\s)# .*", "", line) for line in lines).split()
