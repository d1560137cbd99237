"""The subclass that docs/what-now.md shows, in a clone: make test."""

import re
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clone import ROOT

PAGE = (ROOT / "docs/what-now.md").read_text()
[(NAME, CODE)] = re.findall(r"^`(src/\S+\.py)`:\n\n```python\n(.*?)^```", PAGE, re.M | re.S)
START = "            CleanStart(),\n"
EDITS = {
    "from src.models.lightning_classifier import Classifier\n": (
        "from lightning.pytorch.callbacks import LearningRateMonitor\n"
        "from src.models.cosine_classifier import CosineClassifier\n"
    ),
    "    model = Classifier(\n": "    model = CosineClassifier(\n",
    START: f"{START}            LearningRateMonitor(),\n",
}

pytestmark = pytest.mark.slow


def test_the_subclass_lowers_the_learning_rate_along_a_cosine(module_clone):
    module_clone.git("switch", "--quiet", "8-distributed-training")
    (module_clone.folder / NAME).write_text(CODE)
    main = module_clone.folder / "src/main.py"
    text = main.read_text()
    for old, new in EDITS.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    main.write_text(text)

    done = module_clone.run(
        *(sys.executable, "run.py", "--local", "--experiment_name=cosine", "--no-plots"),
        *("--arch=fully_connected", "--dataset=mnist", "--max_epochs=2", "--devices=2"),
    )

    assert done.returncode == 0, done.stderr
    folder = module_clone.folder / "logs/cosine/version_0"
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    rates = [event.value for event in events.Scalars("lr-Adam")]
    assert rates == pytest.approx([0.001, 0.0005])
    assert (folder / "code" / NAME).read_text() == CODE
