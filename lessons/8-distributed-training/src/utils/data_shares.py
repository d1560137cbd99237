"""Divide the images over the processes: see src/datasets/image_data_module.py."""

import torch
from torch.utils.data import DistributedSampler

from src.utils.errors import UserError


class EvaluationSampler(DistributedSampler):
    """Gives each image to one process; DistributedSampler would repeat images as padding."""

    def __iter__(self):
        return iter(range(self.rank, len(self.dataset), self.num_replicas))

    def __len__(self):
        return len(range(self.rank, len(self.dataset), self.num_replicas))


def processes(data):
    """Return the number of processes, and the rank of this one."""
    return (data.trainer.world_size, data.trainer.global_rank) if data.trainer else (1, 0)


def training_share(data, dataset):
    """Return DataLoader settings; each optimizer step uses the same images as with one process.

    The order depends only on seed and epoch; process k of n takes images k, k + n, k + 2n...
    """
    (count, rank), size = processes(data), data.batch_size
    sampler = DistributedSampler(dataset, count, rank, seed=data.seed)
    # batch norm of a few images ruins the weights, so an incomplete last batch is dropped
    left_out = len(sampler) > size
    # the workers of each process draw their own crops
    generator = torch.Generator().manual_seed(data.seed + rank)
    return {"sampler": sampler, "batch_size": size, "drop_last": left_out, "generator": generator}


def evaluation_share(data, dataset):
    """Return DataLoader settings; every image counts once, for any number of processes.

    Raises:
        UserError: if there are fewer images than processes.
    """
    sampler, size = EvaluationSampler(dataset, *processes(data)), data.batch_size
    images, left = divmod(len(dataset), sampler.num_replicas)
    if not images:
        few = f"{len(dataset)} images are too few for {sampler.num_replicas} processes"
        raise UserError(f"{few}: use fewer processes")
    # Some processes have one more image, but all must take the same number of steps: during
    # validation DistributedDataParallel broadcasts the batch norm buffers before each step.
    while left and images % size == 0:
        size += 1
    return {"sampler": sampler, "batch_size": size}
