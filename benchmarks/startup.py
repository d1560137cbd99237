"""Seconds from the start of run.py until its first training step is logged; cost of the plots.

python benchmarks/startup.py [rounds]

The first table compares one process with two on this machine, which has to have two CPUs for that.
The second one compares a run of three epochs with and without the plots for TensorBoard. It trains
on the small sample, which it makes. Run it on a machine that does nothing else.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

ROOT = Path(__file__).resolve().parents[1]
MLP = ["--dataset=mnist", "--arch=fully_connected"]
RUN_PY = [sys.executable, str(ROOT / "run.py")]


def run(folder, *arguments):
    """Train, and return the seconds until the first epoch is logged and until the end."""
    words = [*RUN_PY, "--local", f"--log_path={folder}/logs", f"--data_dir={folder}/data"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    start, first_epoch = time.perf_counter(), None
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*words, *arguments], env=env, cwd=ROOT, **pipes) as process:
        for line in process.stdout:
            if first_epoch is None and "epoch  1/" in line:
                first_epoch = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {process.returncode}, see above")
    return first_epoch, time.perf_counter() - start


def compare(title, names, rounds):
    """Print the medians of the rounds and their ratio to the first one."""
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"{title:32}  seconds  ratio")
    for name, value in zip(names, medians, strict=True):
        print(f"{name:32}  {value:7.2f}  {value / medians[0]:5.2f}")


def main():
    rounds = range(int(sys.argv[1]) if len(sys.argv) == 2 else 5)
    with tempfile.TemporaryDirectory() as folder:
        make_sample = [sys.executable, ROOT / "data/make_sample.py", f"{folder}/data"]
        subprocess.run(make_sample, check=True, capture_output=True)
        one_step = ["--max_epochs=1", "--limit_train_batches=1", "--limit_val_batches=1", *MLP]
        run(folder, *one_step)  # fills the file cache
        starts = [[run(folder, *one_step, f"--devices={k}")[0] for k in (1, 2)] for _ in rounds]
        compare("start until the first step", ["1 process", "2 processes"], starts)
        for name, words in (("MLP on MNIST", MLP), ("ResNet-18 on CIFAR-10", [])):
            words = ["--max_epochs=3", *words]
            ends = [(run(folder, *words, "--no-plots")[1], run(folder, *words)[1]) for _ in rounds]
            compare(f"3 epochs, {name}", ["without plots", "with plots"], ends)
    print(f"1 thread per process, median of {len(rounds)} rounds; {machine()}")


if __name__ == "__main__":
    main()
