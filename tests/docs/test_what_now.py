"""The subclass and the settings that docs/what-now.md shows, in a clone: make test."""

import re
import sys

import pytest

from clone import ROOT, epochs

PAGE = (ROOT / "docs/what-now.md").read_text()
[(NAME, CODE)] = re.findall(r"^`(src/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S)
EXPERIMENTS = PAGE.partition("## Experiments without code\n")[2].partition("\n## ")[0]
# overrides __init__ as the page says that one should not
PASSES_ON = """
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(module_clone):
    """Return a function that calls run.py in a clone with the file of the page."""

    def run(*words):
        return module_clone.run(sys.executable, "run.py", *words)

    (module_clone.folder / NAME).write_text(CODE)
    return run


def test_the_subclass_trains_on_other_images_and_is_tested(run):
    path = re.search(r"(model=src[\w.]+)\"", CODE)[1]
    small = ["data=mnist", "network=fully_connected", "trainer.max_epochs=1", "plots=false"]
    assert f"python run.py experiment_name=noisy seed=1,2 {path}\n" in PAGE

    plain, noisy = (run("--local", *small, *words) for words in ([], [path]))

    for done in (plain, noisy):
        assert done.returncode == 0, done.stderr
        assert "test loss" in done.stdout
    assert epochs(noisy.stdout)[0][0] != epochs(plain.stdout)[0][0]


def test_a_subclass_that_passes_arguments_on_is_refused(run, module_clone):
    message = re.search(r"refuses it \((.*?)\)", PAGE)[1]
    file = module_clone.folder / NAME.replace("noisy", "careless")
    file.write_text(f"{CODE}{PASSES_ON}")
    words = ["data=mnist", "model=src.models.careless_classifier.NoisyClassifier"]

    done = run("--local", *words)
    file.unlink()

    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "setting", re.findall("`([^`]*=[^`]*)`", EXPERIMENTS), ids=lambda words: words
)
def test_the_settings_in_the_table_are_accepted(run, setting):
    done = run(setting, "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "#SBATCH" in done.stdout
