"""Train an image classifier: python run.py [arguments]"""

import logging
import sys

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.batch_check import BatchCheck
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.callbacks.predictions import SavePredictions
from src.callbacks.progress import ProgressBar
from src.callbacks.summary import NetworkSummary
from src.callbacks.tensorboard import TensorBoardPlots
from src.models.lightning_classifier import Classifier
from src.networks.resnet import load_weights
from src.utils.distributed import (
    close_process_group,
    environment,
    hardware,
    log_layout,
    strategy,
)
from src.utils.library_messages import hide_library_messages
from src.utils.registry import find
from src.utils.workers import prepare_workers

log = logging.getLogger(__name__)


def log_to_stdout():
    """Log to standard output, which Slurm writes to slurm_out_logs; only rank 0 logs."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("src").setLevel("INFO" if rank_zero_only.rank == 0 else "ERROR")


def make_data(hparams, accelerator):
    return find("datasets", hparams.dataset)(
        hparams.data_dir,
        batch_size=hparams.batch_size // (hparams.num_nodes * hparams.devices),
        num_workers=hparams.num_workers // hparams.devices,
        seed=hparams.seed,
        pin_memory=accelerator == "gpu",
    )


def make_model(hparams, data):
    model = Classifier(
        arch=hparams.arch,
        network_args=hparams.network_args,
        dims=list(data.dims),
        classes=list(data.classes),
        mean=list(data.mean),
        std=list(data.std),
        learning_rate=hparams.learning_rate,
        optimizer=hparams.optimizer,
        criterion=hparams.criterion,
    )
    # all settings of the run, for hparams.yaml and the checkpoint
    model.save_hyperparameters(vars(hparams))
    if hparams.weights == "DEFAULT":
        load_weights(model.network, hparams.arch)
    return model


def make_trainer(hparams, class_names, accelerator, precision):
    return L.Trainer(
        accelerator=accelerator,
        devices=hparams.devices,
        num_nodes=hparams.num_nodes,
        precision=precision,
        strategy=strategy(hparams),
        sync_batchnorm=hparams.sync_batchnorm,
        max_epochs=hparams.max_epochs,
        logger=TensorBoardLogger(
            hparams.log_path,
            name=hparams.experiment_name,
            version=hparams.run_number,
            default_hp_metric=False,
        ),
        profiler=SimpleProfiler(filename="profile"),
        plugins=[environment()],
        callbacks=[
            ModelCheckpoint(monitor="val_acc", mode="max"),
            CleanStart(),
            StopIfDiverged(),
            EndAtCtrlC(),
            BatchCheck(),
            *([ProgressBar()] if sys.stdout.isatty() else []),  # a bar is of no use in a log
            NetworkSummary(),
            SavePredictions(class_names),
            *([TensorBoardPlots(class_names)] if hparams.plots else []),
        ],
        enable_model_summary=False,
        enable_progress_bar=False,  # Lightning's own takes several lines
        **hparams.debugging,
    )


def main(hparams):
    log_to_stdout()
    hide_library_messages()
    prepare_workers()
    accelerator, precision = hardware(hparams)
    L.seed_everything(hparams.seed)
    data = make_data(hparams, accelerator)
    model = make_model(hparams, data)
    trainer = make_trainer(hparams, data.classes, accelerator, precision)
    log_layout(hparams, accelerator, precision, trainer.accumulate_grad_batches)
    if hparams.debugging:
        switches = " ".join(f"--{name}={value}" for name, value in hparams.debugging.items())
        log.warning(f"not a full training: {switches}")
    log.info(f"logs: {trainer.log_dir or 'none'}")
    trainer.fit(model, datamodule=data)
    [metrics] = trainer.test(
        model,
        datamodule=data,
        ckpt_path=None if trainer.fast_dev_run else "best",
        weights_only=True,
        verbose=False,
    )
    log.info(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    log.info(f"logs: {write_done(trainer, metrics) or 'none'}")
    close_process_group(trainer)
