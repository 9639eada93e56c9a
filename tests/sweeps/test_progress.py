"""What is heard of a block under way: the share of the block, a few times a second, by the one who follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from relu_sweeps_toys import TOY, sample_toy

from sweeps import progress, statistics
from sweeps.blocks import plan
from sweeps.events import BlockDone, BlockProgress, Event, Receipt, SweepDone
from sweeps.measure import measure
from sweeps.progress import heard, launch, tell, told
from sweeps.statistic import Networks
from tests.conftest import SpecMaker


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(progress, "time", made := Clock())
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is told is heard."""
    monkeypatch.setattr(progress, "PAUSE", 0.0)


def test_it_is_heard_a_few_times_a_second_and_nothing_of_short_blocks(clock: Clock) -> None:
    heard_of: list[BlockProgress] = []
    with told(heard_of.append):
        for thousandth in range(1000):
            tell(thousandth / 1000)
            clock.now += 1 / 512
    assert [p.share for p in heard_of] == [0.128, 0.256, 0.384, 0.512, 0.640, 0.768, 0.896]


def test_nobody_follows_and_nobody_hears(at_once: None) -> None:
    heard_of: list[BlockProgress] = []
    launch(3, 0.0, 1.0)
    tell(0.5)
    with told(heard_of.append):
        pass
    tell(0.5)
    assert heard_of == []


def test_a_share_of_a_launch_is_scaled_to_the_block(at_once: None) -> None:
    heard_of: list[BlockProgress] = []
    with told(heard_of.append):
        for before in (0.0, 0.5):
            launch(7, before, 0.5)
            for share in (0.25, 1.0):
                tell(share)
    assert heard_of == [BlockProgress(7, s) for s in (0.0, 0.125, 0.5, 0.5, 0.625, 1.0)]


@pytest.mark.parametrize(("share", "heard_as"), [(-1, 0.0), (np.float32(0.25), 0.25), (3, 1.0), (np.nan, 0.0)], ids=str)
def test_a_share_is_between_0_and_1(at_once: None, share: float, heard_as: float) -> None:
    heard_of: list[BlockProgress] = []
    with told(heard_of.append):
        tell(share)
    assert heard_of == [BlockProgress(0, heard_as)]


def test_measuring_tells_of_every_launch_and_of_what_is_told_in_it(
    toy: SpecMaker, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    """5 points x 8 draws are 40 networks: in lanes of 16 the last launch is a fifth of the block."""

    def sample(networks: Networks, device: str) -> dict:
        tell(0.5)
        return sample_toy(networks, device)

    telling = replace(TOY, sample=sample, lane=lambda p: 16)
    monkeypatch.setattr(statistics, "get", lambda name: telling)
    sweep, heard_of = toy(points_per_block=5), []
    block = plan(sweep)[2]
    alone = measure(sweep, block)
    with told(heard_of.append):
        followed = measure(sweep, block)
    assert [p.share for p in heard_of] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.9])
    assert {p.block for p in heard_of} == {2}
    for name, moments in alone.moments.items():
        assert followed.moments[name].stack().tobytes() == moments.stack().tobytes()


def test_events_are_passed_on_and_what_is_told_between_them_is_heard(at_once: None) -> None:
    """Of the one who follows alone: what he does with an event is not heard of."""
    given = [BlockDone(Receipt(0, 0, 0, 0.0, "cpu")), SweepDone(1)]

    def events() -> Iterator[Event]:
        for event in given:
            tell(0.5)
            yield event

    heard_of: list[BlockProgress] = []
    passed = []
    for event in heard(events(), heard_of.append):
        tell(0.75)
        passed.append(event)
    assert passed == given
    assert [p.share for p in heard_of] == [0.5, 0.5]


def test_who_is_interrupted_while_something_is_told_follows_no_more(at_once: None) -> None:
    def interrupt(_: BlockProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), told(interrupt):
        tell(0.5)
    tell(0.5)
