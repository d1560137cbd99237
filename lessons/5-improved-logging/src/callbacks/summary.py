"""Log a summary of the network before the training: see src/main.py."""

import logging

from lightning.pytorch.callbacks import ModelSummary

log = logging.getLogger(__name__)
MAX_BLOCKS = 9


class NetworkSummary(ModelSummary):
    """Logs the outermost blocks of the network, with their parameters and output sizes."""

    def __init__(self):
        super().__init__(max_depth=2)  # the network, and its blocks

    @staticmethod
    def summarize(summary_data, total_parameters, trainable_parameters, *sizes, **kwargs):
        columns = dict(summary_data)
        names = ("Name", "Type", "Params", "Out sizes")
        rows = zip(*(columns[name] for name in names), strict=True)
        lines = [
            f"  {name.removeprefix('network.'):10} {kind:14} {params.strip():>7}  {size}"
            for name, kind, params, size in rows
            if name.startswith("network.") and params.strip() != "0"
        ]
        if len(lines) > MAX_BLOCKS:
            lines[MAX_BLOCKS - 1 :] = [f"  and {len(lines) - MAX_BLOCKS + 1} more blocks"]
        frozen = total_parameters - trainable_parameters
        first = f"network: {total_parameters:,} parameters" + (
            f", {frozen:,} frozen" if frozen else ""
        )
        log.info("\n".join([first, *lines]))
