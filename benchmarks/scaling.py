"""Images per second of lesson 9 by number of processes, and the parallel efficiency.

python benchmarks/scaling.py --data_dir DATA                       1 and 2 processes here
python benchmarks/scaling.py --data_dir DATA --slurm --accelerator gpu   on a cluster: 1, 2, 4
                                                          GPUs on one node, then on two nodes
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from lesson import exported
from machine import machine

ROOT = Path(__file__).resolve().parents[1]
HERE = [(1, 1), (1, 2)]  # nodes, devices
CLUSTER = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]
# the time of the second epoch, which includes neither start-up nor first-time memory allocation
EPOCH_TIME = re.compile(r"^\[?TrainTime (\d+\.\d+)", re.MULTILINE)


def command(args, nodes, devices, folder):
    """Return the command that trains two short epochs, with the same batch size per process."""
    words = [sys.executable, str(ROOT / "benchmarks/scaling.py"), "--train", str(args.num_batches)]
    words += ["--local", f"--num_nodes={nodes}", f"--devices={devices}", "--max_epochs=2"]
    words += [f"--arch={args.arch}", f"--batch_size={args.batch_size * nodes * devices}"]
    words += [f"--accelerator={args.accelerator}", f"--limit_train_batches={args.num_batches}"]
    words += ["--limit_val_batches=1", f"--log_path={folder}", "--run_number=0"]
    words += [f"--data_dir={Path(args.data_dir).resolve()}"]
    if args.slurm:
        srun = ["srun", f"--nodes={nodes}", f"--ntasks-per-node={devices}", "--mem-per-cpu=4G"]
        words = [*srun, *([f"--gres=gpu:{devices}"] if args.accelerator == "gpu" else []), *words]
    return words


def seconds(args, nodes, devices, lesson):
    with tempfile.TemporaryDirectory(dir=lesson) as folder:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": lesson}
        words = command(args, nodes, devices, folder)
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        sys.exit(f"{nodes} nodes x {devices} devices did not train: {lines[-1]}")
    return float(EPOCH_TIME.findall(done.stdout)[-1])


def train(arguments):
    """Run run.py's program, and print how long the training batches of each epoch took."""
    import time

    from src.launch.arguments import parse_args
    from src.models.lightning_classifier import Classifier

    times = []

    def batch_end(self, outputs, batch, batch_idx):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    def epoch_end(self):  # after the validation, which is not measured
        if self.trainer.is_global_zero:
            # the first batches of an epoch are warm-up
            skipped = len(times) // 5
            per_batch = (times[-1] - times[skipped]) / (len(times) - 1 - skipped)
            print(f"TrainTime {per_batch:.6f}", flush=True)
        times.clear()

    Classifier.on_train_batch_end = batch_end
    Classifier.on_train_epoch_end = epoch_end
    number = arguments[0]
    sys.argv = ["run.py", *arguments[1:]]
    parser, hparams = parse_args()
    # Lightning starts the other processes with this command
    sys.argv = [__file__, "--train", number, *arguments[1:]]
    from src.main import main as train_network
    from src.main import run_folder

    run_folder(hparams).mkdir(parents=True, exist_ok=True)  # run.py makes it
    train_network(argparse.Namespace(**parser.settings(hparams)))


def main():
    if sys.argv[1:2] == ["--train"]:
        return train(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data_dir", default=os.environ.get("DATA_DIR", "data"))
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument(
        "--batch_size", type=int, default=64, help="images per process and optimizer step"
    )
    parser.add_argument(
        "--num_batches", type=int, default=40, help="steps in each of the two epochs"
    )
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--slurm", action="store_true", help="use srun, on up to two nodes")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds; the best one counts"
    )
    args = parser.parse_args()
    shapes = CLUSTER if args.slurm else HERE
    best = dict.fromkeys(shapes, float("inf"))
    # the other nodes, too, have to see the program
    with exported(9, at=ROOT if args.slurm else None) as lesson:
        for _ in range(args.rounds):  # in turn, so that a slow minute of the machine affects all
            for shape in shapes:
                best[shape] = min(best[shape], seconds(args, *shape, lesson))
    print(f"{args.arch}, {args.accelerator}, {args.batch_size} images per process and step")
    print("nodes  devices  images/s  efficiency")
    one = args.batch_size / best[shapes[0]]
    for (nodes, devices), time in best.items():
        rate = args.batch_size * nodes * devices / time
        print(f"{nodes:5}  {devices:7}  {rate:8.0f}  {rate / one / nodes / devices:10.2f}")
    print(f"best of {args.rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
