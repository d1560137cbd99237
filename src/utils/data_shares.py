"""Divide the images over the processes: see src/datasets/image_data_module.py."""

import random
from itertools import cycle, islice

import numpy as np
import torch
from torch.utils.data import DistributedSampler, Subset, get_worker_info

from src.utils.errors import UserError
from src.utils.splits import balanced_order


class SeededBatches(Subset):
    """A data set whose random numbers depend only on seed, epoch and batch.

    So they are the same after an interruption, and for any number of workers.
    """

    def __init__(self, dataset, seed):
        super().__init__(dataset, range(len(dataset)))
        self.collate_fn = getattr(dataset, "collate_fn", None)
        self.seed, self.epoch = seed, 0
        self.of_numpy = np.random.MT19937()

    def __getitems__(self, indices):
        # the first image tells the batches of an epoch, and of its ranks, apart
        seeds = np.random.SeedSequence([self.seed, self.epoch, indices[0]]).generate_state(2)
        # balanced sampling counts the uses of an image: see balanced_order
        indices = [index % len(self) for index in indices]
        if get_worker_info():  # the worker may draw more numbers when it collates the batch
            seed_generators(*seeds.tolist())
            return super().__getitems__(indices)
        # the process that trains keeps its own random numbers
        before = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
        np.random.set_bit_generator(self.of_numpy)  # faster than to save and restore the state
        seed_generators(*seeds.tolist())
        try:
            return super().__getitems__(indices)
        finally:
            random.setstate(before[0])
            np.random.set_bit_generator(before[1])
            torch.set_rng_state(before[2])


def seed_generators(first, second):
    """Seed the CPU generators of Python, NumPy and torch; torch.manual_seed would seed GPUs too."""
    random.seed(first)
    np.random.seed(second)
    torch.default_generator.manual_seed(first << 32 | second)


class TrainingSampler(DistributedSampler):
    """Shuffles by seed and epoch; begins within an epoch if the training was interrupted there.

    With labels (n,), each class is equally often in an epoch of n images.
    """

    def __init__(self, dataset, count, rank, seed, epoch, first, labels=None):
        super().__init__(dataset, count, rank, seed=seed)
        super().set_epoch(epoch)
        self.labels = labels
        self.first = first  # number of images that this process has already used in this epoch
        dataset.epoch = epoch

    def __iter__(self):
        order = super().__iter__() if self.labels is None else self.balanced()
        return islice(order, self.first, None)

    def balanced(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = balanced_order(self.labels, generator)
        # as without labels, the first images fill up the shares
        padded = islice(cycle(order), self.total_size)
        return islice(padded, self.rank, None, self.num_replicas)

    def set_epoch(self, epoch):  # Lightning calls this, also for the epoch that continues
        if epoch != self.epoch:
            self.first = 0
        super().set_epoch(epoch)
        self.dataset.epoch = epoch


class EvaluationSampler(DistributedSampler):
    """Gives each image to one process; DistributedSampler would repeat images as padding."""

    def __iter__(self):
        return iter(range(self.rank, len(self.dataset), self.num_replicas))

    def __len__(self):
        return len(range(self.rank, len(self.dataset), self.num_replicas))


def processes(data):
    """Return the number of processes, and the rank of this one."""
    return (data.trainer.world_size, data.trainer.global_rank) if data.trainer else (1, 0)


def training_share(data, dataset, labels=None):  # labels: see TrainingSampler
    """Return DataLoader settings; each optimizer step uses the same images as with one process.

    The order depends only on seed and epoch; process k of n takes images k, k + n, k + 2n...
    """
    (count, rank), size = processes(data), data.batch_size
    # workers start before Lightning sets the epoch
    epoch, first = data.position["epoch"], data.position["batches"] * size
    sampler = TrainingSampler(dataset, count, rank, data.seed, epoch, first, labels)
    # batch norm of a few images ruins the weights, so an incomplete last batch is dropped
    left_out = len(sampler) > size
    # the workers get their numbers from SeededBatches; without this generator, starting them would
    # draw one of the numbers of the training
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
    # as in training_share: dropout must not depend on whether the validation has workers
    generator = torch.Generator().manual_seed(data.seed)
    return {"sampler": sampler, "batch_size": size, "generator": generator}
