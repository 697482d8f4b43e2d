"""Three of many: the ratios nearest to four around the best exposed, and always a reason."""

from __future__ import annotations

import time

import pytest

from pockethdr.brackets.choose import Shot, check_shots, named, nearest_to_four, timed
from pockethdr.errors import BracketError


def shots_of(*seconds: float) -> list[Shot]:
    return [Shot(f"{each:g}.jpg", each, each) for each in seconds]


def test_nearest_to_four_around_the_best() -> None:
    shots = shots_of(8, 4, 2, 1, 0.5, 0.25, 0.125)
    choice = nearest_to_four("here", shots, shots[3])
    assert [shot.exposure for shot in choice.shots] == [0.25, 1, 4]
    assert choice.ratios == (1, 4, 16)
    assert "7 frames" in choice.sentence
    assert "1.jpg, the best exposed" in choice.sentence


def test_best_at_an_end_takes_its_neighbour_as_mid() -> None:
    shots = shots_of(1, 2, 4, 8)
    assert [s.exposure for s in nearest_to_four("here", shots, shots[3]).shots] == [1, 4, 8]
    assert [s.exposure for s in nearest_to_four("here", shots, shots[0]).shots] == [1, 2, 8]


def test_twins_are_not_taken_together() -> None:
    shots = shots_of(1, 1.01, 1.02, 4, 16)
    choice = nearest_to_four("here", shots, shots[3])
    assert choice.shots[1].exposure == 4
    assert choice.shots[2].exposure == 16


@pytest.mark.parametrize(
    ("seconds", "best", "chosen"),
    [
        ((1, 1, 4, 16), 0, [1, 4, 16]),
        ((1, 4, 16, 16), 3, [1, 4, 16]),
        ((1, 1, 4, 8), 1, [1, 4, 8]),
    ],
)
def test_a_repeated_exposure_does_not_spoil_the_rest(
    seconds: tuple[float, ...], best: int, chosen: list[float]
) -> None:
    shots = [Shot(f"{index}.jpg", time, time) for index, time in enumerate(seconds)]
    assert [s.exposure for s in nearest_to_four("here", shots, shots[best]).shots] == chosen


def test_a_folder_of_hundreds_is_no_longer_thought_about() -> None:
    shots = shots_of(*(1.01**index for index in range(600)))
    begin = time.process_time()
    chosen = nearest_to_four("here", shots, shots[300])
    assert time.process_time() - begin < 1
    assert chosen.ratios == pytest.approx((1, 4, 16), rel=0.01)


def test_named_and_timed_are_sorted_by_exposure() -> None:
    shots = shots_of(1, 4, 16, 64)
    assert named("here", shots, ["64.jpg", "1.jpg", "4.jpg"], "me").ratios == (1, 4, 64)
    assert timed("here", shots, [16.001, 1, 4], "me").ratios == (1, 4, 16)
    assert timed("here", shots_of(1, 1, 4, 16), [1, 4, 16], "me").ratios == (1, 4, 16)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ((), "no exposures\n"),
        ((1,), "one exposure only"),
        ((1, 4), "two exposures only"),
        ((1, 1, 1), "equal exposures"),
        ((1, 4, 4.01), "equal exposures"),
        ((1, 4, 0), "exposure of 0.jpg is 0"),
        ((1, 4, -2), "exposure of -2.jpg is -2"),
        ((1, 4, float("nan")), "exposure of nan.jpg is nan"),
    ],
)
def test_what_is_no_bracket(seconds: tuple[float, ...], message: str) -> None:
    with pytest.raises(BracketError, match=message):
        check_shots("here", shots_of(*seconds))


def test_unknown_names_and_times() -> None:
    shots = shots_of(1, 4, 16)
    with pytest.raises(BracketError, match=r"5\.jpg"):
        named("here", shots, ["1.jpg", "4.jpg", "5.jpg"], "me")
    with pytest.raises(BracketError, match="names"):
        named("here", shots, ["1.jpg", "1.jpg", "4.jpg"], "me")
    with pytest.raises(BracketError, match="names 1, 4, 5 s"):
        timed("here", shots, [1, 4, 5], "me")
