"""What `pockethdr export` says when it is done, and the files of its searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.export.recipe import DEFAULT_RECIPE, WIDEST_RECIPE
from pockethdr.files import write_bytes

if TYPE_CHECKING:
    from pockethdr.export.auto_methods import Chosen
    from pockethdr.export.manifest import Artifact, Manifest
    from pockethdr.export.search import Found

#: Fewer than this to confirm a recipe, and a single unusual scene decides.
ENOUGH_BRACKETS = 6


def print_manifest(manifest: Manifest, out: Path) -> None:
    """What was built and what was not, one line each."""
    for artifact in manifest.artifacts:
        click.echo(f"{artifact.target:9s} {artifact.precision:7s} {_outcome(artifact)}")
    if manifest.tuned:
        click.echo(f"int8 from {manifest.tuned['file']}, tuned for `{manifest.tuned['recipe']}`")
    elif _is_default(manifest):
        click.echo(
            f"int8 by the default recipe, `{DEFAULT_RECIPE}`; to lose less: --max-loss 0.1 searches"
            " one, pockethdr finetune tunes the weights, --precisions dynint8 needs neither"
        )
    if manifest.context and manifest.context.caveat:
        click.echo(f"note: {manifest.context.caveat}")
    if idle := [a.file for a in manifest.artifacts if a.checks.get("int8_mac_share") == 0]:
        click.echo(
            f"warning: nothing in {', '.join(map(str, idle))} multiplies integers: recipe "
            f"`{manifest.recipe['name']}` leaves every convolution float, which makes INT8 larger "
            f"and slower than FP16; try --recipe {WIDEST_RECIPE}",
            err=True,
        )
    many, kept = len(manifest.rewrites), len(manifest.refusals)
    left = f", {kept} place{'s' * (kept != 1)} left as written" if kept else ""
    click.echo(f"{many} rewrite{'s' * (many != 1)}, proved{left}; {out / 'manifest.json'}")


def _is_default(manifest: Manifest) -> bool:
    """Whether there is INT8 that nobody chose a recipe for."""
    has_int8 = any(a.precision == "int8" and a.file for a in manifest.artifacts)
    return has_int8 and manifest.recipe["name"] == DEFAULT_RECIPE


def write_found(found: Found, out: Path) -> None:
    """Say what went back to float and why; recipe, account and picture into `out`."""
    from pockethdr.report.sensitivity import picture

    files = {
        "recipe.json": json.dumps(found.recipe.to_json(), indent=1) + "\n",
        "search.json": json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n",
        "sensitivity.svg": picture(found),
    }
    for name, text in files.items():
        write_bytes(out / name, text.encode(), overwrite=True)
    for reverted in found.reverted:
        click.echo(f"float: {reverted.group} ({reverted.why})")
    many, unseen = len(found.searched_on), len(found.confirmed_on)
    for what, loss in (("before", found.before), ("after", found.after)):
        click.echo(
            f"{what:6s}  µ {loss.mu_db:+.3f} dB  ℓ {loss.l_db:+.3f} dB on the {many} searched"
        )
    verdict = "met" if found.met else "NOT met"
    click.echo(
        f"--max-loss {found.max_loss:g} {verdict}: µ {found.confirmed.mu_db:+.3f} dB, "
        f"ℓ {found.confirmed.l_db:+.3f} dB on {unseen} brackets that the search did not see "
        "(simulated)"
    )
    if not found.met:
        click.echo(
            "this is the best found; give more brackets, allow a higher --max-loss, or finetune"
        )
    if unseen < ENOUGH_BRACKETS:
        click.echo(
            f"{unseen} brackets say little of others: give {2 * ENOUGH_BRACKETS} with ground truth "
            "or more, half of which confirm"
        )
    click.echo(f"recipe: {out / 'recipe.json'}; picture: {out / 'sensitivity.svg'}")


def write_chosen(chosen: Chosen, out: Path) -> None:
    """Say which tensors left the recipe's method and what that gains; the recipe into `out`."""
    text = json.dumps(chosen.recipe.to_json(), indent=1) + "\n"
    write_bytes(out / "recipe.json", text.encode(), overwrite=True)
    for tensor, method in chosen.recipe.methods.items():
        click.echo(f"range of {tensor}: {method}")
    pairs = {
        "searched": (chosen.before, chosen.after),
        "others": (chosen.unseen_before, chosen.unseen_after),
    }
    for which, (before, after) in pairs.items():
        click.echo(
            f"{which:8s}  µ {before.mu_db:+.3f} → {after.mu_db:+.3f} dB  "
            f"ℓ {before.l_db:+.3f} → {after.l_db:+.3f} dB (predicted)"
        )
    if not chosen.helped:
        click.echo(f"no gain on the others: `{chosen.recipe.name}` stays as it is")


def _outcome(artifact: Artifact) -> str:
    if artifact.file is None:
        return f"skipped: {artifact.skipped}"
    ranges = artifact.checks.get("ranges", {})
    amiss = {"NOT as imposed": ranges.get("foreign"), "MISSING": ranges.get("missing")}
    wrong = "".join(f"; {what}: {found[0]}, …" for what, found in amiss.items() if found)
    share = artifact.checks.get("int8_mac_share")
    integer = f", {share:.0%} of its multiplications integer" if share is not None else ""
    return f"{artifact.file} ({(artifact.size_bytes or 0) / 1024:.0f} KiB{integer}){wrong}"
