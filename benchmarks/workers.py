"""Measure lesson 3: seconds per training epoch by numbers of workers and threads.

    python benchmarks/workers.py [--data_dir data] [--num_epochs 3]

Each row comes from a separate process that trains lesson 3's network on lesson 3's loaders, without
validation. The first epoch is warm-up; the table shows the median of the others and the speed
relative to the row without workers. It needs the full MNIST, and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from lesson import exported
from machine import machine

# last: in the process that trains, lesson 3 comes before the finished program
sys.path.append(str(Path(__file__).resolve().parents[1]))
from data.check import check_data, remedy

ROOT = Path(__file__).resolve().parents[1]
NUM_WORKERS = (0, 1, 2, 4)
NUM_THREADS = (1, 2)  # OMP_NUM_THREADS of the training process; workers always use one


def train(num_workers: int, num_epochs: int) -> None:
    """Train in this process and print the seconds of each epoch as JSON."""
    import lightning as L

    from src import main as lesson

    class Clock(L.Callback):
        seconds: list[float] = []  # noqa: RUF012

        def on_train_epoch_start(self, *_: object) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, *_: object) -> None:
            self.seconds.append(time.perf_counter() - self.start)

    lesson.HPARAMS.num_workers = num_workers
    lesson.Classifier.on_train_epoch_end = lambda self: None  # there is nothing to print
    lesson.prepare_workers()
    L.seed_everything(lesson.HPARAMS.seed)
    loader, _, _ = lesson.make_loaders(lesson.HPARAMS)
    trainer = L.Trainer(
        max_epochs=num_epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[Clock()],
    )
    trainer.fit(lesson.Classifier(lesson.HPARAMS.learning_rate), loader)
    print(json.dumps({"seconds": Clock.seconds, "num_images": len(loader.dataset)}))


def measure(
    num_workers: int, num_threads: int, args: argparse.Namespace, lesson: str
) -> dict[str, object]:
    """Train in a fresh process and return what it printed."""
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(num_threads),
        "DATA_DIR": str(args.data_dir.resolve()),
        "PYTHONPATH": lesson,
    }
    command = [sys.executable, __file__, "--num_epochs", str(args.num_epochs)]
    command += ["--only", str(num_workers)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"training with {num_workers} workers failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def check_full_set(data_dir: Path) -> None:
    """Refuse the sample: its epochs are shorter than the start of the workers."""
    folder = data_dir / "MNIST"
    if ", sample: " in check_data(folder):
        why = "an epoch takes less time than the start of the workers"
        sys.exit(f"{folder} is the small sample, on which {why}; {remedy(folder)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    data_dir = Path(os.environ.get("DATA_DIR") or ROOT / "data")
    parser.add_argument("--data_dir", type=Path, default=data_dir)
    parser.add_argument("--num_epochs", type=int, default=3, help="epochs per row, 2 or more")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.num_epochs < 2:
        parser.error(f"--num_epochs {args.num_epochs}: the first epoch is warm-up; use 2 or more")
    if args.only is not None:
        return train(args.only, args.num_epochs)
    check_full_set(args.data_dir)
    print(f"data in {args.data_dir}; {machine()}")
    print("threads  workers  seconds per epoch  images/s        speedup")
    with exported(3) as lesson:
        for num_threads in NUM_THREADS:
            base = None
            for num_workers in NUM_WORKERS:
                result = measure(num_workers, num_threads, args, lesson)
                seconds = statistics.median(result["seconds"][1:])
                base = base or seconds
                print(
                    f"{num_threads:7}  {num_workers:7}  {seconds:16.1f}"
                    f"  {result['num_images'] / seconds:8.0f}  {base / seconds:13.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
