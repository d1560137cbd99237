"""The architecture of src/: which folder knows which, from the imports of its files."""

from __future__ import annotations

import ast
from pathlib import Path

from drawings.sheet import Sheet

ROOT = Path(__file__).parents[2]
LEFT, RIGHT = 10, 296  # edges of the boxes
HEIGHT, GAP = 62, 8
WHAT = {
    "run.py": "checks the settings; submits or trains",
    "main.py": "the entry of a job: reads config.yaml",
    "training.py": "puts model, data and Trainer together",
    "stages.py": "fit, test and predict, as asked for",
    "launch/": "options, batch script, submission",
    "config/": "settings: composed and checked",
    "callbacks/": "plots, predictions, interruptions",
    "models/": "loss, optimizer and metrics of a task",
    "datasets/": "images: read, split, shared out",
    "networks/": "layers",
    "utils/": "what several of the parts need",
}


def modules(text: str) -> set[str]:
    """Return what a file imports, as in src.utils.errors."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def known(files: list[Path]) -> set[str]:
    """Return the parts of src/ that these files import."""
    names = {name.split(".")[1] for f in files for name in modules(f.read_text()) if "src." in name}
    return {f"{name}/" if (ROOT / "src" / name).is_dir() else f"{name}.py" for name in names}


def parts() -> dict[str, set[str]]:
    """Return each part of the program, with the parts that it knows."""
    found = {"run.py": known([ROOT / "run.py"])}
    for path in sorted((ROOT / "src").iterdir()):
        if path.is_dir() and list(path.glob("*.py")):
            found[f"{path.name}/"] = known(list(path.glob("*.py"))) - {f"{path.name}/"}
        elif path.suffix == ".py" and path.name != "__init__.py":
            found[path.name] = known([path])
    return found


def in_order(found: dict[str, set[str]]) -> list[str]:
    """Return the parts so that each knows only later ones."""
    left, order = dict(found), []
    while left:
        unknown = [name for name in left if not any(name in others for others in left.values())]
        if not unknown:
            raise SystemExit(f"src: {', '.join(left)} import each other: remove one of the imports")
        first = min(unknown, key=list(WHAT).index)
        order.append(first)
        del left[first]
    return order


def draw() -> Sheet:
    found = parts()
    different = ", ".join(sorted(found.keys() ^ WHAT.keys()))
    if different:
        where = "WHAT in tools/drawings/architecture.py"
        raise SystemExit(f"{where} must say what each part of src does, and no other: {different}")
    order = in_order(found)
    top = {name: 32 + (HEIGHT + GAP) * row for row, name in enumerate(order)}
    title = "The parts of the program, and which of them each part imports"
    sheet = Sheet(title, 32 + (HEIGHT + GAP) * len(order))
    sheet.text(LEFT, 22, "An arrow leads to what a part imports.")
    lane = 0
    for name in order:
        others = [Path(other).stem for other in order if other in found[name]]
        users = [other for other in order if name in found[other]]
        everybody = len(users) == len(order) - 1
        knows = "known to all of them" if everybody else f"knows {', '.join(others)}"
        shown = name if name == "run.py" else f"src/{name}"
        sheet.box(LEFT, top[name], RIGHT - LEFT, HEIGHT, f"*{shown}", WHAT[name], knows, left=True)
        if users and not everybody:
            arrows(sheet, lane, [top[user] for user in users], top[name] + 10)
            lane += 1
    return sheet


def arrows(sheet: Sheet, lane: int, users: list[int], end: int) -> None:
    """Draw a line from the parts that know another one, to that part."""
    x = RIGHT + 12 + 11 * lane
    starts = [user + 20 + 5 * lane for user in users]
    for y in starts:
        sheet.line((RIGHT, y), (x, y))
        sheet.dot(x, y)
    sheet.arrow((x, starts[0]), (x, end), (RIGHT, end))
