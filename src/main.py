"""Train a classifier of images: python run.py [arguments]"""

import logging
import sys

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.utilities import model_summary, rank_zero_only
from tqdm.contrib.logging import logging_redirect_tqdm

from src.models.lightning_classifier import Classifier
from src.models.resnet import load_weights
from src.utils.arguments import shortened
from src.utils.done import write_done
from src.utils.find import find
from src.utils.processes import disconnect, environment, hardware, per_process, strategy
from src.utils.tensorboard import TensorBoardPlots

log = logging.getLogger(__name__)


def main(hparams):
    # standard output ends in slurm_out_logs; of several processes, only the first one reports
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("src").setLevel("INFO" if rank_zero_only.rank == 0 else "WARNING")
    accelerator, precision = hardware(hparams)
    L.seed_everything(hparams.seed)
    data = find("datasets", hparams.dataset, "DataModule")(
        hparams.data_dir,
        batch_size=per_process(hparams),
        num_workers=hparams.num_workers // hparams.devices,
        seed=hparams.seed,
        pin_memory=accelerator == "gpu",
    )
    hparams.dims, hparams.num_classes = tuple(data.dims), len(data.classes)
    model = Classifier(hparams)
    if hparams.weights == "DEFAULT":
        load_weights(model.network, hparams.arch)
    log.info(f"layers\n{model_summary.summarize(model, max_depth=-1)}")
    limits = shortened(hparams)
    log.warning(f"not a full training: {limits}") if limits else None
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=hparams.devices,
        num_nodes=hparams.num_nodes,
        precision=precision,
        strategy=strategy(hparams),
        max_epochs=hparams.max_epochs,
        logger=TensorBoardLogger(
            hparams.log_path,
            name=hparams.experiment_name,
            version=hparams.version,
            default_hp_metric=False,
        ),
        profiler=SimpleProfiler(filename="profile"),
        plugins=[environment()],
        callbacks=[ModelCheckpoint(monitor="val_acc", mode="max"), TensorBoardPlots(data.classes)],
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),  # a bar is of no use in a log file
        **limits,
    )
    with logging_redirect_tqdm():  # so that a line does not end up in the progress bar
        trainer.fit(model, datamodule=data)
    [metrics] = trainer.test(
        model,
        datamodule=data,
        ckpt_path=None if trainer.fast_dev_run else "best",
        weights_only=True,
        verbose=False,
    )
    log.info(f"test loss {metrics['test_loss']:.4f} acc {metrics['test_acc']:.4f}")
    log.info(f"logs: {write_done(trainer, metrics)}")
    disconnect(trainer)
