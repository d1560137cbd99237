"""Train in a Slurm job, or here where there is no Slurm: python run.py [arguments]"""

import argparse
import os
from pathlib import Path

try:
    from src.utils.arguments import Parser, batches, email, name, number, path, training_arguments
    from src.utils.ending import plain_errors
    from src.utils.find import RESNETS, names
    from src.utils.slurm import Cluster, has_slurm, make_version
except ModuleNotFoundError as error:
    why = f"{error.msg}: activate the environment first, with source env/bin/activate"
    raise SystemExit(f"{why} (docs/preparation.md)") from None


def parse_args():
    parser = Parser(description="Train a classifier of images.")
    parser.add_argument(
        "--experiment_name", type=name, help="folder of its logs; else the name of the data set"
    )
    parser.add_argument("--log_path", type=path, default="logs", help="folder of all experiments")
    # without a default, so that in the job the DATA_DIR of site.sh counts
    parser.add_argument(
        "--data_dir", type=path, help="folder of the data sets; else DATA_DIR or data"
    )
    parser.add_argument(
        "--dataset", choices=names("datasets"), default="cifar10", help="file of src/datasets"
    )
    networks = [file for file in names("models") if file not in ("lightning_classifier", "resnet")]
    parser.add_argument(
        "--arch",
        choices=[*RESNETS, *networks],
        default="resnet18",
        help="network of torchvision, or file of src/models",
    )
    parser.add_argument(
        "--weights",
        choices=["none", "DEFAULT"],
        default="none",
        help="DEFAULT starts a ResNet with what it learnt on ImageNet",
    )
    parser.add_argument(
        "--batch_size",
        type=number(int, 1),
        default=64,
        help="images per optimizer step",
    )
    parser.add_argument(
        "--num_workers",
        type=number(int, 0, 256),
        default=0,
        help="processes that load data",
    )
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
    for part, stage in (("train", "training"), ("val", "validation")):
        parser.add_argument(
            f"--limit_{part}_batches",
            type=batches(1),
            default=1.0,
            help=f"number of {stage} batches an epoch, such as 10, or share of them, such as 0.1",
        )
    parser.add_argument(
        "--fast_dev_run",
        type=number(int, 0),
        default=0,
        help="run so many batches of everything and write no logs",
    )
    parser.add_argument(
        "--overfit_batches",
        type=batches(0),
        default=0,
        help="train on so many batches over and over: the loss must go towards 0",
    )
    parser.add_argument("--nb_trials", type=number(int, 1, 5), default=1, help="jobs, one a trial")
    parser.add_argument("--time_min", type=number(int, 1), default=60, help="time limit in minutes")
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
    if hparams.weights == "DEFAULT" and hparams.arch not in RESNETS:
        parser.error(f"--weights DEFAULT: there are none for --arch {hparams.arch}; leave it out")
    hparams.experiment_name = hparams.experiment_name or hparams.dataset
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
