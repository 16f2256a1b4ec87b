"""Alarms that tell a training in trouble from one that has a bad moment, at a stated rate of false alarms.

A record lies beyond a signal's limit or it does not. In a healthy training it does with a probability of at most P0,
given all the records before; in trouble with P1. Each signal sums up the evidence, the log of the likelihood ratio
L = P1 / P0 beyond the limit and (1 - P1) / (1 - P0) within: the CUSUM of Page 1954, for yes and no as in Reynolds
and Stoumbos 1999,

    S = max(0, S + ln L), and an alarm when S >= h = ln(records / false_alarm_rate).

In a healthy training, a signal's probability of any alarm in so many records is at most the false alarm rate:

1. L grows with being beyond the limit, and has the mean P0 (P1 / P0) + (1 - P0) (1 - P1) / (1 - P0) = 1 at P0. Given
   the records before, its mean is thus at most 1.
2. So the product of L from record k on is a supermartingale that is never negative and begins with a mean of at most
   1. By Ville's inequality (1939) it ever reaches e^h with a probability of at most e^-h.
3. S is the largest of the logs of these products over all k, or 0. It reaches h only where one of them reaches e^h,
   and there are as many k as records: the probability is at most records * e^-h.

Records within the limit cost 0.64, records beyond give 2.30. Up to 100 records and at a rate of 0.01, four beyond in
a row make an alarm, and each ten times as many records ask for one more.

G's loss is no signal: it has no scale that is common to the games, what D's certainty does to it is seen in D's loss,
and NaN and infinity end the training elsewhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

P0 = 0.05
P1 = 0.5
BEYOND = math.log(P1 / P0)
WITHIN = math.log((1 - P1) / (1 - P0))
WARM_UP = 4
"""Half-lives of G's average that go by first: then its random first weights are down to a sixteenth."""

Kind = Literal["collapse", "saturation", "divergence"]


@dataclass(frozen=True)
class Signal:
    """A value of the records, and where trouble begins."""

    key: str
    """Name of the value; `*` stands for anything."""
    kind: Kind
    side: Literal["below", "above"]
    limit: float
    """In units of the value, or of the lowest value so far."""
    meaning: str
    cure: str
    of_best: bool = False

    def beyond(self, value: float, limit: float) -> bool:
        """Whether the value lies on the wrong side."""
        return value < limit if self.side == "below" else value > limit


SIGNALS = (
    Signal(
        "loss_d_ratio", "saturation", "below", 0.05,
        meaning="D tells drawn images from real ones without error and teaches G nothing",
        cure="lower train.discriminator_learning_rate, or set train.discriminator_norm=none and train.r1_gamma",
    ),
    Signal(
        "effective_rank_ratio", "collapse", "below", 0.25,
        meaning="the drawn images vary in few of the directions in which the real ones do",
        cure="lower train.learning_rate, or set train.discriminator_norm=none and train.r1_gamma",
    ),
    Signal(
        "nearest_pair_ratio", "collapse", "below", 0.15,
        meaning="many drawn images are nearly the same",
        cure="lower train.learning_rate, or set train.discriminator_norm=none and train.r1_gamma",
    ),
    Signal(
        "class_distance", "collapse", "above", 0.5,
        meaning="so large a share of the drawn images would have to be of other classes",
        cure="lower train.learning_rate, set train.r1_gamma, or draw by class with train.conditional=true",
    ),
    Signal(
        "fid_*", "divergence", "above", 1.5, of_best=True,
        meaning="the drawn images were much closer to the real ones before",
        cure="lower train.learning_rate, or stop earlier with train.total_images",
    ),
)  # fmt: skip
"""What is watched. docs/training.md has the values of healthy and of collapsed trainings beside these limits."""


@dataclass(frozen=True)
class Alarm:
    """A signal whose evidence is complete."""

    signal: str
    kind: Kind
    images: int
    value: float
    limit: float
    side: Literal["below", "above"]
    meaning: str
    cure: str

    def __str__(self) -> str:
        """One sentence: the problem, the value, and what to do."""
        return (
            f"{self.kind} at {self.images:,} images: {self.signal} is {self.value:.3g} and keeps {self.side} "
            f"{self.limit:.3g}, which says that {self.meaning}; {self.cure}"
        )


class Alarms:
    """Watches the records of one training. Its state is a function of those it has seen: to resume, replay them."""

    def __init__(self, records: int, ema_half_life_images: int, false_alarm_rate: float = 0.01) -> None:
        """Of so many records expected; no signal is watched in the first WARM_UP half-lives of G's average."""
        self.threshold = math.log(records / false_alarm_rate)
        self.warm_up_images = WARM_UP * ema_half_life_images
        self.sums: dict[str, float] = {}
        self.best: dict[str, float] = {}

    def observe(self, record: Mapping[str, float]) -> list[Alarm]:
        """Take in a record, which has `images`; returns the alarms that it completes.

        Signals that it lacks stay as they are. The sum of a signal that alarmed begins again at 0.
        """
        alarms = []
        for signal in SIGNALS:
            for key in sorted(record):
                if fnmatchcase(key, signal.key):
                    alarm = self._observe(signal, key, record[key], int(record["images"]))
                    alarms += [alarm] if alarm else []
        return alarms

    def _observe(self, signal: Signal, key: str, value: float, images: int) -> Alarm | None:
        limit = signal.limit * self.best.get(key, math.inf) if signal.of_best else signal.limit
        self.best[key] = min(value, self.best.get(key, math.inf))
        if images <= self.warm_up_images:
            return None
        evidence = BEYOND if signal.beyond(value, limit) else WITHIN
        self.sums[key] = max(0.0, self.sums.get(key, 0.0) + evidence)
        if self.sums[key] < self.threshold:
            return None
        self.sums[key] = 0.0
        return Alarm(key, signal.kind, images, value, limit, signal.side, signal.meaning, signal.cure)
