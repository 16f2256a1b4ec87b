"""Several trainings, and the best of them: the section `sweep` of params.yaml."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganflow import config
from ganflow.artifacts import Evaluation, Model, write_text
from ganflow.config import Params, parse
from ganflow.errors import ArtifactError, ConfigError
from ganflow.protocol import differing_field
from ganflow.shown import table


def trainings(params: Params) -> list[str]:
    """The section `train` of each training of the sweep, as JSON text: the listed ones, then the grid's.

    Raises ConfigError when there are fewer than two, two are the same, or a value is impossible.
    """
    names, values = list(params.sweep.grid), params.sweep.grid.values()
    product = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*values)] if names else []
    train = params.train.model_dump(mode="json")
    changes = [*params.sweep.trials, *product]
    texts = [parse(config.Train, train | change, f"sweep, {change}").json_text() for change in changes]
    if len(texts) < 2:
        raise ConfigError(f"the sweep has {len(texts)} trainings; give sweep.grid or sweep.trials at least two")
    if len(set(texts)) < len(texts):
        raise ConfigError("two trainings of the sweep are the same; take one out of sweep.grid or sweep.trials")
    return texts


def promotion(params: Params) -> str:
    """The section `promote` for the best of the sweep, as JSON text: the gate asks more of the best of many."""
    return params.promote.model_copy(update={"best_of": len(trainings(params))}).json_text()


def keep_best(models: Sequence[Path], evaluations: Sequence[Path], model: Path, evaluation: Path, page: Path) -> None:
    """Copy the model with the lowest FID, and its evaluation; `page` gets all scores as Markdown.

    Models and evaluations belong together by the generator's hash, in whatever order they come. Raises ArtifactError
    when one has no partner, or the scores were measured by unlike protocols.
    """
    by_hash = {Model(path).read_card()["generator_sha256"]: Model(path) for path in models}
    scored = [(Evaluation(path).read_card(), Evaluation(path)) for path in evaluations]
    for scores, where in scored:
        if scores["generator_sha256"] not in by_hash:
            raise ArtifactError(f"{where.path} scores a generator that is not among the models; give it its model")
        if unlike := differing_field(scores["protocol"], scored[0][0]["protocol"]):
            raise ArtifactError(f"{where.path} was measured by another protocol ({unlike}); evaluate all in one way")
    scored.sort(key=lambda pair: (_fid(pair[0]), pair[0]["generator_sha256"]))
    first, where = scored[0]
    _copy(by_hash[first["generator_sha256"]].path, model)
    _copy(where.path, evaluation)
    write_text(page, _ranking([(scores, by_hash[scores["generator_sha256"]].read_card()) for scores, _ in scored]))


def _fid(scores: dict[str, Any]) -> float:
    fid: float = scores[scores["score"]]
    return fid


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _ranking(ranked: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The scores, and the parameters in which the trainings differ."""
    parameters = [card["parameters"] for _, card in ranked]
    names = [name for name in parameters[0] if len({str(one.get(name)) for one in parameters}) > 1]
    score = ranked[0][0]["score"]
    rows = [
        (f"{_fid(scores):.4g} ± {scores[f'{score}_se']:.2g}", *(str(card["parameters"].get(name)) for name in names))
        for scores, card in ranked
    ]
    return "\n".join([f"# The best of {len(ranked)}", "", *table((score, *names), rows), ""])
