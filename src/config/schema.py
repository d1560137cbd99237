"""The settings of a run, with their types, limits and units; the defaults are in configs/."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from src.config.values import MANY, batches, minutes, path, word

Positive = Annotated[int, Field(ge=1, le=MANY)]
Count = Annotated[int, Field(ge=0, le=MANY)]
Minutes = Annotated[float, Field(ge=0.001, le=10080)]
PlainPath = Annotated[str, AfterValidator(path)]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
# a name of a folder, also in #SBATCH lines
ExperimentName = Annotated[
    str,
    AfterValidator(
        word(
            r"(?!version_|slurm_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
            "a name of up to 64 letters, digits and ._- that begins with a letter or digit (but"
            " not with version_ or slurm_)",
        )
    ),
]
Stage = Literal["fit", "validate", "test", "predict"]


Weights = Annotated[list[Annotated[float, Field(ge=0, le=MANY)]], Field(min_length=1)]


class Section(BaseModel):
    """Settings with known names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Component(Section):
    """A class or function by its path, and its arguments, which src/config/signatures.py checks."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    target: Target = Field(alias="_target_", description="path of the class or function")


class Data(Component):
    """A LightningDataModule."""

    data_dir: PlainPath | None = Field(
        None, description="folder of the data sets; null: DATA_DIR of site.sh, or data"
    )
    batch_size: Positive = Field(64, description="images per step, over all processes")
    num_workers: int = Field(0, ge=0, le=256, description="data-loading processes per node")
    val_split: float = Field(0.1, gt=0, lt=1, description="share of the images for validation")
    folds: int | None = Field(None, ge=2, le=1000, description="parts for cross-validation")
    fold: int = Field(0, ge=0, le=999, description="number of the part for validation, from 0")
    balanced: bool = Field(False, description="draw each class equally often")
    transform: list[Component] | None = Field(
        None, description="augmentation of the training images"
    )


class Schedule(Section):
    """A class of torch.optim.lr_scheduler, and its arguments."""

    model_config = Component.model_config

    target: Target | None = Field(None, alias="_target_", description="null: a constant rate")
    warmup_epochs: float = Field(0.0, ge=0, le=MANY, description="epochs in which the rate rises")
    interval: Literal["step", "epoch"] = Field("step", description="when the rate changes")
    monitor: str = Field("val_loss", description="metric that a plateau schedule follows")


class Trainer(Section):
    """How Lightning trains."""

    max_epochs: Positive = Field(description="passes over the training set")
    accelerator: Literal["auto", "gpu", "cpu"]
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"]
    accumulate_grad_batches: Positive = Field(description="batches per optimizer step")
    gradient_clip_val: float | None = Field(gt=0, description="largest norm of the gradients")
    gradient_clip_algorithm: Literal["norm", "value"]
    deterministic: bool = Field(description="the same numbers in each run, also on GPUs")
    checkpoint_min: Minutes = Field(description="minutes between checkpoints within an epoch")
    sync_batchnorm: bool
    find_unused_parameters: bool
    timeout_min: int = Field(ge=1, le=10080, description="minutes to wait for other processes")
    limit_train_batches: Annotated[int | float | None, AfterValidator(batches(1))]
    limit_val_batches: Annotated[int | float | None, AfterValidator(batches(1))]
    fast_dev_run: Annotated[int | None, AfterValidator(batches(0))]
    overfit_batches: Annotated[int | float | None, AfterValidator(batches(0))]


class Slurm(Section):
    """What the job requests from Slurm."""

    num_nodes: Positive = Field(description="nodes of the job")
    devices: Positive = Field(description="processes per node")
    time_min: Annotated[int, BeforeValidator(minutes)] = Field(description="time limit, minutes")
    mem_gb: Count | None = Field(description="memory per node, GB; 0: the site's default")
    email: Annotated[str, AfterValidator(word(r"[\w.+-]+@[\w.-]+", "an e-mail address"))] | None
    signal: Literal["USR1", "USR2"] = Field(description="announces the time limit")
    max_requeues: int = Field(ge=0, le=1000, description="how often the job may start again")
    options: list[str] = Field(description="more options of sbatch")


class Settings(Section):
    """All settings of a run."""

    experiment_name: ExperimentName = Field(
        description="name of its folder in log_path; null: the name of the data file"
    )
    log_path: PlainPath = Field(description="folder that contains the experiments")
    seed: int = Field(ge=0, le=2**32 - 1, description="data split, shuffling, initial weights")
    stage: Annotated[list[Stage], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = (
        Field(min_length=1, description="what to do, in this order")
    )
    ckpt: PlainPath | None = Field(description="checkpoint of validate, test and predict")
    init_from: PlainPath | None = Field(description="initial weights: a file, or imagenet")
    predict: list[PlainPath] | PlainPath | None = Field(description="images for stage=predict")
    class_weights: Literal["balanced"] | Weights | None = Field(
        description="weights of the classes in the loss"
    )
    decay_all: bool = Field(description="weight decay for norms and biases, too")
    plots: bool = Field(description="pictures for TensorBoard")
    trusted: list[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]]
    data: Data
    network: Component
    model: Component
    loss: Component
    optimizer: Component
    schedule: Schedule
    metrics: dict[str, Component] = Field(description="name -> metric, beside the model's")
    callbacks: dict[str, Component] = Field(description="name -> callback")
    logger: dict[str, Component] = Field(description="name -> logger, beside TensorBoard")
    strategy: Component | None = Field(description="null: DistributedDataParallel")
    trainer: Trainer
    slurm: Slurm

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as in config.yaml."""
        # what data and schedule do not set is not passed to their classes, which may not know it
        return self.model_dump(by_alias=True, exclude_unset=True)


def known_names() -> list[str]:
    """Return the dotted names of all settings."""
    found = []
    for name, info in Settings.model_fields.items():
        found.append(name)
        fields = getattr(info.annotation, "model_fields", {})
        found += [f"{name}.{part.alias or key}" for key, part in fields.items()]
    return found
