"""Read the arguments of a class or function from its source file, without importing it.

Importing PyTorch takes seconds. Where a file does not tell (such as a class made by a decorator),
the job finds out when it builds the class.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from src.config.problems import suggestion
from src.config.values import ROOT


@dataclass
class Signature:
    """What a class or function accepts."""

    annotations: dict[str, ast.expr | None] = field(default_factory=dict)  # of each argument
    required: set[str] = field(default_factory=set)
    accepts_any: bool = False  # **kwargs that go somewhere unknown
    is_class: bool = False


UNKNOWN = "unknown"  # the source does not tell
DEEPEST = 12  # imports that are followed from file to file


class UnknownTargetError(LookupError):
    """There is no such class or function."""


@cache
def signature_of(path: str) -> Signature | None:
    """Return the arguments of a class or function, or None if its source does not tell.

    Raises:
        UnknownTargetError: if there is no such package, module or name.
    """
    module, _, name = path.rpartition(".")
    file = file_of(module)
    found = find(file, module, name)
    if not isinstance(found, Signature) and is_module(path):
        raise UnknownTargetError("it is a module: name a class in it")
    if found is None:
        raise UnknownTargetError(f"{module} has no {name}{near_name(file, name)}")
    return found if isinstance(found, Signature) else None


def is_module(path: str) -> bool:
    try:
        return file_of(path).is_file()
    except UnknownTargetError:
        return False


def file_of(module: str) -> Path:
    """Return the source file of a module, without importing it."""
    package, *parts = module.split(".")
    if package == "src":
        folder = ROOT / "src"
    else:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise UnknownTargetError(f"the package {package} is not installed")
        if not spec.submodule_search_locations and parts:
            raise UnknownTargetError(f"there is no module {module}")
        if not spec.submodule_search_locations:
            return Path(spec.origin or "")
        folder = Path(next(iter(spec.submodule_search_locations)))
        if folder.parent == ROOT:
            raise UnknownTargetError(f"a job gets a copy of src only: move {package} into src")
    for number, part in enumerate(parts, 1):
        file = folder / f"{part}.py"
        if file.is_file() and number == len(parts):
            return file
        if not (folder / part).is_dir():
            known = sorted({f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")})
            near = suggestion(part, known)
            raise UnknownTargetError(f"there is no module {module}{near}")
        folder = folder / part
    return folder / "__init__.py"


@cache
def tree_of(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        if file.is_relative_to(ROOT / "src"):
            place = f"{file.relative_to(ROOT)}:{error.lineno}"
            raise UnknownTargetError(f"{place}: {error.msg}") from None
        return ast.Module(body=[], type_ignores=[])
    except (OSError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, also those in if and try."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try):
                for inner in getattr(node, part, []):
                    yield from statements(
                        inner.body if isinstance(inner, ast.ExceptHandler) else [inner]
                    )


def find(file: Path, module: str, name: str, depth: int = 0) -> Signature | str | None:
    """Return the signature of a name in a module; UNKNOWN if it cannot be read; None if absent."""
    if depth > DEEPEST:
        return UNKNOWN
    nodes = list(statements(tree_of(file).body))
    match next((node for node in reversed(nodes) if defines(node, name)), None):
        case ast.ClassDef() as node:
            found = of_class(node, file, module, depth)
            return found if isinstance(found, str) else replace(found, is_class=True)
        case ast.FunctionDef() as node:
            return of_function(node.args, skip=0)
        case ast.ImportFrom(names=aliases) as node:
            [original, *_] = [a.name for a in aliases if (a.asname or a.name) == name]
            return imported(node, original, file, module, depth)
        case None:
            stars = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
            found_in = (imported(star, name, file, module, depth) for star in stars)
            return next((found for found in found_in if found is not None), None)
    return UNKNOWN


def defines(node: ast.stmt, name: str) -> bool:
    """Return whether a statement gives this name to something."""
    match node:
        case ast.ClassDef(name=own) | ast.FunctionDef(name=own):
            return own == name
        case ast.ImportFrom(names=aliases):
            return any((alias.asname or alias.name) == name for alias in aliases)
        case ast.Import(names=aliases):
            return any((a.asname or a.name.partition(".")[0]) == name for a in aliases)
        case ast.Assign(targets=targets):
            return any(isinstance(target, ast.Name) and target.id == name for target in targets)
        case ast.AnnAssign(target=ast.Name(id=own)):
            return own == name
    return False


def imported(
    node: ast.ImportFrom, name: str, file: Path, module: str, depth: int
) -> Signature | str | None:
    """Return the signature of a name that a module imports from another one."""
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        is_package = file.name == "__init__.py"
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, base]) if base else ".".join(parts)
    try:
        other = file_of(base)
    except (UnknownTargetError, ValueError):
        return UNKNOWN
    found = find(other, base, name, depth + 1)
    if found is None and name != "*":
        try:  # a module, not a class
            file_of(f"{base}.{name}")
            return UNKNOWN
        except UnknownTargetError:
            return None
    return found


def of_class(node: ast.ClassDef, file: Path, module: str, depth: int) -> Signature | str:
    """Return the arguments of a class, with those of its base if it passes them on."""
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return UNKNOWN
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name in ("__init__", "__new__"):
            own = of_function(part.args, skip=1)
            if not own.accepts_any:
                return own
            base = of_bases(node, file, module, depth)
            if isinstance(base, Signature):
                required = base.required if part.args.vararg or part.args.kwarg else set()
                return Signature(
                    {**base.annotations, **own.annotations},
                    own.required | (required - set(own.annotations)),
                    base.accepts_any,
                )
            return own
    return of_bases(node, file, module, depth)


def of_bases(node: ast.ClassDef, file: Path, module: str, depth: int) -> Signature | str:
    for base in node.bases:
        target = base.value if isinstance(base, ast.Subscript) else base
        found: Signature | str | None = UNKNOWN
        if isinstance(target, ast.Name):
            found = find(file, module, target.id, depth + 1)
        elif isinstance(target, ast.Attribute):
            found = of_attribute(ast.unparse(target), file, module, depth)
        if isinstance(found, Signature):
            return found
    return UNKNOWN


def of_attribute(dotted: str, file: Path, module: str, depth: int) -> Signature | str | None:
    """Return the signature of a base such as nn.Sequential or L.Callback."""
    first, _, rest = dotted.partition(".")
    for node in statements(tree_of(file).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (alias.asname or alias.name) == first:
                    return of_path(f"{alias.name}.{rest}", depth)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == first:
                    return of_path(f"{node.module}.{alias.name}.{rest}", depth)
    return UNKNOWN


def of_path(path: str, depth: int) -> Signature | str | None:
    module, _, name = path.rpartition(".")
    try:
        return find(file_of(module), module, name, depth + 1)
    except UnknownTargetError:
        return UNKNOWN


def of_function(args: ast.arguments, skip: int) -> Signature:
    """Return the arguments of a function; skip=1 leaves out self."""
    positional = [*args.posonlyargs, *args.args][skip:]
    without_default = (
        positional[: len(positional) - len(args.defaults)] if args.defaults else positional
    )
    needed = {arg.arg for arg in without_default}
    needed |= {
        arg.arg
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if default is None
    }
    names = {arg.arg: arg.annotation for arg in [*positional, *args.kwonlyargs]}
    return Signature(names, needed, accepts_any=args.kwarg is not None)


def near_name(file: Path, name: str) -> str:
    known = [
        n.name
        for n in statements(tree_of(file).body)
        if isinstance(n, ast.ClassDef | ast.FunctionDef)
    ]
    for node in statements(tree_of(file).body):
        if isinstance(node, ast.ImportFrom):
            known += [alias.asname or alias.name for alias in node.names]
    return suggestion(name, known)
