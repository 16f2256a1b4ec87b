"""Which step a machine can play: plain, compiled, or captured as a CUDA graph; what it cannot is said, and left out."""

import shutil
import sys
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from ganflow.config import Train
from ganflow.device import has_bfloat16
from ganflow.parallel import World
from ganflow.training.batches import Batch
from ganflow.training.state import State
from ganflow.training.step import Step

WARM_UP = 3
"""Steps played before the capture, as PyTorch's notes on CUDA graphs ask: libraries choose their algorithms there."""


def make_step(state: State, settings: Train, world: World) -> Step:
    """The fastest step that the settings ask for and the device has."""
    device = state.device
    on_gpu = device.type == "cuda"
    if settings.precision == "bfloat16" and not has_bfloat16(device):
        _say(f"precision=bfloat16 is not for {_name(device)}; going on in float32")
    captured = settings.cuda_graphs and on_gpu and world.size == 1
    if settings.cuda_graphs and not captured:
        _say(f"cuda_graphs is for one process on a GPU, and this is {world.size} on {_name(device)}; going on without")
    step = CapturedStep(state, settings, world) if captured else Step(state, settings, world)
    if settings.compile:
        if can_compile(device):
            compile_objectives(step)
        else:
            _say(f"compile=true finds no compiler for {_name(device)}; going on without")
    return step


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile can work here: Triton and a C compiler for GPUs of compute capability 7.0, a C++
    compiler for CPUs."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability()[0] >= 7 and any(map(shutil.which, ("cc", "gcc", "clang")))
    return shutil.which("g++") is not None


def compile_objectives(step: Step) -> None:
    """Replace both players' objectives by compiled ones, penalties included."""
    game = step.match.game
    game.discriminator_objective = torch.compile(game.discriminator_objective, fullgraph=True)  # type: ignore[method-assign]
    game.generator_objective = torch.compile(game.generator_objective, fullgraph=True)  # type: ignore[method-assign]


class CapturedStep(Step):
    """A step that is recorded once for each pattern of due penalties, and then replayed as one launch."""

    def __init__(self, state: State, settings: Train, world: World) -> None:
        super().__init__(state, settings, world)
        self.inputs: list[Batch] = []
        self.graphs: dict[tuple[bool, ...], torch.cuda.CUDAGraph] = {}
        self.played: Counter[tuple[bool, ...]] = Counter()

    def __call__(self, batches: Sequence[Batch]) -> None:
        """One step, from the graph's own input tensors."""
        self.prepare(batches)
        self._take(batches)
        due = self.penalised()
        if due in self.graphs:
            self.graphs[due].replay()
        elif self.played[due] < WARM_UP:
            self._warm_up(due)
        else:
            self.graphs[due] = torch.cuda.CUDAGraph()
            # The thread that fetches ahead pins memory meanwhile, which a capture of all threads would not survive.
            with torch.cuda.graph(self.graphs[due], capture_error_mode="thread_local"):
                self.play(self.inputs, due)
            self.graphs[due].replay()
        self.state.images += self.settings.images_per_step

    def _take(self, batches: Sequence[Batch]) -> None:
        if not self.inputs:
            self.inputs = [_copy(batch) for batch in batches]
            return
        for kept, batch in zip(self.inputs, batches, strict=True):
            for target, source in zip(_tensors(kept), _tensors(batch), strict=True):
                if target is not None and source is not None:
                    target.copy_(source)

    def _warm_up(self, due: tuple[bool, ...]) -> None:
        """Play on a side stream, as a capture does."""
        self.played[due] += 1
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.play(self.inputs, due)
        torch.cuda.current_stream().wait_stream(side)


def _tensors(batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
    return batch.images, batch.labels, batch.index


def _copy(batch: Batch) -> Batch:
    labels = None if batch.labels is None else batch.labels.clone()
    return Batch(batch.images.clone(), labels, batch.index.clone())


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "a CPU"


def _say(sentence: str) -> None:
    print(f"train: {sentence}", file=sys.stderr)
