"""Seconds from the start of run.py until its first training step is logged; cost of the plots.

python benchmarks/startup.py [rounds]

The first table compares a dry run, which reads and checks all settings, with Python alone. The
others measure the program of lesson 9: one process and two on this machine, which has to have two
CPUs for that, and a run of three epochs with and without the plots for TensorBoard. It trains on
the small sample, which it makes. Run it on a machine that does nothing else.
"""

import os
import statistics
import subprocess
import sys
import time

from lesson import ROOT, exported
from machine import machine

MLP = ["--dataset=mnist", "--arch=fully_connected"]


def run(lesson, *arguments):
    """Train, and return the seconds until the first epoch is logged and until the end."""
    words = [sys.executable, "run.py", "--local", "--data_dir=data"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    start, first_epoch = time.perf_counter(), None
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*words, *arguments], env=env, cwd=lesson, **pipes) as process:
        for line in process.stdout:
            if first_epoch is None and "epoch  1/" in line:
                first_epoch = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(arguments)}: exit code {process.returncode}, see above")
    return first_epoch, time.perf_counter() - start


def dry_run(folder, *words):
    """Return the seconds of Python with these words."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def compare(title, names, rounds):
    """Print the medians of the rounds and their ratio to the first one."""
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"{title:32}  seconds  ratio")
    for name, value in zip(names, medians, strict=True):
        print(f"{name:32}  {value:7.2f}  {value / medians[0]:5.2f}")


def main():
    rounds = range(int(sys.argv[1]) if len(sys.argv) == 2 else 5)
    with exported(9) as lesson:
        words = ["run.py", "--dry-run"]
        calls = [(ROOT, "-c", "pass"), (lesson, *words), (ROOT, *words)]
        dry_runs = [[dry_run(*call) for call in calls] for _ in [None, *rounds]][1:]
        compare("dry run", ["python alone", "lesson 9", "lesson 10"], dry_runs)
        make_sample = [sys.executable, "data/make_sample.py"]
        subprocess.run(make_sample, cwd=lesson, check=True, capture_output=True)
        one_step = ["--max_epochs=1", "--limit_train_batches=1", "--limit_val_batches=1", *MLP]
        run(lesson, *one_step)  # fills the file cache
        starts = [[run(lesson, *one_step, f"--devices={k}")[0] for k in (1, 2)] for _ in rounds]
        compare("start until the first step", ["1 process", "2 processes"], starts)
        for name, words in (("MLP on MNIST", MLP), ("ResNet-18 on CIFAR-10", [])):
            words = ["--max_epochs=3", *words]
            ends = [(run(lesson, *words, "--no-plots")[1], run(lesson, *words)[1]) for _ in rounds]
            compare(f"3 epochs, {name}", ["without plots", "with plots"], ends)
    print(f"1 thread per process, median of {len(rounds)} rounds; {machine()}")


if __name__ == "__main__":
    main()
