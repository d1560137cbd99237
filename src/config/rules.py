"""Rules about several settings, and about the files that settings name."""

from collections.abc import Iterator
from pathlib import Path

from src.config.schema import Settings
from src.config.signatures import UnknownTargetError, signature_of
from src.config.values import IMAGENET

Rules = Iterator[tuple[str, str]]
REGRESSOR = "src.models.lightning_regressor.Regressor"
OF_CLASSES = ("torch.nn.CrossEntropyLoss", "torch.nn.MultiMarginLoss")
STAGES = ("fit", "validate", "test", "predict")
BEST = "logs/cifar10/version_0/checkpoints/best.ckpt"  # an example


def broken_rules(settings: Settings) -> Rules:
    """Yield the name of a setting, and what is wrong with it."""
    yield from about_batches(settings)
    yield from about_stages(settings)
    yield from about_files(settings)
    if settings.class_weights and not has_argument(settings.model.target, "class_weights"):
        yield "class_weights", f"cannot be used: {settings.model.target} has no classes"
    if settings.model.target == REGRESSOR and settings.loss.target in OF_CLASSES:
        yield "loss._target_", "is for classes: for a regression, use loss=mse"
    trainer = settings.trainer
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        yield "trainer.precision", "needs a GPU: on a CPU use 32-true or bf16-mixed"


def has_argument(path: str, name: str) -> bool:
    """Return whether a class has an argument, as far as its source tells."""
    try:
        signature = signature_of(path)
    except UnknownTargetError:  # src/config/components.py says so
        return True
    return signature is None or signature.accepts_any or name in signature.annotations


def about_batches(settings: Settings) -> Rules:
    data, slurm = settings.data, settings.slurm
    size, processes = data.batch_size, slurm.num_nodes * slurm.devices
    if size % processes:
        lower = size - size % processes
        possible = " or ".join(str(near) for near in (lower, lower + processes) if near)
        yield (
            "data.batch_size",
            f"is not divisible by {processes} processes (slurm.num_nodes={slurm.num_nodes} x"
            f" slurm.devices={slurm.devices}); try {possible}",
        )
    if data.num_workers % slurm.devices:
        yield "data.num_workers", f"is not divisible by slurm.devices={slurm.devices}"
    if data.folds is None and data.fold:
        yield "data.fold", "is used only with data.folds"
    most = settings.trainer.max_epochs
    if settings.schedule.warmup_epochs >= most:
        yield "schedule.warmup_epochs", f"must be less than trainer.max_epochs={most}"
    if data.folds is not None and data.fold >= data.folds:
        yield "data.fold", f"must be less than data.folds={data.folds}: the first fold is 0"


def about_stages(settings: Settings) -> Rules:
    trains = "fit" in settings.stage
    order = [stage for stage in STAGES if stage in settings.stage]
    if settings.stage != order:
        yield "stage", f"must have each stage once, in this order: {', '.join(order)}"
    if trains and "predict" in settings.stage and settings.trainer.fast_dev_run:
        yield "trainer.fast_dev_run", "saves no checkpoint that stage=predict could use"
    if settings.predict and "predict" not in settings.stage:
        yield "predict", "is used only with stage=predict"
    if "predict" in settings.stage and not settings.predict:
        yield "predict", "has no value: stage=predict needs images, such as predict=photos"
    if trains and settings.ckpt is not None:
        yield "ckpt", "is used only without fit: for initial weights, use init_from"
    if not trains and settings.ckpt is None:
        yield "ckpt", f"has no value: without fit, set it, such as ckpt={BEST}"
    if settings.init_from and not trains:
        yield "init_from", "is used only with fit: to evaluate a checkpoint, use ckpt"


def about_files(settings: Settings) -> Rules:
    target = settings.network.target
    if settings.init_from == IMAGENET and target != "src.networks.resnet.resnet":
        yield "init_from", f"needs a ResNet of src.networks.resnet, not {target}"
    for key, file in (("ckpt", settings.ckpt), ("init_from", settings.init_from)):
        if file and file != IMAGENET and not Path(file).is_file():
            yield key, "is not a file: check the path"
    if settings.data.data_dir and not Path(settings.data.data_dir).is_dir():
        yield "data.data_dir", "is not a folder: check the path"
    own = (settings.data.model_extra or {}).get("path")
    if isinstance(own, str) and not Path(own).is_dir():
        yield "data.path", "is not a folder: check the path"
    wanted = settings.predict or []
    for path in [wanted] if isinstance(wanted, str) else wanted:
        if not Path(path).exists():
            yield "predict", f"names {path}, which does not exist"
