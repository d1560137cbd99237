"""What a run does after, or instead of, the training: validate, test, predict."""

import csv
import logging
from pickle import UnpicklingError

import torch

from src.datasets.prediction_images import PredictionImages
from src.utils.errors import UserError

log = logging.getLogger(__name__)
PREDICTIONS = "predict.csv"  # in the folder of the run


def load_model(task, ckpt):
    """Return the model in a checkpoint, and all settings of its training.

    Raises:
        UserError: if the file is not a checkpoint of this program, or of another task.
    """
    try:
        hparams = torch.load(ckpt, map_location="cpu", weights_only=True)["hyper_parameters"]
        model = task.load_from_checkpoint(ckpt, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, KeyError, TypeError) as error:
        known = isinstance(error, OSError | RuntimeError | TypeError)
        reason = " ".join(str(error).split())[:200] if known else "it has another format"
        found = f"{ckpt} is not a checkpoint of a {task.__name__} ({reason})"
        example = "name one such as logs/cifar10/version_0/checkpoints/best.ckpt"
        raise UserError(f"{found}; {example}") from None
    return model, hparams


def check_fit(model, data, ckpt):
    """Check that a model was trained on such images.

    Raises:
        UserError: if they have other sizes or classes.
    """
    trained = model.example_input_array.shape[1:], list(model.hparams.get("classes", ()))
    given = torch.Size(data.dims), list(data.classes or ())
    if trained != given:
        (dims, classes), (other_dims, other_classes) = trained, given
        found = f"{ckpt} was trained on images {tuple(dims)} of {len(classes)} classes"
        has = f"the data have {tuple(other_dims)} and {len(other_classes)} classes"
        raise UserError(f"{found}, but {has}: choose the same data, or start with --from its run")


def evaluate(stage, trainer, model, data, ckpt):
    """Validate or test the weights of the model, or those of a checkpoint.

    Returns the metrics by name.
    """
    run, part = {"validate": (trainer.validate, "val"), "test": (trainer.test, "test")}[stage]
    [metrics] = run(model, datamodule=data, ckpt_path=ckpt, weights_only=True, verbose=False)
    log.info(model.in_words(part, metrics))
    return metrics


@torch.inference_mode()
def predict(trainer, task, settings, ckpt, folder):
    """Write predict.csv: for each image its file, and the class and probabilities, or the values.

    One process does this, with the weights of a checkpoint.
    """
    if not trainer.is_global_zero:
        return
    device = trainer.strategy.root_device
    model, hparams = load_model(task, ckpt)
    model = model.to(device).eval()
    read_as = hparams["preprocessing"]  # as the images of the training
    images = PredictionImages(settings.predict, **read_as, batch_size=settings.data.batch_size)
    rows = []
    for batch, names in images:
        results = model.rows(model(batch.to(device)).float().cpu())
        rows += [[name, *row] for name, row in zip(names, results, strict=True)]
    with (folder / PREDICTIONS).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["file", *model.columns()], *rows])
    log.info(f"{len(rows)} images: {folder / PREDICTIONS}")
