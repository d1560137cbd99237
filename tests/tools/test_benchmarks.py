"""The benchmarks run, and print the table that they promise: make test."""

import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

from clone import ROOT

ROW = re.compile(r"^(\w+) +(.+?)  +([\d.]+) +(\d+) +([\d.]+)$", re.MULTILINE)
FEW_STEPS = '"fully_connected": 20, "resnet18": 5}'


@pytest.mark.slow
def test_the_benchmark_of_steps_compares_run_py_with_lightning_and_pytorch(course, tmp_path):
    course.git("clone", "--quiet", str(course.folder), str(tmp_path / "clone"))
    steps = tmp_path / "clone/benchmarks/steps.py"
    few = steps.read_text().replace('"fully_connected": 400, "resnet18": 30}', FEW_STEPS)
    steps.write_text(few)

    done = subprocess.run([sys.executable, steps, "1"], capture_output=True, text=True)

    assert FEW_STEPS in few
    assert done.returncode == 0, done.stderr
    rows = ROW.findall(done.stdout)
    assert [row[:2] for row in rows] == [
        ("fully_connected", "Trainer alone"),
        ("fully_connected", "run.py"),
        ("resnet18", "loop"),
        ("resnet18", "run.py"),
        ("resnet18", "loop, not fused, contiguous"),
    ]
    assert [row[4] for row in rows if row[1] in ("Trainer alone", "loop")] == ["1.00", "1.00"]
    assert re.search(r"torch [\d.]+, torchvision [\d.]+.*, lightning 2", done.stdout)


def test_the_benchmark_of_workers_refuses_the_sample_at_once(sample_data):
    command = [sys.executable, ROOT / "benchmarks/workers.py", f"--data_dir={sample_data}"]

    done = subprocess.run(command, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{sample_data}/MNIST is the small sample, on which an epoch ")
    assert done.stderr.endswith(
        f'run "bash data/get_mnist.sh {sample_data}" on a node with internet\n'
    )


@pytest.mark.slow
def test_the_benchmark_of_workers_trains_the_network_of_lesson_3(sample_data, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = runpy.run_path(str(ROOT / "benchmarks/workers.py"))
    arguments = SimpleNamespace(data_dir=sample_data, num_epochs=2)

    with benchmark["exported"](3) as lesson:
        found = benchmark["measure"](1, 1, arguments, lesson)

    assert len(found["seconds"]) == 2
    assert found["num_images"] == 1350  # nine tenths of the 1500 of the sample
