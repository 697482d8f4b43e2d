"""Which three frames of a longer burst make the bracket, and why.

Everything here works on relative exposures and returns the choice with a sentence that explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pockethdr.errors import BracketError

WANTED_RATIO = 4.0
# Exposures nearer than this are one exposure; real steps are a third of a stop (1.26) at least.
_SAME = 1.1


@dataclass(frozen=True)
class Shot:
    """One exposure that may be chosen.

    Attributes:
        name: file name.
        exposure: relative exposure (seconds, or any unit common to the folder).
        seconds: exposure time, None when unknown.
    """

    name: str
    exposure: float
    seconds: float | None = None


@dataclass(frozen=True)
class Choice:
    """Three shots, ordered short, mid, long, and the sentence that says how they were chosen."""

    shots: tuple[Shot, Shot, Shot]
    sentence: str

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Exposures over that of the short shot."""
        short, mid, long = (shot.exposure / self.shots[0].exposure for shot in self.shots)
        return short, mid, long


def check_shots(where: str, shots: Sequence[Shot]) -> None:
    """Refuse what cannot be a bracket.

    Raises:
        BracketError: fewer than three shots, an exposure that is not positive, or fewer than
            three different exposures.
    """
    if len(shots) < 3:
        raise BracketError(
            f"{where}: {_count(len(shots), 'exposure')}{' only' * bool(shots)}",
            expected="three exposures of one scene or more",
            fix="add the missing exposure, or give another folder",
        )
    for shot in shots:
        if not (math.isfinite(shot.exposure) and shot.exposure > 0):
            raise BracketError(
                f"{where}: exposure of {shot.name} is {shot.exposure:g}",
                expected="a time above zero",
                fix="correct the exposure times (EXIF or metadata.json)",
            )
    if _distinct(shots) < 3:
        times = ", ".join(f"{shot.name} {shot.exposure:g}" for shot in shots)
        raise BracketError(
            f"{where}: equal exposures ({times})",
            expected="three different exposures",
            fix="bracket with at least one third of a stop between frames; 2 stops are best",
        )


def named(where: str, shots: Sequence[Shot], names: Sequence[str], source: str) -> Choice:
    """The three shots of these names.

    Raises:
        BracketError: a name is not among the shots, or the exposures are equal.
    """
    by_name = {shot.name: shot for shot in shots}
    missing = [name for name in names if name not in by_name]
    if missing or len(set(names)) != 3:
        raise BracketError(
            f"{where}: {source} names {', '.join(names)}",
            expected=f"three of {', '.join(by_name)}",
        )
    return _choice(where, [by_name[name] for name in names], f"named by {source}")


def timed(where: str, shots: Sequence[Shot], seconds: Sequence[float], source: str) -> Choice:
    """The three shots of these exposure times (to a hundredth), each the first of its time.

    Raises:
        BracketError: a time is not among the shots, or two of the three are equal.
    """
    firsts = (next((s for s in shots if _lasts(s, wanted)), None) for wanted in seconds)
    found = [shot for shot in firsts if shot is not None]
    if len(found) != 3 or len(seconds) != 3:
        times = ", ".join(f"{wanted:g}" for wanted in seconds)
        known = ", ".join(f"{shot.seconds:g}" for shot in shots if shot.seconds is not None)
        raise BracketError(f"{where}: {source} names {times} s", expected=f"three of {known} s")
    return _choice(where, found, f"named by {source}")


def _lasts(shot: Shot, seconds: float) -> bool:
    return shot.seconds is not None and math.isclose(shot.seconds, seconds, rel_tol=0.01)


def nearest_to_four(where: str, shots: Sequence[Shot], best: Shot) -> Choice:
    """The three shots around the best-exposed one whose ratios come nearest to 4 (2 stops).

    The middle one is `best`, or the nearest to it of which there are a shorter and a longer one.
    """
    rising = sorted(shots, key=lambda shot: shot.exposure)
    chosen = rising[:3]  # which `check_shots` refuses
    for mid in sorted(rising, key=lambda shot: (shot is not best, _stops(shot, best))):
        shorter = [shot for shot in rising if shot.exposure * _SAME < mid.exposure]
        longer = [shot for shot in rising if shot.exposure > mid.exposure * _SAME]
        if shorter and longer:
            short, long = (min(side, key=lambda s: _misfit(s, mid)) for side in (shorter, longer))
            chosen = [short, mid, long]
            break
    return _choice(
        where,
        chosen,
        f"of {len(shots)} frames, the ratios nearest to {WANTED_RATIO:g} around {best.name}, "
        "the best exposed",
    )


def _choice(where: str, shots: Sequence[Shot], reason: str) -> Choice:
    check_shots(where, shots)
    short, mid, long = sorted(shots, key=lambda shot: shot.exposure)
    choice = Choice((short, mid, long), "")
    listed = ", ".join(
        f"{shot.name} (×{ratio:.4g})"
        for shot, ratio in zip(choice.shots, choice.ratios, strict=True)
    )
    return Choice(choice.shots, f"{listed}: {reason}")


def _misfit(shot: Shot, mid: Shot) -> float:
    """Distance of a step from the wanted ratio, in stops."""
    return abs(_stops(shot, mid) - math.log2(WANTED_RATIO))


def _stops(shot: Shot, other: Shot) -> float:
    return abs(math.log2(shot.exposure / other.exposure))


def _distinct(shots: Sequence[Shot]) -> int:
    """How many exposures differ by more than `_SAME`."""
    count, last = 0, 0.0
    for exposure in sorted(shot.exposure for shot in shots):
        if exposure > last * _SAME:
            count, last = count + 1, exposure
    return count


def _count(number: int, noun: str) -> str:
    words = {0: "no", 1: "one", 2: "two"}
    return f"{words.get(number, number)} {noun}{'' if number == 1 else 's'}"
