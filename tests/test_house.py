"""The house's rules: who may import whom, and when."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    "errors", "section", "resources", "config", "artifacts", "objects", "handover", "image_registry", "protocol",
    "cache", "device", "randomness", "images", "folders", "page", "progress", "parallel", "data", "networks",
    "sampling", "losses", "penalties", "augment", "history", "metrics", "training", "lineage", "report", "pictures",
    "evaluate", "compare", "promotion", "shown", "sweep", "pin", "fetch", "drift", "plugins", "outbox",
    "pipeline_run", "courier", "tracking", "kubeflow", "summary", "serving", "registry", "ledger", "ledger_store",
    "custody", "ancestry", "reproduce", "trainjob", "cluster", "doctor", "processes", "node", "joblog", "launch",
    "steps", "verbs", "custody_verbs", "data_verbs", "doctor_verb", "cli", "__main__",
]  # fmt: skip
"""The modules of ganflow in the order data flows; each imports only what stands before it."""


def imports(path: Path) -> set[str]:
    """Full names of everything that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("src/ganflow"), ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_imports_go_one_way(path):
    module = path.relative_to(ROOT / "src" / "ganflow").parts[0].removesuffix(".py")
    if module == "__init__":
        return
    allowed = {*ORDER[: ORDER.index(module) + 1], "__version__"}
    within = {name.split(".")[1] for name in imports(path) if name.startswith("ganflow.")}
    assert within <= allowed, f"{module} imports {within - allowed}, which stands after it"
    outside = {name.split(".")[0] for name in imports(path)}
    assert not outside & {"kfp", "components", "pipelines"}
    knowing = ("pipeline_run", "courier", "tracking", "registry", "ledger_store", "plugins")
    assert "mlflow" not in outside or module in knowing


def test_components_never_import_pipelines():
    assert files("components")
    for path in files("components"):
        assert "pipelines" not in {name.split(".")[0] for name in imports(path)}


def test_no_import_is_relative():
    for path in (*files("src/ganflow"), *files("components"), *files("pipelines")):
        levels = [node.level for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not any(levels), f"{path} has a relative import, which the law does not see"


@pytest.mark.parametrize(
    "module", ["errors", "config", "artifacts", "promotion", "history", "steps", "registry", "ledger", "custody", "cli"]
)
def test_torch_waits_until_it_is_needed(module):
    command = f"import sys, ganflow.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0


def test_help_answers_at_once():
    """Half a second is the promise; the best of five, since the machine may be busy."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ganflow", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_the_processes_that_decode_do_without_torch():
    command = "import sys, ganflow.data.work; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command]).returncode == 0
