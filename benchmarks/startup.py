"""Seconds from the start of run.py to its first training step, and what the plots cost.

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
# prints the time of the first step of process 0, and leaves out the plots if asked to
DRIVER = """
import os, sys, time
import run
from src.callbacks import tensorboard
from src.models.lightning_classifier import Classifier
original = Classifier.training_step
def first_step(self, batch, batch_idx):
    if self.global_step == 0 and self.trainer.is_global_zero:
        print("first step at", time.time(), flush=True)
    return original(self, batch, batch_idx)
Classifier.training_step = first_step
if "WITHOUT_PLOTS" in os.environ:
    plots = tensorboard.TensorBoardPlots
    for name in [name for name in vars(plots) if name.startswith("on_")]:
        delattr(plots, name)
run.__file__ = __file__
run.main()
"""


def run(folder, *arguments, **variables):
    """Train, and return the seconds until the first step and until the end."""
    words = [sys.executable, f"{folder}/driver.py", "--local", f"--log_path={folder}/logs"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    env["DATA_DIR"] = f"{folder}/data"
    start = time.time()
    done = subprocess.run([*words, *arguments], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")
    [first] = [line for line in done.stdout.splitlines() if line.startswith("first step at")]
    return float(first.split()[-1]) - start, time.time() - start


def compare(title, names, rounds):
    """Print the medians of the rounds and their ratio to the first one."""
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"{title:32}  seconds  ratio")
    for name, value in zip(names, medians, strict=True):
        print(f"{name:32}  {value:7.2f}  {value / medians[0]:5.2f}")


def main():
    rounds = range(int(sys.argv[1]) if len(sys.argv) == 2 else 5)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "driver.py").write_text(DRIVER)
        make_sample = [sys.executable, ROOT / "data/make_sample.py", f"{folder}/data"]
        subprocess.run(make_sample, check=True, capture_output=True)
        one_step = ["--max_epochs=1", "--limit_train_batches=1", *MLP]
        run(folder, *one_step)  # fills the file cache
        starts = [[run(folder, *one_step, f"--devices={k}")[0] for k in (1, 2)] for _ in rounds]
        compare("start until the first step", ["1 process", "2 processes"], starts)
        for name, words in (("MLP on MNIST", MLP), ("ResNet-18 on CIFAR-10", [])):
            words = ["--max_epochs=3", *words]
            ends = [
                (run(folder, *words, WITHOUT_PLOTS="1")[1], run(folder, *words)[1]) for _ in rounds
            ]
            compare(f"3 epochs, {name}", ["without plots", "with plots"], ends)
    print(f"1 thread per process, median of {len(rounds)} rounds; {machine()}")


if __name__ == "__main__":
    main()
