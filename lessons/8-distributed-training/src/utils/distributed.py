"""Set up and end a distributed run with Lightning: see src/main.py."""

import logging
import os
import signal
from datetime import timedelta
from pathlib import Path

import torch
from lightning.pytorch.plugins import environments
from lightning.pytorch.strategies import DDPStrategy

from src.utils.errors import UserError, exit_at_sigterm
from src.utils.slurm import started_by_srun

log = logging.getLogger(__name__)


def hardware(hparams):
    """Return Lightning's accelerator and precision.

    Raises:
        UserError: if there are too few GPUs, or if an argument needs GPUs and there are none.
    """
    accelerator, precision, devices = hparams.accelerator, hparams.precision, hparams.devices
    num_gpus = torch.cuda.device_count()
    if accelerator == "gpu" and not num_gpus:
        remedy = "use --accelerator cpu, or a node with GPUs and a PyTorch built for them"
        raise UserError(f"--accelerator gpu: PyTorch sees no GPU here; {remedy}")
    if accelerator == "auto":
        accelerator = "gpu" if num_gpus else "cpu"
    if accelerator == "gpu" and num_gpus < devices:
        raise UserError(
            f"--devices {devices}, but this process sees {num_gpus} GPUs: request"
            f" --gres=gpu:{devices} without --gpus-per-task or --gpu-bind, or lower --devices"
        )
    if accelerator == "cpu" and precision == "16-mixed":
        raise UserError("--precision 16-mixed needs a GPU: on a CPU use 32-true or bf16-mixed")
    if accelerator == "cpu" and hparams.sync_batchnorm:
        raise UserError("--sync_batchnorm needs GPUs: on a CPU leave it out")
    if precision == "auto":
        precision = "16-mixed" if accelerator == "gpu" else "32-true"
    return accelerator, precision


def log_layout(hparams, accelerator, precision, batches_per_step):
    """Log how the work is divided; batches_per_step is the Trainer's accumulate_grad_batches."""
    processes = hparams.num_nodes * hparams.devices
    images = hparams.batch_size * batches_per_step
    log.info(
        f"processes: {processes} (nodes: {hparams.num_nodes}, devices per node:"
        f" {hparams.devices}), {accelerator}, {precision};"
        f" images per optimizer step: {images}, per process: {images // processes};"
        f" learning rate: {hparams.learning_rate}"
    )
    if accelerator == "cpu" and precision == "bf16-mixed" and not cpu_has_bfloat16():
        log.warning("this CPU has no instructions for bfloat16: 32-true is several times faster")


def cpu_has_bfloat16():
    info = Path("/proc/cpuinfo")
    return not info.is_file() or "bf16" in info.read_text()


class Strategy(DDPStrategy):
    """Lets every process end at SIGTERM, without waiting for the others."""

    def barrier(self, *args, **kwargs):
        super().barrier(*args, **kwargs)
        # Lightning has just installed a handler that waits for all processes, even dead ones
        signal.signal(signal.SIGTERM, exit_at_sigterm)


def strategy(hparams):
    """Return Lightning's strategy; a process waits at most timeout_min for the others."""
    if hparams.num_nodes * hparams.devices == 1:
        return "auto"
    return Strategy(
        timeout=timedelta(minutes=hparams.timeout_min),
        find_unused_parameters=hparams.find_unused_parameters,
    )


def close_process_group(trainer):
    """Close the process group explicitly: closing it at interpreter exit sometimes aborts."""
    trainer.strategy.barrier()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def environment():
    """Return the environment, which tells Lightning whether srun started the processes."""
    if not started_by_srun():
        return environments.LightningEnvironment()
    # process 0 is on the first node of the step, which need not be the first one of the job
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
    first = environments.SLURMEnvironment.resolve_root_node_address(nodes)
    os.environ.setdefault("MASTER_ADDR", first)
    # two steps of a job, or two jobs on a node, must not use the same port
    step = int(os.environ["SLURM_JOB_ID"]) * 7 + int(os.environ["SLURM_STEP_ID"])
    os.environ.setdefault("MASTER_PORT", str(20000 + step % 10000))
    # at SIGUSR1, Lightning would save its state in the folder of all runs, and requeue the job
    return environments.SLURMEnvironment(auto_requeue=False)
