"""What is measured of a running training besides its losses: diversity, an online FID, the distance to equilibrium."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganflow import metrics, randomness
from ganflow.artifacts import Reference, check_hash
from ganflow.config import Train
from ganflow.images import AnyImages, Labels
from ganflow.losses import LOSSES
from ganflow.metrics.diversity import class_distance, effective_rank, nearest_pair, pooled_pixels
from ganflow.sampling import sample
from ganflow.training.batches import Batches, order
from ganflow.training.equilibrium import apart, duality_gap, held_out_batch
from ganflow.training.state import METRICS, State

LOOKED_AT = 256
"""Images by which diversity is measured at every record."""


@dataclass(frozen=True)
class Sets:
    """The images of a training: uint8 (N, C, R, R), memory-mapped or not, and labels (N,) if there are any."""

    train: AnyImages
    labels: Labels | None
    held_out: AnyImages
    held_out_labels: Labels | None


class Judge:
    """Scores G's average against a reference, on few images: enough to tell a run's states apart."""

    def __init__(self, reference: Reference, settings: Train) -> None:
        card = reference.read_card()
        check_hash(reference.stats, card["stats_sha256"], Reference.MAKER)
        check_hash(reference.extractor, card["protocol"]["extractor_sha256"], Reference.MAKER)
        self.extractor = metrics.load(reference.extractor)
        self.settings = settings
        with np.load(reference.stats) as stats:
            self.mu, self.sigma = stats["mu"], stats["sigma"]
            self.classes = self._classes(stats["features"])
        self.name = metrics.score_name(f"online_{self.extractor.name}", settings.online_fid_images)

    def __call__(self, state: State) -> dict[str, float]:
        """The online FID, under the name of its protocol, and the distance between the histograms of classes."""
        features = metrics.extract(self.extractor, _drawn(state, self.settings, self.settings.online_fid_images))
        mu, sigma = metrics.moments(features)
        values = {self.name: metrics.frechet_distance(mu, sigma, self.mu, self.sigma)}
        drawn = self._classes(features)
        if drawn is None or self.classes is None:
            return values
        count = int(max(drawn.max(), self.classes.max())) + 1
        frequencies = np.bincount(self.classes, minlength=count) / len(self.classes)
        return values | {"class_distance": class_distance(drawn, frequencies)}

    def _classes(self, features: NDArray[np.float32]) -> Labels | None:
        """The classifier's decision an image, int64 (N,); None for an extractor without classes."""
        probabilities = self.extractor.probabilities(features)
        return None if probabilities is None else probabilities.argmax(1)


class Watch:
    """Measures a state; never changes it."""

    def __init__(self, sets: Sets, settings: Train, judge: Judge | None) -> None:
        self.sets, self.settings, self.judge = sets, settings, judge
        self.equilibrium = LOSSES[settings.loss].equilibrium
        self.count = min(LOOKED_AT, len(sets.train))
        first = order(len(sets.train), settings.seed, 0, self.count)
        real = pooled_pixels(sets.train[np.sort(first)])
        self.real = {"effective_rank_ratio": effective_rank(real), "nearest_pair_ratio": nearest_pair(real)}

    def losses(self, state: State) -> dict[str, float]:
        """Means of what the steps since the last time measured; here the host waits for the device."""
        *sums, steps = state.sums.tolist()
        state.sums.zero_()
        values = {name: total / steps for name, total in zip(METRICS, sums, strict=True)}
        sign, penalty = values.pop("sign_real"), values.pop("penalty")
        if self.settings.penalised:
            values["penalty"] = penalty
        if self.settings.augment_target is not None:
            values |= {"sign_real": sign, "augment_probability": state.augment_probability.item()}
        if self.equilibrium:
            values["loss_d_ratio"] = values["loss_d"] / self.equilibrium
        return values

    def diversity(self, state: State) -> dict[str, float]:
        """Effective rank and nearest pairs of what the average draws, as ratios to the real images'."""
        drawn = pooled_pixels(torch.cat(list(_drawn(state, self.settings, self.count))).numpy())
        found = {"effective_rank_ratio": effective_rank(drawn), "nearest_pair_ratio": nearest_pair(drawn)}
        # Real images that are all the same leave nothing to compare with.
        return {name: value / self.real[name] for name, value in found.items() if self.real[name] > 0}

    def examine(self, state: State, batches: Batches) -> dict[str, float]:
        """The online FID where there is a reference, and the duality gap where it is asked for."""
        values = self.judge(state) if self.judge else {}
        if not self.settings.equilibrium_steps:
            return values
        held_out = held_out_batch(self.sets.held_out, self.sets.held_out_labels, self.settings, state.device)
        responses = [
            apart(batches.take(state.images + step * self.settings.images_per_step)[0])
            for step in range(self.settings.equilibrium_steps)
        ]
        return values | duality_gap(state, responses, held_out, self.settings)


def _drawn(state: State, settings: Train, count: int) -> list[Tensor]:
    """Images of the average that neither a training step nor an evaluation draws."""
    seed = randomness.derived_seed(settings.seed, randomness.Stream.ONLINE)
    return list(sample(state.average, settings.latent_dim, seed, count))
