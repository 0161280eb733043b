import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.glitches import optimal_snr
from gwclient.noise import SENSITIVITIES
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run


def simulate(
    *detectors: str, seconds: float = 16, seed: int = 1, t0: int = 1400000000, glitch_rate: float = 0.3
) -> list[Run]:
    return list(SimulatedSource(detectors, seconds, 2048, seed, t0, glitch_rate).runs())


def test_the_same_seed_and_t0_give_the_same_strain() -> None:
    (first,), (second,) = simulate("H1"), simulate("H1")
    assert np.array_equal(first.strain[:], second.strain[:])
    assert first.glitches == second.glitches


def test_another_detector_beside_it_changes_nothing() -> None:
    (alone,), (_, beside) = simulate("L1"), simulate("H1", "L1")
    assert np.array_equal(alone.strain[:], beside.strain[:])
    assert alone.glitches == beside.glitches


def test_detectors_do_not_share_noise() -> None:
    first, second = simulate("H1", "L1", glitch_rate=0)
    assert abs(np.corrcoef(first.strain[:], second.strain[:])[0, 1]) < 0.1


@pytest.mark.parametrize("change", [{"seed": 2}, {"t0": 1400000064}])
def test_another_seed_or_t0_gives_other_noise(change: dict[str, int]) -> None:
    (first,), (second,) = simulate("H1", glitch_rate=0), simulate("H1", glitch_rate=0, **change)
    assert abs(np.corrcoef(first.strain[:], second.strain[:])[0, 1]) < 0.1


def test_what_is_injected_has_the_snr_that_the_truth_says() -> None:
    (clean,), (glitched,) = simulate("V1", seconds=64, glitch_rate=0), simulate("V1", seconds=64)
    injected = glitched.strain[:] - clean.strain[:]
    assert len(glitched.glitches) > 5
    lonely = 0
    for glitch in glitched.glitches:
        centre, half = glitch.gps - glitched.t0, glitch.duration / 2
        others = [other for other in glitched.glitches if other is not glitch]
        if any(other.overlaps(glitch.gps - half, glitch.gps + half) for other in others):
            continue
        lonely += 1
        alone = injected[int((centre - half) * 2048) : int((centre + half) * 2048) + 2]
        assert optimal_snr(alone, 2048, SENSITIVITIES["V1"].psd) == pytest.approx(glitch.snr, rel=0.02)
    assert lonely > 2


def test_outside_its_glitches_the_strain_is_untouched() -> None:
    (clean,), (glitched,) = simulate("H1", glitch_rate=0), simulate("H1")
    changed = np.flatnonzero(clean.strain != glitched.strain) / 2048 + glitched.t0
    assert len(changed)
    assert all(any(g.overlaps(gps - 1e-3, gps + 1e-3) for g in glitched.glitches) for gps in changed)


def test_the_truth_says_how_to_make_it_again() -> None:
    source = SimulatedSource(("H1", "V1"), 16, 2048, 7, 1400000000, 0.3)
    truth = source.truth(list(source.runs()))
    again = SimulatedSource(
        tuple(truth.sensitivities), truth.seconds, truth.rate, truth.seed, truth.t0, truth.glitch_rate
    )
    assert again.truth(list(again.runs())) == truth
    assert [glitch.gps for glitch in truth.glitches] == sorted(glitch.gps for glitch in truth.glitches)


def test_a_detector_without_a_published_design_is_refused() -> None:
    with pytest.raises(InvalidSource, match="no design sensitivity of G1"):
        SimulatedSource(("H1", "G1"), 16, 2048, 1, 0, 0)


def test_endless_runs_continue_each_other_without_a_seam() -> None:
    runs = SimulatedSource(("H1", "L1"), 8, 2048, 1, 1400000000, 0).endless_runs()
    first, _, second, third = (next(runs) for _ in range(4))
    (whole,) = simulate("H1", glitch_rate=0)
    assert np.array_equal(np.concatenate([first.strain[:], second.strain[:]]), whole.strain[:])
    assert [(run.channel, run.t0) for run in (second, third)] == [
        ("H1:SIM-STRAIN", 1400000008), ("L1:SIM-STRAIN", 1400000008),
    ]  # fmt: skip
