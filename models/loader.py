"""Batches ahead of their step: made by other processes while the network trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class Stream(Protocol):
    """Batches by number: batch n is the same whenever, and in whatever process, it is made."""

    def get(self, step: int) -> Batch:
        """Short, mid, long (N×C×h×w) and ground truth of one step."""

    def fixed(self, count: int) -> Batch:
        """A batch of `count` apart from the stream."""


@dataclass
class Stages(Dataset[Batch]):
    """One stream up to step `turn`, another from there on; None never turns."""

    early: Stream
    late: Stream
    turn: int | None

    def __getitem__(self, step: int) -> Batch:
        late = self.turn is not None and step >= self.turn
        return (self.late if late else self.early).get(step)


def batches(stages: Stages, first: int, end: int | None, *, workers: int) -> Iterator[Batch]:
    """Batches `first`, `first` + 1, …, to before `end` (None: endless), a few steps ahead.

    Args:
        workers: processes that make them; 0 makes each when it is asked for.
    """
    numbers = range(first, 2**62 if end is None else end)
    loader = DataLoader(
        stages,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_alone,
    )
    return iter(loader)


def _alone(worker: int) -> None:
    """A worker is one thread: the cores are the network's."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
