"""Write checkpoints that are complete or not there, and find the newest one: see src/main.py."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from src.utils.attempts import in_message, update_attempt
from src.utils.errors import UserError

log = logging.getLogger(__name__)
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a file only when the new one is on disk, and keeps the previous last.ckpt.

    Lightning writes to TMPDIR first; if that is another file system, it then overwrites the old
    checkpoint in place, and a full disk or a kill at that moment leaves none.
    """

    slowest = 0.0  # duration in seconds

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the file.

        Raises:
            OSError: if it cannot be written; the earlier files are still there.
        """
        path, began = Path(path), time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")  # on the same file system
        try:
            with in_message(path), part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if path.name == LAST and path.exists():
            path.replace(path.with_name(PREVIOUS))
        part.replace(path)
        sync_folder(path.parent)
        if path.name == LAST:
            self.slowest = max(self.slowest, time.monotonic() - began)
            step = checkpoint["global_step"]
            update_attempt(path.parents[1], to_step=step, save_s=round(self.slowest, 3))


def sync_folder(folder: Path) -> None:
    """Write the names of the files to disk; otherwise a power failure may undo a rename."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def newest_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """Return the newest checkpoint that can be loaded, and its optimizer step; or None and 0.

    Raises:
        UserError: if there are checkpoints, but all of them are damaged.
    """
    files = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    damaged = []
    for file in files:
        try:
            step = torch.load(file, map_location="cpu", weights_only=True)["global_step"]
        except Exception as error:  # a damaged file raises almost anything
            reason = str(error).partition("\n")[0]
            log.warning(f"{file} is damaged, and left out ({type(error).__name__}: {reason:.200})")
            damaged.append(file)
        else:
            for file_left_out in damaged:  # the next save would make it the previous one
                with suppress(FileNotFoundError):  # another rank was faster
                    file_left_out.replace(file_left_out.with_suffix(".damaged"))
            return file, step
    if files:
        names = " and ".join(str(file) for file in files)
        remedy = "delete the folder of this run to start again, or restore one of them"
        raise UserError(f"no checkpoint of this run can be loaded, {names}: {remedy}")
    return None, 0
