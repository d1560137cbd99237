"""Hide library messages that the reader can do nothing about: see src/main.py."""

import logging
import warnings

from lightning.fabric.utilities.warnings import PossibleUserWarning

# beginning of the warning, its category, the module that issues it
HIDDEN = [
    # Lightning 2.6 uses a class that PyTorch 2.14 deprecates
    ("`isinstance.treespec, LeafSpec.", FutureWarning, "lightning.pytorch.utilities._pytree"),
    # outside a job, srun is not needed
    ("The `srun` command", PossibleUserWarning, "lightning.fabric.plugins.environments.slurm"),
    # about curves within an epoch, but this program logs once per epoch
    ("The number of training batches", PossibleUserWarning, "lightning.pytorch.loops.fit_loop"),
    # images in memory are fetched faster without workers; --num_workers is for other data sets
    (
        "The '.*_dataloader' does not have many workers",
        PossibleUserWarning,
        "lightning.pytorch.trainer.connectors.data_connector",
    ),
    # --overfit_batches needs the same images in every epoch
    (
        "You requested to overfit but enabled (train|val) dataloader shuffling",
        UserWarning,
        "lightning.pytorch.trainer.connectors.data_connector",
    ),
    # the training continues exactly where it was interrupted: see src/callbacks/exact_state.py
    (
        "You're resuming from a checkpoint that ended before the epoch ended",
        PossibleUserWarning,
        "lightning.pytorch.loops.training_epoch_loop",
    ),
    ("Checkpoint directory .* exists", UserWarning, "lightning.pytorch.callbacks.model_checkpoint"),
    # about the size of the network in MB, which NetworkSummary does not show
    (
        "Precision .* is not supported by the model summary",
        UserWarning,
        "lightning.pytorch.utilities.model_summary.model_summary",
    ),
]


def hide_library_messages():
    """Hide the messages; call this after importing Lightning and before using it."""
    for message, category, module in HIDDEN:
        warnings.filterwarnings("ignore", message, category, module)
    # hide Lightning's notes on its own work; its warnings and errors are shown
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel("WARNING")
