"""Read a YAML file of settings: its values, and the line of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from src.config.problems import SettingsError

BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LARGEST = 2**20  # bytes; settings that people write are much shorter
MOST_VALUES = 20_000  # an alias (*name) counts as often as it is used
DEEPEST = 30  # groups within groups


class Loader(BASE):  # type: ignore[misc]
    """YAML 1.1 with the exceptions of OmegaConf: 1e-3 is a number, and a date is text.

    So is 1:30:00, which YAML 1.1 reads as a number of seconds.
    """


FLOAT = re.compile(
    r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN)"
)
Loader.yaml_implicit_resolvers = {
    key: [pair for pair in pairs if not pair[0].endswith((":timestamp", ":float", ":int"))]
    for key, pairs in BASE.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"(?:{FLOAT.pattern})$"), list("-+0123456789.")
)
INT = re.compile(r"(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]*|[-+]?[1-9][0-9_]*|[-+]?0x[0-9a-fA-F_]+)$")
Loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))


def read_yaml(file: Path, name: str) -> tuple[Any, dict[str, int]]:
    """Return the values in a file, and the line of each dotted key.

    Args:
        file: the file.
        name: what messages call it.

    Raises:
        SettingsError: with the name and the line, if it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError([f"{name}: cannot be read ({error.strerror})"]) from None
    if len(data) > LARGEST:
        raise SettingsError([f"{name}: is larger than 1 MB: it is no file of settings"])
    try:
        return parse(data.decode("utf-8"), name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = "is not text in UTF-8: save it in this encoding"
        raise SettingsError([f"{name}:{line}: {problem}"]) from None


def parse(text: str, name: str) -> tuple[Any, dict[str, int]]:
    """Return the values in a text, and the line of each dotted key.

    Raises:
        SettingsError: with the name and the line, if it is not YAML.
    """
    loader = None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        problem = next(problems_of(node), None)
        if problem:
            raise SettingsError([f"{name}:{problem}"])
        lines: dict[str, int] = {}
        add_lines(node, "", lines)
        return (loader.construct_document(node) if node else None), lines
    except yaml.YAMLError as error:
        raise SettingsError([yaml_problem(error, text, name)]) from None
    except ValueError as error:  # such as a number of too many digits
        raise SettingsError([f"{name}: {error}"]) from None
    except RecursionError:
        raise SettingsError([f"{name}: has too many brackets within brackets"]) from None
    finally:
        if loader is not None:
            loader.dispose()


def yaml_problem(error: yaml.YAMLError, text: str, name: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{name}:{line}: is not text: it contains a control character"
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{name}:{mark.line + 1}" if mark else name
    problem = " ".join(str(getattr(error, "problem", error)).split())
    written = [*text.split("\n"), ""][mark.line] if mark else ""
    tab = "; indent with spaces, not with tabs" if written.lstrip(" ").startswith("\t") else ""
    return f"{place}: is not YAML: {problem}{tab}"


def problems_of(root: yaml.Node | None) -> Iterator[str]:
    """Yield the line of what no file of settings may contain, and the rule."""
    count, to_do = 0, [(root, 0)] if root else []
    while to_do:
        node, depth = to_do.pop()
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            what = f"more than {MOST_VALUES} values, or more than {DEEPEST} levels"
            yield f"{node.start_mark.line + 1}: has {what}"
            return
        if isinstance(node, yaml.SequenceNode):
            to_do += [(value, depth + 1) for value in node.value]
        elif isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                problem = problem_of(key, value, depth, names)
                if problem:
                    yield f"{key.start_mark.line + 1}: {problem}"
                    return
                names.add(key.value)
                to_do.append((value, depth + 1))


def problem_of(key: yaml.Node, value: yaml.Node, depth: int, names: set[str]) -> str | None:
    """Return the rule that a key breaks; names are the keys before it in the same group."""
    if not isinstance(key, yaml.ScalarNode):
        return "a key must be a name"
    if key.tag.endswith((":null", ":bool")):
        return f"put the key {key.value} in quotes: YAML reads it as a value"
    if key.tag.endswith(":merge") and not isinstance(value, yaml.MappingNode):
        return "<<: names more than one group: write their settings out"
    if "." in key.value and depth == 0:
        group, _, rest = key.value.partition(".")
        inside = f"write {group}: and, in the next line, indented, {rest}:"
        return f"{key.value:.80} has a dot: {inside:.200}"
    if key.value in names:
        return f"is not YAML: found duplicate key {key.value:.80}"
    return None


def lines_of(text: str) -> dict[str, int]:
    """Return the line, from 1, of each dotted key in a text that is YAML."""
    found: dict[str, int] = {}
    add_lines(yaml.compose(text, Loader=Loader), "", found)
    return found


def add_lines(node: yaml.Node | None, prefix: str, found: dict[str, int]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}.{key.value}" if prefix else str(key.value)
        if key.tag.endswith(":merge"):  # <<: *name
            name = prefix
        else:
            found[name] = key.start_mark.line + 1
        if name == "defaults" and isinstance(value, yaml.SequenceNode):
            for number, entry in enumerate(value.value):
                found[f"{name}.{number}"] = entry.start_mark.line + 1
        add_lines(value, name, found)
