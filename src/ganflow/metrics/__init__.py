"""Images to features to statistics to scores: `extract`, `moments`, `measure`; and each number by itself."""

from ganflow.metrics.extractors import Extractor, extract, fit_or_load, load, load_named, save
from ganflow.metrics.extrapolate import infinite_fid
from ganflow.metrics.frechet import (
    Difference,
    distance_to,
    frechet_distance,
    influence,
    paired_difference,
    standard_error,
)
from ganflow.metrics.inception_score import InceptionScore, inception_score
from ganflow.metrics.kernel import Kid, kernel_distance, polynomial_mmd
from ganflow.metrics.manifold import Manifold, Neighbours, manifold, nearest, radii
from ganflow.metrics.moments import Moments, moments
from ganflow.metrics.scores import Measured, RealStatistics, measure, real_statistics
from ganflow.protocol import score_name

__all__ = [
    "Difference",
    "Extractor",
    "InceptionScore",
    "Kid",
    "Manifold",
    "Measured",
    "Moments",
    "Neighbours",
    "RealStatistics",
    "distance_to",
    "extract",
    "fit_or_load",
    "frechet_distance",
    "inception_score",
    "infinite_fid",
    "influence",
    "kernel_distance",
    "load",
    "load_named",
    "manifold",
    "measure",
    "moments",
    "nearest",
    "paired_difference",
    "polynomial_mmd",
    "radii",
    "real_statistics",
    "save",
    "score_name",
    "standard_error",
]
