"""Train an image classifier: python run.py [arguments]"""

import logging
import sys
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.batch_check import BatchCheck
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.callbacks.exact_state import ExactState
from src.callbacks.interruption import Interruption
from src.callbacks.predictions import SavePredictions
from src.callbacks.progress import ProgressBar
from src.callbacks.summary import NetworkSummary
from src.callbacks.tensorboard import TensorBoardPlots
from src.models.lightning_classifier import Classifier
from src.networks.resnet import load_weights
from src.utils.checkpoints import AtomicCheckpointIO, newest_checkpoint
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
    """Log to standard output, which Slurm writes to job.out; only rank 0 logs."""
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


def run_folder(hparams):
    return Path(hparams.log_path, hparams.experiment_name, f"version_{hparams.run_number}")


def resume_callbacks(hparams, first_step):
    limits = hparams.checkpoint_min, hparams.max_requeues
    return [ExactState(), Interruption(run_folder(hparams), first_step, *limits)]


def make_trainer(hparams, class_names, accelerator, precision, first_step):
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
            purge_step=first_step or None,  # a killed attempt may have written later steps
        ),
        profiler=SimpleProfiler(filename="profile"),
        # a thread writes a copy of the state, so that the training does not wait for the disk
        plugins=[environment(), AsyncCheckpointIO(AtomicCheckpointIO())],
        callbacks=[
            ModelCheckpoint(
                filename="best",
                monitor="val_acc",
                mode="max",
                enable_version_counter=False,  # a requeued job replaces the file
            ),
            CleanStart(),
            *([] if "fast_dev_run" in hparams.debugging else resume_callbacks(hparams, first_step)),
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
    checkpoint, first_step = newest_checkpoint(run_folder(hparams) / "checkpoints")
    trainer = make_trainer(hparams, data.classes, accelerator, precision, first_step)
    log_layout(hparams, accelerator, precision, trainer.accumulate_grad_batches)
    if hparams.debugging:
        switches = " ".join(f"--{name}={value}" for name, value in hparams.debugging.items())
        log.warning(f"not a full training: {switches}")
    log.info(f"logs: {trainer.log_dir or 'none'}")
    if checkpoint:
        log.info(f"continues from {checkpoint}: step {first_step}")
    trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    [metrics] = trainer.test(
        model,
        datamodule=data,
        ckpt_path=None if trainer.fast_dev_run else trainer.checkpoint_callback.best_model_path,
        weights_only=True,
        verbose=False,
    )
    log.info(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    log.info(f"logs: {write_done(trainer, metrics) or 'none'}")
    close_process_group(trainer)
