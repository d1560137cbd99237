"""Train in a Slurm job, or here where there is no Slurm: python run.py [arguments]"""

import argparse
import os
from pathlib import Path

try:
    from src.utils.arguments import Parser, email, name, number, path, training_arguments
    from src.utils.ending import plain_errors
    from src.utils.slurm import Cluster, has_slurm, make_version
except ModuleNotFoundError as error:
    why = f"{error.msg}: activate the environment first, with source env/bin/activate"
    raise SystemExit(f"{why} (docs/preparation.md)") from None


def parse_args():
    parser = Parser(description="Train a classifier of handwritten digits on MNIST.")
    parser.add_argument("--experiment_name", type=name, default="mnist", help="folder of its logs")
    parser.add_argument("--log_path", type=path, default="logs", help="folder of all experiments")
    # without a default, so that in the job the DATA_DIR of site.sh counts
    parser.add_argument(
        "--data_dir", type=path, help="folder of the data sets; else DATA_DIR or data"
    )
    parser.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=64,
        help="images per optimizer step",
    )
    parser.add_argument("--num_workers", type=number(int, 0, 256), default=2, help="that load data")
    parser.opt_list(
        "--learning_rate",
        type=number(float, 1e-12, 1e3),
        default=1e-3,
        options=[1e-3, 3e-3, 3e-4, 1e-2, 1e-4],
        tunable=True,
        help="step size of the optimizer; one of a list for each of several trials",
    )
    parser.add_argument(
        "--optimizer",
        choices=["Adam", "AdamW", "SGD"],
        default="Adam",
        help="class of torch.optim",
    )
    parser.add_argument(
        "--criterion",
        choices=["cross_entropy", "multi_margin_loss"],
        default="cross_entropy",
        help="loss function of torch.nn.functional",
    )
    parser.add_argument("--max_epochs", type=number(int, 1), default=10, help="times over all data")
    parser.add_argument("--seed", type=number(int, 0, 2**32 - 1), default=1234, help="of chance")
    parser.add_argument("--nb_trials", type=number(int, 1, 5), default=1, help="jobs, one a trial")
    parser.add_argument("--time_min", type=number(int, 1), default=15, help="time limit in minutes")
    parser.add_argument("--mem_gb", type=number(int, 1), default=4, help="memory of a node in GB")
    parser.add_argument("--email", type=email, help="is told when the job ends or fails")
    parser.add_argument(
        "--local",
        action=argparse.BooleanOptionalAction,
        help="train here; the default where there is no Slurm",
    )
    parser.add_argument(
        "--dry-run",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="print the script and submit nothing",
    )
    # the number of the log folder, which the generated script fills in
    parser.add_argument("--version", type=number(int, 0), help=argparse.SUPPRESS)
    hparams = parser.parse_args()
    if hparams.nb_trials > 1 and hparams.learning_rate != parser.get_default("learning_rate"):
        parser.error("--nb_trials takes the learning rates from a list: leave out --learning_rate")
    return hparams


def launch(hparams):
    """Submit a job for each trial."""
    cluster = Cluster(hyperparam_optimizer=hparams, log_path=hparams.log_path, python_cmd="python")
    cluster.dry_run = hparams.dry_run
    cluster.per_experiment_nb_nodes = 1
    cluster.per_experiment_nb_cpus = hparams.num_workers + 1  # one is for the training itself
    cluster.memory_mb_per_node = hparams.mem_gb * 1024
    cluster.job_time = f"{hparams.time_min // 60:02d}:{hparams.time_min % 60:02d}:00"
    if hparams.email:
        cluster.add_slurm_cmd("mail-type", "END,FAIL", "what is told by e-mail")
        cluster.add_slurm_cmd("mail-user", hparams.email, "and to whom")
    cluster.optimize_parallel_cluster_cpu(None, hparams.nb_trials, hparams.experiment_name)


def main():
    hparams = parse_args()
    os.chdir(Path(__file__).resolve().parent)  # paths are relative to the repository's root
    local = hparams.local if hparams.local is not None else not has_slurm()
    if hparams.dry_run or not local:
        return launch(hparams)
    if hparams.nb_trials > 1:
        raise SystemExit("--nb_trials submits several jobs: leave it out to train here")
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        raise SystemExit("this is a single process until lesson 8: call srun with --ntasks=1")
    folder = f"{hparams.log_path}/{hparams.experiment_name}"
    if hparams.version is None:
        hparams.version = make_version(folder)
    hparams.data_dir = hparams.data_dir or os.environ.get("DATA_DIR") or "data"
    Path(folder, f"version_{hparams.version}", "DONE.json").unlink(missing_ok=True)  # begun again
    with plain_errors():
        from src.main import main as train  # takes seconds to import

        train(argparse.Namespace(**training_arguments(hparams)))


if __name__ == "__main__":
    main()
