"""Train an image classifier: python run.py [arguments]"""

import logging
import sys

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities import rank_zero_only

from src.callbacks.batch_check import BatchCheck
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.callbacks.predictions import SavePredictions
from src.callbacks.progress import ProgressBar
from src.callbacks.summary import NetworkSummary
from src.callbacks.tensorboard import TensorBoardPlots
from src.models.lightning_classifier import Classifier
from src.utils.library_messages import hide_library_messages
from src.utils.registry import find
from src.utils.workers import prepare_workers

log = logging.getLogger(__name__)


def log_to_stdout():
    """Log to standard output, which Slurm writes to slurm_out_logs; only rank 0 logs."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("src").setLevel("INFO" if rank_zero_only.rank == 0 else "ERROR")


def make_data(hparams):
    return find("datasets", hparams.dataset)(
        hparams.data_dir,
        batch_size=hparams.batch_size,
        num_workers=hparams.num_workers,
        seed=hparams.seed,
    )


def make_model(hparams, data):
    model = Classifier(
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
    return model


def make_trainer(hparams, class_names):
    return L.Trainer(
        devices=1,
        max_epochs=hparams.max_epochs,
        logger=TensorBoardLogger(
            hparams.log_path,
            name=hparams.experiment_name,
            version=hparams.run_number,
            default_hp_metric=False,
        ),
        profiler=SimpleProfiler(filename="profile"),
        # at SIGUSR1, Lightning would save its state in the folder of all runs, and requeue the job
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [],
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
    )


def main(hparams):
    log_to_stdout()
    hide_library_messages()
    prepare_workers()
    L.seed_everything(hparams.seed)
    data = make_data(hparams)
    model = make_model(hparams, data)
    trainer = make_trainer(hparams, data.classes)
    log.info(f"device: {trainer.strategy.root_device}, logs: {trainer.log_dir}")
    trainer.fit(model, datamodule=data)
    [metrics] = trainer.test(
        datamodule=data,
        ckpt_path="best",
        weights_only=True,
        verbose=False,
    )
    log.info(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    log.info(f"logs: {write_done(trainer, metrics)}")
