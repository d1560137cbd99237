"""Check the classes that settings name, and their arguments: see src/config/signatures.py."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from src.config.problems import dotted, locate, sentence, sentences, suggestion
from src.config.schema import Settings, known_names
from src.config.signatures import Signature, UnknownTargetError, signature_of
from src.utils.targets import (
    CHANNELS,
    LENGTHS,
    OUTPUTS,
    PARTS,
    TARGET,
    is_part,
    may_be_function,
    trusted,
)

# part of the settings -> arguments that the program gives to its class
GIVEN = {
    "data": {"data_dir", "batch_size", "num_workers", "seed", "pin_memory"},
    "network": {"dims", *CHANNELS, *OUTPUTS},
    "model": {
        *("network", "dims", "classes", "mean", "std", "loss", "optimizer", "schedule"),
        *("targets", "metrics", "class_weights", "decay_all"),
    },
    "loss": {"weight"},
    "optimizer": {"params"},
    "schedule": {"optimizer", "max_lr", *LENGTHS},
    "metrics": {"task", "num_classes", "num_outputs"},
    "logger": {"save_dir", "name", "version"},
}
# settings beside _target_ that are not arguments of the class
NOT_ARGUMENTS = {
    "data": {"batch_size", "num_workers"},
    "schedule": {"warmup_epochs", "interval", "monitor"},
}
# annotation -> types of values in YAML
TYPES = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "None": (type(None),),
}
# arguments with a meaning that all classes share -> least and greatest value
LIMITS = {
    "lr": (0, 1e3),
    "max_lr": (0, 1e3),
    "eta_min": (0, 1e3),
    "weight_decay": (0, 1e3),
    "momentum": (0, 1),
    "label_smoothing": (0, 1),
    "patience": (0, 10**9),
}
POSITIVE = {"lr", "max_lr"}
NOUNS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


def validate(values: Mapping[str, Any], where: Mapping[str, str],
             broken: Iterable[str] = ()) -> tuple[Settings | None, list[str]]:  # fmt: skip
    """Return the checked settings, or None, and all that is wrong with names, values and classes.

    Args: as of check_targets.
    """
    refused = set(broken)
    try:
        settings, problems = Settings.model_validate(values), []
    except ValidationError as error:
        errors = [e for e in error.errors(include_url=False) if dotted(e["loc"]) not in refused]
        settings, problems = None, sentences(errors, values, known_names(), where)
        refused |= {locate(e["loc"], values)[0] for e in errors}
    return settings, [*problems, *check_targets(values, where, refused)]


def check_targets(values: Mapping[str, Any], where: Mapping[str, str],
                  broken: set[str]) -> list[str]:  # fmt: skip
    """Return what is wrong with the classes in the settings, and with their arguments.

    Args:
        values: all settings, as in config.yaml.
        where: name of a setting -> file and line that set it.
        broken: names of settings of which something else is said.
    """
    own = values.get("trusted")
    added = {name for name in own if isinstance(name, str)} if isinstance(own, list) else set()
    return [
        sentence(at, rule, values, where)
        for key, component in components(values, "")
        for at, rule in check_one(key, component, trusted | added)
        if at not in broken
    ]


def components(node: Any, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the dotted name and the settings of everything that has a _target_."""
    if isinstance(node, Mapping):
        if TARGET in node and (node[TARGET] is not None or "." in prefix):
            yield prefix, node
        for name, value in node.items():
            yield from components(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from components(value, f"{prefix}.{number}")


def check_one(key: str, component: Mapping[str, Any],
              packages: set[str]) -> Iterator[tuple[str, str]]:  # fmt: skip
    """Yield the name of a setting, and what is wrong with it."""
    path, at = component[TARGET], f"{key}.{TARGET}"
    if not isinstance(path, str) or "." not in path:
        yield at, "is not the path of a class, such as torch.optim.Adam"
        return
    package = path.partition(".")[0]
    if package not in packages:
        known = ", ".join(sorted(packages))
        remedy = f"if you trust {package}, add it to trusted in configs/config.yaml"
        yield at, f"is not in a trusted package ({known}): {remedy}"
        return
    if not is_part(path):
        yield at, f"is not in {', '.join(part.strip('.') for part in PARTS)}"
        return
    try:
        signature = signature_of(path)
    except UnknownTargetError as error:
        yield at, f"does not exist: {error}"
        return
    if signature is None:
        return
    if not signature.is_class and not may_be_function(path):
        yield at, "is a function: only a class may be named here"
        return
    yield from check_arguments(key, component, signature)


def check_arguments(key: str, component: Mapping[str, Any],
                    signature: Signature) -> Iterator[tuple[str, str]]:  # fmt: skip
    path, section = component[TARGET], key.partition(".")[0]
    # not a component within another one
    is_part = key == section or section in ("metrics", "logger")
    given = GIVEN.get(section, set()) if is_part else set()
    ignored = NOT_ARGUMENTS.get(section, set()) if is_part else set()
    own = {name: value for name, value in component.items() if name not in {TARGET, *ignored}}
    if is_part and own.get("data_dir", "") is None:  # a class may not need it
        del own["data_dir"]
    for name, value in own.items():
        if name in given and value is None:  # the program gives it
            continue
        if name in signature.annotations:
            wrong = wrong_type(signature.annotations[name], value) or out_of_range(name, value)
            if wrong:
                yield f"{key}.{name}", wrong
            continue
        known = sorted(set(signature.annotations) - given | ignored)
        near = suggestion(f"{key}.{name}", [f"{key}.{other}" for other in known])
        if not signature.accepts_any:
            yield f"{key}.{name}", f"is not an argument of {path}{near or listing(known)}"
        else:  # nobody knows what **kwargs accepts, but two names are not nearly the same
            others = [*known, *list(own)[: list(own).index(name)]]
            if difflib.get_close_matches(name, others, 1, cutoff=0.85):
                near = suggestion(f"{key}.{name}", [f"{key}.{other}" for other in others])
                yield f"{key}.{name}", f"is not an argument of {path}{near}"
    for name in sorted(signature.required - set(own) - given):
        yield f"{key}.{name}", f"has no value, and {path} needs one: set {key}.{name}=..."


def listing(names: list[str]) -> str:
    return f", which has {', '.join(names)}" if names else ", which has none"


def out_of_range(name: str, value: Any) -> str | None:
    """Return the rule that a number breaks."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "is not a number" if name in LIMITS and isinstance(value, str | bool) else None
    if not math.isfinite(value):
        return "is not a finite number"
    low, high = LIMITS.get(name, (-math.inf, math.inf))
    if name in POSITIVE and value <= 0:
        return "must be greater than 0"
    if value < low:
        return f"must be at least {low}"
    return f"must be at most {high}" if value > high else None


def wrong_type(annotation: ast.expr | None, value: Any) -> str | None:
    """Return what a value should be, if its type is not that of the annotation."""
    names = [name for name in alternatives(annotation) if name != "Tensor"]  # YAML has none
    if not names:
        return None
    if names[0].startswith("'"):  # the words of a Literal
        return None if repr(value) in names else f"must be one of {', '.join(names)}"
    if any(name not in TYPES for name in names):
        return None
    if isinstance(value, bool) and "bool" not in names:
        fits = False
    else:
        fits = any(isinstance(value, TYPES[name]) for name in names)
    return None if fits else "is not " + " or ".join(NOUNS[n] for n in names if n in NOUNS)


def alternatives(annotation: ast.expr | None) -> Iterator[str]:
    """Yield the names in an annotation such as int | None, or Optional[int]."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from alternatives(left)
            yield from alternatives(right)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            yield from alternatives(inner)
            yield "None"
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            for part in parts:
                yield from alternatives(part)
        case ast.Constant(value=None):
            yield "None"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=words):
            yield from (repr(value) for value in ast.literal_eval(words))
        case ast.Name(id=name):
            yield name
        case None:
            return
        case _:
            yield "?"
