"""The structure of the program: imports, sizes, and special permissions: make test-fast."""

import ast
import statistics
import sys
from itertools import chain

import pytest

from clone import ARGUMENTS_LESSON, ROOT
from lesson_diffs import lessons

LESSONS = lessons(ROOT)
LAST = {path: text for path, text in LESSONS[max(LESSONS)].items() if path.endswith(".py")}
# part of src -> what it may import from src
MAY_IMPORT = {
    "__init__.py": set(),
    "config": {"config", "utils"},
    "launch": {"config", "launch", "utils"},
    "networks": {"networks", "utils"},
    "datasets": {"datasets", "utils"},
    "models": {"models", "networks", "utils"},
    "callbacks": {"callbacks", "utils"},
    "utils": {"utils"},
    "main.py": {"config", "launch", "training", "utils"},
    "training.py": {"callbacks", "models", "stages", "utils"},
    "stages.py": {"datasets", "utils"},
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def imports(text):
    """Return all modules that a file imports; `from a import b` may mean a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its target"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path):
    return path.split("/")[1]


def length(function):
    first = min([function.lineno, *(item.lineno for item in function.decorator_list)])
    return function.end_lineno - first + 1


def functions(text):
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS)]


def calls(text, name):
    """Return the calls of the function or method of this name."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return [node for node in nodes if ast.unparse(node.func) == name]


# --- imports


@pytest.mark.parametrize("path", [path for path in LAST if path.startswith("src/")])
def test_a_file_imports_only_what_its_folder_may(path):
    found = [name.split(".") for name in imports(LAST[path])]

    from_src = {parts[1] for parts in found if parts[0] == "src"}

    assert from_src <= MAY_IMPORT[part_of(path)]


FAST = ("run.py", "src/main.py", "src/config/", "src/launch/")


@pytest.mark.parametrize("path", [path for path in LAST if path.startswith(FAST)])
def test_launching_does_not_wait_for_torch(path):
    slow = {"torch", "torchvision", "torchmetrics", "lightning", "matplotlib"}

    assert not {name.split(".")[0] for name in imports(LAST[path])} & slow


def test_every_folder_of_the_program_has_an_import_rule():
    assert {part_of(path) for path in LAST if path.startswith("src/")} == set(MAY_IMPORT)


# --- sizes

PYTHON = [
    *("run.py", "src/**/*.py", "tools/**/*.py", "data/**/*.py", "cluster/practice"),
    "lessons/**/*.py",
]


def test_no_function_is_longer_than_a_screen():
    files = list(chain.from_iterable(ROOT.glob(pattern) for pattern in PYTHON))

    too_long = [
        f"{file.relative_to(ROOT)}: {function.name} has {length(function)} lines"
        for file in files
        for function in functions(file.read_text())
        if length(function) > 40
    ]

    assert len(files) > 40
    assert too_long == []


def test_the_functions_of_the_last_lesson_have_a_typical_size():
    sizes = [length(function) for text in LAST.values() for function in functions(text)]

    assert 7 <= statistics.median(sizes) <= 12


def test_lesson_1_is_two_short_files():
    sizes = {path: len(text.splitlines()) for path, text in LESSONS[1].items()}

    # besides the line that makes src a package
    assert sizes.pop("src/__init__.py") == 1
    assert sizes.keys() == {"run.sh", "src/main.py"}
    assert sizes["run.sh"] <= 25
    assert sizes["src/main.py"] <= 130


# --- what only some files may do


@pytest.mark.parametrize("number", LESSONS)
def test_only_programs_of_several_processes_may_exit_without_cleanup(number):
    found = {path for path, text in LESSONS[number].items() if "os._exit" in text}

    several = {"src/launch/processes.py", "src/utils/errors.py"} if number >= 8 else set()
    requeued = {"src/callbacks/interruption.py"} if number >= 9 else set()
    assert found == several | requeued


@pytest.mark.parametrize("number", range(2, 8))
def test_several_visible_gpus_start_no_other_processes_before_lesson_8(number):
    programs = [text for path, text in LESSONS[number].items() if path.endswith(".py")]

    trainers = [call for text in programs for call in calls(text, "L.Trainer")]

    # a Trainer is made in no other way
    assert sum(text.count("Trainer(") for text in programs) == len(trainers) > 0
    for call in trainers:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("devices") == "1"
        assert not {"num_nodes", "strategy"} & given.keys()


@pytest.mark.parametrize("number", [number for number in LESSONS if number >= 4])
def test_no_program_assigns_to_a_setting(number):
    program = {path: text for path, text in LESSONS[number].items() if path.startswith("src/")}

    assigned = [
        f"{path}:{node.lineno}"
        for path, text in program.items()
        if path.endswith(".py") and not path.startswith("src/launch/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "hparams"
    ]

    assert assigned == []


@pytest.mark.slow
def test_the_settings_of_a_training_are_not_modified(module_clone):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    program = """
import copy, sys
from src import main as lesson
import run

train = lesson.main
def compared(hparams):
    before = copy.deepcopy(vars(hparams))
    train(hparams)
    print("settings:", len(before), before == vars(hparams), sorted(before["debugging"]))
lesson.main = compared
sys.argv = ["run.py", "--local", "--arch=fully_connected", "--fast_dev_run=1"]
run.main()
"""

    done = module_clone.run(sys.executable, "-c", program)

    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("settings: ")]
    _, count, *rest = line.split()
    assert int(count) > 15
    assert rest == ["True", "['fast_dev_run']"]
