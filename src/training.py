"""Train and evaluate an image model: see src/main.py, which reads the settings."""

import logging
import os
import sys

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
from src.models.warm_start import load_initial_weights
from src.stages import check_fit, evaluate, load_model, predict
from src.utils.checkpoints import AtomicCheckpointIO, newest_checkpoint
from src.utils.distributed import (
    close_process_group,
    environment,
    hardware,
    log_layout,
    strategy,
)
from src.utils.errors import UserError
from src.utils.library_messages import hide_library_messages
from src.utils.splits import balanced_weights
from src.utils.targets import find_target, instantiate, parameters
from src.utils.workers import prepare_workers

log = logging.getLogger(__name__)
# switches of Lightning's Trainer for debugging
DEBUGGING = ("limit_train_batches", "limit_val_batches", "fast_dev_run", "overfit_batches")


def log_to_stdout():
    """Log to standard output, which Slurm writes to job.out; only rank 0 logs."""
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("src").setLevel("INFO" if rank_zero_only.rank == 0 else "ERROR")


def make_data(settings, values, accelerator):
    processes = settings.slurm.num_nodes * settings.slurm.devices
    shares = {
        "batch_size": settings.data.batch_size // processes,
        "num_workers": settings.data.num_workers // settings.slurm.devices,
    }
    data_dir = settings.data.data_dir
    if not data_dir and "path" not in values["data"]:  # not a folder of your own
        data_dir = os.environ.get("DATA_DIR") or "data"
    offered = {
        **shares,
        "data_dir": data_dir,
        "seed": settings.seed,
        "pin_memory": accelerator == "gpu",
    }
    known = {*shares, "data_dir"}
    own = {name: value for name, value in values["data"].items() if name not in known}
    return instantiate(own, **offered)


def make_model(settings, values, data):
    task = find_target(settings.model.target)
    parts = ("network", "loss", "optimizer", "schedule", "metrics", "decay_all")
    offered = {
        **{name: values[name] for name in parts},
        "class_weights": class_weights(settings, data),
        "dims": list(data.dims),
        "classes": list(data.classes or ()),
        "mean": list(data.mean),
        "std": list(data.std),
    }
    model = instantiate(values["model"], **offered)
    # all settings of the run, for hparams.yaml and the checkpoint
    known = parameters(task)
    others = {name: value for name, value in values.items() if name not in known}
    model.save_hyperparameters({**others, "preprocessing": data.preprocessing})
    return model


def class_weights(settings, data):
    """Return the weight of each class in the loss; balanced: inversely to its number of images."""
    if settings.class_weights != "balanced":
        return settings.class_weights
    return balanced_weights(data.class_counts(), data.classes)


def make_callbacks(settings, values, folder, model, class_names, first_step):
    own = [instantiate(callback) for callback in values["callbacks"].values()]
    for part in own:
        if not isinstance(part, L.Callback):
            raise UserError(f"callbacks: {type(part).__name__} is not a Callback of Lightning")
    shown = [
        *([ProgressBar()] if sys.stdout.isatty() else []),  # a bar is of no use in a log
        NetworkSummary(),
        SavePredictions(class_names),
        *([TensorBoardPlots(class_names)] if settings.plots else []),
    ]
    if "fit" not in settings.stage:
        return [*shown, *own]
    best = ModelCheckpoint(
        filename="best",
        monitor=model.monitor,
        mode=model.mode,
        enable_version_counter=False,  # a requeued job replaces the file
    )
    limits = settings.trainer.checkpoint_min, settings.slurm.max_requeues
    resuming = [ExactState(), Interruption(folder, first_step, *limits)]
    return [
        best,
        CleanStart(),
        *([] if settings.trainer.fast_dev_run else resuming),
        StopIfDiverged(),
        EndAtCtrlC(),
        BatchCheck(),
        *shown,
        *own,
    ]


def make_loggers(values, folder, first_step):
    """Return TensorBoard's logger, whose folder is that of the run, and those in the settings."""
    place = {"save_dir": folder.parent.parent, "name": folder.parent.name, "version": folder.name}
    tensorboard = TensorBoardLogger(
        **place,
        default_hp_metric=False,
        purge_step=first_step or None,  # a killed attempt may have written later steps
    )
    return [tensorboard, *(instantiate(own, **place) for own in values["logger"].values())]


def debugging_switches(trainer):
    """Return the given switches of Lightning's Trainer for debugging, and warn of them."""
    given = {name: value for name in DEBUGGING if (value := getattr(trainer, name)) is not None}
    if given:
        switches = " ".join(f"trainer.{name}={value}" for name, value in given.items())
        log.warning(f"not a full training: {switches}")
    return given


def make_trainer(settings, values, folder, model, data, on, first_step):
    trainer, (accelerator, precision) = settings.trainer, on
    return L.Trainer(
        accelerator=accelerator,
        devices=settings.slurm.devices,
        num_nodes=settings.slurm.num_nodes,
        precision=precision,
        strategy=strategy(settings),
        sync_batchnorm=trainer.sync_batchnorm,
        max_epochs=trainer.max_epochs,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm,
        deterministic=trainer.deterministic,
        logger=make_loggers(values, folder, first_step),
        profiler=SimpleProfiler(filename="profile"),
        # a thread writes a copy of the state, so that the training does not wait for the disk
        plugins=[environment(), AsyncCheckpointIO(AtomicCheckpointIO())],
        callbacks=make_callbacks(settings, values, folder, model, data.classes, first_step),
        enable_checkpointing="fit" in settings.stage,
        enable_model_summary=False,
        enable_progress_bar=False,  # Lightning's own takes several lines
        **debugging_switches(trainer),
    )


def begin(settings, values, folder, data):
    """Return the model, and where its training begins: a checkpoint (or None) and its step."""
    if "fit" in settings.stage:
        model = make_model(settings, values, data)
        checkpoint, step = newest_checkpoint(folder / "checkpoints")
        if settings.init_from and not checkpoint:
            load_initial_weights(model, settings.init_from)
        return model, checkpoint, step
    model, _ = load_model(find_target(settings.model.target), settings.ckpt)
    if settings.stage != ["predict"]:
        check_fit(model, data, settings.ckpt)
    return model, None, 0


def best_of(trainer):
    """Return the best checkpoint of this run, or None if the weights are already loaded."""
    best = trainer.checkpoint_callback
    return best.best_model_path if best and not trainer.fast_dev_run else None


def run_stages(settings, folder):
    """Carry out the stages of a run: fit, validate, test, predict."""
    log_to_stdout()
    hide_library_messages()
    prepare_workers()
    accelerator, precision = hardware(settings.trainer, settings.slurm.devices)
    L.seed_everything(settings.seed)
    values = settings.as_dict()
    data = make_data(settings, values, accelerator)
    model, checkpoint, first_step = begin(settings, values, folder, data)
    on = accelerator, precision
    trainer = make_trainer(settings, values, folder, model, data, on, first_step)
    log_layout(settings, *on)
    log.info(f"logs: {trainer.log_dir or 'none'}")
    if checkpoint:
        log.info(f"continues from {checkpoint}: step {first_step}")
    metrics = {}
    for stage in settings.stage:
        if stage == "fit":
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        elif stage == "predict":
            close_process_group(trainer)  # only one process predicts, however long that takes
            ckpt = settings.ckpt or trainer.checkpoint_callback.best_model_path
            predict(trainer, type(model), settings, ckpt, folder)
        else:
            metrics |= evaluate(stage, trainer, model, data, best_of(trainer))
    log.info(f"logs: {write_done(trainer, metrics) or 'none'}")
    close_process_group(trainer)
