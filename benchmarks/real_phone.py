"""rgb weights on the one real phone bracket with a reference: of eight frames they see three.

    python benchmarks/real_phone.py --brackets ../shared/brackets [--weights FILE …]

The reference is a Debevec merge of all eight frames of `note9_garden_left`, up to two seconds long.
It is no ground truth: they are 8-bit JPEGs, and leaves moved. PSNR is taken after the one factor
that fits best, since nobody knows the phone's own scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
from fuse_cases import scaled_to
from numpy.typing import NDArray
from results import reference_frame

from pockethdr.brackets.bracket import RGB, Bracket
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_l, psnr_mu
from pockethdr.brackets.read import read_bracket
from pockethdr.models.evaluate import fused
from pockethdr.models.load import load_model

SCENE, REFERENCE, MODEL = "note9_garden_left", "hdr_pseudo_gt_half.exr", "dsan-m32"
# The lamps, clipped in every frame, set no scale.
_WHITE = 0.999

Image = NDArray[np.float32]


@click.command()
@click.option("--brackets", type=click.Path(path_type=Path), required=True)
@click.option("--weights", type=click.Path(path_type=Path), multiple=True, help="Others beside.")
def main(brackets: Path, weights: tuple[Path, ...]) -> None:
    """Print a table of PSNR-µ and PSNR-ℓ."""
    folder = brackets / SCENE
    wanted = np.asarray(read_exr(folder / REFERENCE), np.float32)
    click.echo("| | response | PSNR-µ | PSNR-ℓ |\n|---|---|---|---|")
    for response in ("srgb", "debevec"):
        bracket = read_bracket(folder, domain=RGB, response=response)
        for name, image in images(bracket, weights):
            mu, linear = scores(image, wanted)
            click.echo(f"| {name} | {response} | {mu:.2f} | {linear:.2f} |")


def images(bracket: Bracket, weights: tuple[Path, ...]) -> Iterator[tuple[str, Image]]:
    """The reference frame, the merge, and what each of the networks makes, 3×H×W."""
    yield "reference frame", reference_frame(bracket)
    yield "weighted merge", weighted_merge(bracket)
    for path in (None, *weights):
        module = load_model(MODEL, domain=RGB, weights=path).module
        yield path.stem if path else f"{MODEL}, as it ships", fused(module, bracket)


def scores(image: Image, wanted: Image) -> tuple[float, float]:
    """PSNR-µ and PSNR-ℓ of 3×H×W, halved like the H×W×3 reference."""
    size = wanted.shape[1], wanted.shape[0]
    halved = cv2.resize(image.transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA)
    white = float(np.quantile(wanted, _WHITE))
    planes = [
        np.clip(x / white, 0, 1).transpose(2, 0, 1) for x in (scaled_to(wanted, halved), wanted)
    ]
    return float(psnr_mu(*planes)), float(psnr_l(*planes))


if __name__ == "__main__":
    main()
