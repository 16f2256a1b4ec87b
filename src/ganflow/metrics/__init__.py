"""Images to features to statistics to distance: `extract`, `moments`, `frechet_distance`; and what they depend on."""

from ganflow.metrics.extractors import Extractor, extract, fit_or_load, load, save
from ganflow.metrics.frechet import frechet_distance, influence, moments, standard_error
from ganflow.metrics.protocol import score_name

__all__ = [
    "Extractor",
    "extract",
    "fit_or_load",
    "frechet_distance",
    "influence",
    "load",
    "moments",
    "save",
    "score_name",
    "standard_error",
]
