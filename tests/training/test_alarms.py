"""Alarms: by hand, and their two promises by simulation."""

import json
import math

import numpy as np
import pytest

from ganflow.training.alarms import BEYOND, P0, P1, SIGNALS, WARM_UP, WITHIN, Alarm, Alarms

HEALTHY = {
    "loss_d_ratio": 0.8,
    "effective_rank_ratio": 1.0,
    "nearest_pair_ratio": 1.1,
    "class_distance": 0.1,
    "fid_online_classifier_2k": 20.0,
}
ILL = {
    "loss_d_ratio": 0.01,
    "effective_rank_ratio": 0.2,
    "nearest_pair_ratio": 0.1,
    "class_distance": 0.8,
    "fid_online_classifier_2k": 31.0,
}
KINDS = {
    "loss_d_ratio": "saturation",
    "effective_rank_ratio": "collapse",
    "nearest_pair_ratio": "collapse",
    "class_distance": "collapse",
    "fid_online_classifier_2k": "divergence",
}


def observed(alarms: Alarms, values: list[dict[str, float]], every: int = 1000) -> list[Alarm]:
    """The alarms of records with these values, at every 1000 images."""
    return [alarm for i, record in enumerate(values) for alarm in alarms.observe({"images": (i + 1) * every, **record})]


def test_healthy_records_alarm_nobody():
    assert observed(Alarms(100, 0), [HEALTHY | {"loss_g": 1e9, "images_per_second": 0.0}] * 100) == []


@pytest.mark.parametrize("key", ILL)
def test_each_signal_alarms_at_its_fourth_bad_record(key):
    records = [HEALTHY] * 10 + [HEALTHY | {key: ILL[key]}] * 7
    # Four times ln 10 against ln (71 / 0.01) = 8.9; three do not reach it, nor do the three after the alarm.
    (alarm,) = observed(Alarms(71, 0), records)
    assert (alarm.signal, alarm.kind, alarm.images, alarm.value) == (key, KINDS[key], 14_000, ILL[key])


def test_many_signals_alarm_in_the_order_of_their_table():
    healthy, ill = HEALTHY | {"fid_z": 1.0}, ILL | {"fid_z": 2.0}
    alarms = observed(Alarms(71, 0), [healthy, ill, ill, ill, dict(reversed(ill.items()))])
    assert [alarm.signal for alarm in alarms] == list(ill)
    assert len(ILL) == len(SIGNALS)


def test_the_sum_begins_again_after_an_alarm():
    assert [alarm.images for alarm in observed(Alarms(71, 0), [HEALTHY] + [ILL] * 8) if "fid" in alarm.signal] == [
        5000,
        9000,
    ]


def test_a_good_record_pays_for_a_part_of_a_bad_one():
    bad, good = {"class_distance": 0.8}, {"class_distance": 0.1}
    alarms = Alarms(71, 0)
    observed(alarms, [good, bad, good, bad])
    assert alarms.sums["class_distance"] == pytest.approx(2 * math.log(10) + math.log(0.5 / 0.95))
    observed(alarms, [good] * 10)
    assert alarms.sums["class_distance"] == 0


def test_divergence_is_from_the_best_so_far():
    key = "fid_inception_2k"
    falling = [{key: 100.0 - i} for i in range(20)]
    assert observed(Alarms(71, 0), falling + [{key: 1.5 * 81}] * 10) == []
    alarm = observed(Alarms(71, 0), falling + [{key: 1.51 * 81}] * 10)[0]
    assert alarm.limit == 1.5 * 81
    assert alarm.images == 24_000


def test_what_a_record_lacks_stays_as_it_is():
    alarms = Alarms(71, 0)
    bad = {"class_distance": 0.8}
    assert len(observed(alarms, [bad, HEALTHY | bad, {"loss_g": 1.0}, {}, bad, {"loss_d_ratio": 0.9}, bad])) == 1


def test_nothing_is_watched_while_the_average_remembers_its_first_weights():
    records = [HEALTHY | ILL | {"fid_online_classifier_2k": 10.0}] * 40 + [ILL] * 4
    alarms = observed(Alarms(71, 10_000), records)
    assert {alarm.images for alarm in alarms} == {44_000}
    assert 10_000 * WARM_UP == 40_000
    fid = next(alarm for alarm in alarms if "fid" in alarm.signal)
    assert fid.limit == 15  # the best is remembered from the first record on


@pytest.mark.parametrize("key", ILL)
def test_an_alarm_says_problem_value_and_cure(key):
    alarm = observed(Alarms(71, 0), [HEALTHY] + [ILL] * 4)[list(ILL).index(key)]
    assert str(alarm).startswith(f"{KINDS[key]} at 5,000 images: {key} is {ILL[key]:.3g} and keeps ")
    assert "; " in str(alarm)
    assert "train." in str(alarm).split("; ")[1]
    assert "\n" not in str(alarm)


def test_a_resumed_run_replays_its_history():
    random = np.random.default_rng(0)
    records = [{"images": i, **(ILL if random.random() < 0.4 else HEALTHY)} for i in range(200)]
    whole, resumed = Alarms(200, 5), Alarms(200, 5)
    uninterrupted = [whole.observe(record) for record in records]
    for record in records[:120]:
        resumed.observe(json.loads(json.dumps(record, sort_keys=True)))
    assert [resumed.observe(record) for record in records[120:]] == uninterrupted[120:]
    assert any(uninterrupted[120:])


def test_evidence_is_a_likelihood_ratio():
    assert P0 * math.exp(BEYOND) + (1 - P0) * math.exp(WITHIN) == pytest.approx(1)
    assert P1 * math.exp(-BEYOND) + (1 - P1) * math.exp(-WITHIN) == pytest.approx(1)


def first_alarms(probability: float, runs: int, records: int, false_alarm_rate: float) -> np.ndarray:
    """At which record (from 1) each simulated run first alarms, beyond the limit with this probability; or 0."""
    beyond = np.random.default_rng(0).random((runs, records)) < probability
    first = np.zeros(runs)
    for run in range(runs):
        alarms = Alarms(records, 0, false_alarm_rate)
        for i in range(records):
            value = 0.9 if beyond[run, i] else 0.1
            if alarms.observe({"images": i, "class_distance": value}):
                first[run] = i + 1
                break
    return first


@pytest.mark.parametrize(("records", "rate"), [(70, 0.01), (30, 0.2)])
def test_false_alarms_are_as_rare_as_promised(records, rate):
    false = (first_alarms(P0, 2000, records, rate) > 0).mean()
    # The rate bounds it, and is not met: the sum jumps over the threshold, and neighbouring starts alarm together.
    assert rate / 50 < false <= rate


def test_trouble_is_seen_as_soon_as_wald_says():
    """Of a walk with drift m and jumps up to j, Wald 1945: E[records to h] <= (h + j) / m; CUSUM is never later."""
    first = first_alarms(P1, 300, 200, 0.01)
    drift = P1 * BEYOND + (1 - P1) * WITHIN
    assert first.min() >= 5  # ln (200 / 0.01) = 9.9
    assert first.mean() <= (math.log(200 / 0.01) + BEYOND) / drift
