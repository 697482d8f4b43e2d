"""What readers hand on of an error below zero, on graphs whose answer is plain."""

import pytest
import torch
import torch.nn.functional as F
from of_function import Of

from pockethdr.export.placement import handed_on_below_zero
from pockethdr.export.trace import traced


@pytest.mark.parametrize(
    ("readers", "handed_on"),
    [
        (lambda x: F.relu(x), 0.0),
        (lambda x: F.leaky_relu(x, 0.01), 0.01),
        (lambda x: F.relu(x) + F.leaky_relu(x, 0.2), 0.2),
        (lambda x: F.leaky_relu(F.pixel_shuffle(x, 2), 0.1), 0.1),
        (lambda x: F.relu(F.avg_pool2d(x, 2)), 1.0),  # a mean mixes both signs
        (lambda x: F.relu(x) + x, 1.0),
        (lambda x: x, 1.0),
    ],
)
def test_readers(readers, handed_on: float) -> None:
    program = traced(Of(lambda x: readers(x.exp())), (torch.randn(1, 4, 8, 8),))
    assert handed_on_below_zero(program)["exp"] == pytest.approx(handed_on)
