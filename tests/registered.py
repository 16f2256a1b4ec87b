"""Registered models without a training: real generators with first weights, real samples, and scores as wished."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ganflow import registry
from ganflow.artifacts import Evaluation, Model, file_hash, fingerprint
from ganflow.images import grid, write_png
from ganflow.lineage import passport
from ganflow.networks import build_generator
from ganflow.sampling import load_generator, sample

ARCHITECTURE = {"name": "dcgan", "resolution": 28, "channels": 1, "latent_dim": 16, "width": 8}
DATA = {"name": "shapes", "resolution": 28, "channels": 1, "classes": None, "train": 10, "held_out": 10}
DATA |= {"raw_md5": "a" * 32, "images_md5": "b" * 32, "labels_md5": None}
PROTOCOL = {"extractor": "classifier", "generated_count": 256, "real_md5": "b" * 32, "seed": 0}
COUNT = 256


def make_model(folder: Path, seed: int) -> Model:
    """A finished model folder; its generator has first weights, made larger."""
    model = Model(folder)
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    weights = build_generator(ARCHITECTURE).state_dict()  # as they are, they draw grey, and all grey is alike
    save_file({key: value * 8 if "weight" in key else value for key, value in weights.items()}, model.generator)
    model.history.write_text('{"images": 64, "loss_d": 1.0, "loss_g": 1.0, "d_real": 0.5, "d_fake": 0.5}\n')
    model.samples.mkdir()
    parameters = {"seed": seed}
    model.write_card(
        {
            "architecture": ARCHITECTURE, "generator_sha256": file_hash(model.generator), "images_seen": 64,
            "parameters": parameters, "parameters_sha256": fingerprint(parameters), "data": DATA,
        }
    )  # fmt: skip
    return model


def make_evaluation(folder: Path, model: Model, fid: float, **protocol: object) -> Evaluation:
    """Scores with this FID, and the samples that the generator really draws."""
    evaluation = Evaluation(folder)
    folder.mkdir(parents=True)
    generator, latent_dim = load_generator(model)
    picture = np.concatenate([chunk.numpy() for chunk in sample(generator, latent_dim, 0, 64)])
    write_png(evaluation.samples, grid(picture), scale=2)
    influence = np.random.default_rng(0).normal(size=COUNT)
    np.save(evaluation.influence, influence)
    evaluation.report.write_text("a report")
    full = PROTOCOL | protocol
    evaluation.write_card(
        {
            "score": "fid_classifier_256", "fid_classifier_256": fid,
            "fid_classifier_256_se": float(influence.std() / 16),
            "generator_sha256": model.read_card()["generator_sha256"],
            "protocol": full, "protocol_sha256": fingerprint(full),
        }
    )  # fmt: skip
    return evaluation


def register(folder: Path, fid: float, weights: int, name: str = "tiny", **protocol: object) -> str:
    """Register a model with this FID; returns its version."""
    place = folder / "made" / f"{weights}-{fid}-{len(protocol)}"
    model = make_model(place / "model", weights)
    evaluation = make_evaluation(place / "evaluation", model, fid, **protocol)
    made = registry.register(model, evaluation, passport(model.read_card(), evaluation.read_card(), None), name)
    return str(made["version"])


def empty_store(folder: Path) -> Path:
    """An MLflow database with its tables and nothing in it; it takes seconds, so it is made once and copied."""
    path = folder / "empty.db"
    code = f"import mlflow; mlflow.set_tracking_uri('sqlite:///{path}'); mlflow.search_experiments()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, cwd=folder)
    return path


def use_store(empty: Path, folder: Path) -> str:
    """A store of one's own in a folder; returns its address."""
    shutil.copy(empty, folder / "mlflow.db")
    return f"sqlite:///{folder}/mlflow.db"
