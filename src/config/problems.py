"""Turn what pydantic and OmegaConf refuse into sentences: key, value, rule, file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from src.utils.errors import UserError

# pydantic's name of an error -> rule; {x} is a value of its context
RULES = {
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "must be true or false",
    "string_type": "is not text",
    "list_type": "is not a list",
    "dict_type": "is not a group of settings",
    "model_type": "is not a group of settings",
    "model_attributes_type": "is not a group of settings",
    "none_required": "is not null",
    "finite_number": "is not a finite number",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "too_short": "must have at least {min_length} entry",
    "value_error": "{error}",
    "string_pattern_mismatch": "is not a name",
}


MOST_LINES = 20  # of a message


class SettingsError(UserError):  # type: ignore[misc]
    """Settings that cannot be used; its text has one line per mistake."""

    code = 2

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        more = len(self.problems) - MOST_LINES
        shown = [*self.problems[:MOST_LINES], *([f"and {more} more mistakes"] if more > 0 else [])]
        super().__init__("\n".join(shown))


def sentences(errors: Iterable[Mapping[str, Any]], values: Any, known: Iterable[str],
              where: Mapping[str, str]) -> list[str]:  # fmt: skip
    """Return a sentence for each key that pydantic refuses.

    Args:
        errors: pydantic's list of errors; a value that may have several types has one error each.
        values: the settings that it checked, by name.
        known: all names of settings, for suggestions.
        where: name of a setting -> file and line that set it.
    """
    rules: dict[str, list[str]] = {}
    known = [*known, *where]
    for error in errors:
        key, value, is_there = locate(error["loc"], values)
        if error["type"] == "extra_forbidden":
            rule = f"is not a setting{suggestion(key, known)}"
        elif error["type"] == "missing" or not is_there:
            missing = dotted(error["loc"])
            key, rule = missing, f"has no value: set it, such as {missing}=..."
        else:
            rule = rule_of(error, value)
            if isinstance(value, str) and "." not in key and "group" in rule:
                rule += f"; to choose its file, write - override /{key}: {value:.40} under defaults"
        rules.setdefault(key, [])
        if rule not in rules[key]:
            rules[key].append(rule)
    return [sentence(key, " or ".join(found), values, where) for key, found in rules.items()]


def sentence(key: str, rule: str, values: Any, where: Mapping[str, str]) -> str:
    """Return one line: file and line, key, value and rule."""
    _, value, is_there = locate(tuple(key.split(".")), values)
    without_value = rule.startswith(("is not a setting", "has no value"))
    shown = key if without_value or not is_there else f"{key}={in_words(value):.80}"
    return f"{origin(key, where)}{shown} {rule}"


def rule_of(error: Mapping[str, Any], value: Any) -> str:
    if error["type"] == "string_pattern_mismatch" and error["loc"][-1] == "_target_":
        return "is not the path of a class, such as torch.optim.Adam"
    rule = RULES.get(error["type"])
    text = rule.format(**error.get("ctx", {})) if rule else error["msg"]
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']+)'", text)
        near = difflib.get_close_matches(str(value).lower(), choices, 1)
        text += f"; did you mean {near[0]}?" if near else ""
        if isinstance(value, bool):
            text += "; YAML reads yes, no, on and off as true or false: put them in quotes"
    if error["type"] == "string_type" and isinstance(value, bool | int | float):
        text += ": put it in quotes"
    return text


def locate(loc: tuple[Any, ...], values: Any) -> tuple[str, Any, bool]:
    """Return the part of a location that exists in the settings, its value, and whether it is all.

    pydantic adds the names of types to a location.
    """
    parts: list[str] = []
    for part in loc:
        if isinstance(values, Mapping) and part in values:
            values = values[part]
        elif isinstance(values, list) and str(part).isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            is_type = not isinstance(values, Mapping)
            return dotted(parts), values, is_type
        parts.append(str(part))
    return dotted(parts), values, True


def dotted(parts: Iterable[Any]) -> str:
    return ".".join(map(str, parts))


def origin(key: str, where: Mapping[str, str]) -> str:
    """Return "file:line: " of a key, or of the group that it is in."""
    while key:
        if key in where:
            return f"{where[key]}: "
        key = key.rpartition(".")[0]
    return ""


def suggestion(key: str, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the nearest of the known names, or nothing."""
    group, _, name = key.rpartition(".")
    known = [other for other in known if other != key]
    by_name: dict[str, list[str]] = {}  # last part of a known name, in lower case -> known names
    for other in known:
        by_name.setdefault(plain(other.rpartition(".")[2]), []).append(other)
    siblings = [
        n for n, others in by_name.items() if any(o.rpartition(".")[0] == group for o in others)
    ]
    # a similar name in the same group, then the same or a similar name in another one
    near = [
        *difflib.get_close_matches(plain(name), siblings, 1),
        *difflib.get_close_matches(plain(name), by_name, 1),
    ]
    if not near:
        return ""
    found = by_name[near[0]]
    return f"; did you mean {next((o for o in found if o.rpartition('.')[0] == group), found[0])}?"


def plain(name: str) -> str:
    return name.lower().replace("-", "_")


def in_words(value: Any) -> str:
    """Return a value as in YAML: null, true, false."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)
