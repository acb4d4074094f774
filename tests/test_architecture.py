"""The house: who may import whom, how big a file may be, and what importing a package must not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("planners", "envs", "worldmodel", "benchmarks")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PYTHON = SOURCES + sorted((ROOT / "tests").rglob("*.py"))
YAML = sorted((ROOT / "configs").rglob("*.yaml"))
MODEL = {
    "torch",
    "numpy",
    "transformers",
    "safetensors",
    "gymnasium",
    "pyarrow",
    "av",
    "h5py",
    "PIL",
    "scipy",
    "tqdm",
    "planners",
}
FLOORS = {
    "planners": {"torch"},
    "envs": {"numpy", "scipy", "mujoco", "dm_control", "gymnasium", "PIL"},
    "worldmodel": MODEL,
    "benchmarks": MODEL | {"scipy", "imageio", "matplotlib", "OpenGL", "ray", "envs", "worldmodel"},
}
DREAMER = {"sheeprl", "lightning", "hydra", "omegaconf"}  # an extra, composed by Hydra and imported when it is used
ROOT_OF_COMPOSITION = {"hydra", "omegaconf", "yaml", "OpenGL", "mujoco", "envs", "benchmarks"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> set[str]:
    """The top-level packages a file imports, anywhere in it."""
    found = {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes(path) if isinstance(node, ast.ImportFrom)}
    return {module.partition(".")[0] for module in found} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_imports_only_what_its_floor_may(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    upward = ROOT_OF_COMPOSITION if package == "worldmodel" and path.stem.split("_")[0] == "cli" else set()
    upward = DREAMER if name(path).startswith("worldmodel/baselines/dreamer") else upward
    assert imported(path) <= FLOORS[package] | upward | {package}


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
    functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60] == []
    assert path.stem not in {"utils", "common", "helpers", "misc"}
    assert path.parent.name not in {"utils", "common"}


def test_yaml_files_stay_small() -> None:
    assert YAML
    assert [name(path) for path in YAML if len(path.read_text(encoding="utf-8").splitlines()) > 40] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_forbidden_is_called(path: Path) -> None:
    calls = [node for node in nodes(path) if isinstance(node, ast.Call)]
    called = {ast.unparse(call.func) for call in calls}
    given = [value for call in calls for value in [*call.args, *(keyword.value for keyword in call.keywords)]]
    constants = [value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    assert path.name == "convert.py" or "torch.load" not in called
    assert not {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} & {*imported(path), *stdlib(path)}
    assert not [call for call in calls if any(k.arg == "allow_pickle" and truthy(k.value) for k in call.keywords)]
    assert path.relative_to(ROOT).parts[0] not in {"planners", "envs"} or "print" not in called
    assert not [text for text in constants if text.partition(":")[0] == "cuda"]
    assert not [text for text in called if text.endswith(".cuda")]


def stdlib(path: Path) -> set[str]:
    found = {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module or "" for node in nodes(path) if isinstance(node, ast.ImportFrom)}


def truthy(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value is False)


PROBE = """
import importlib, os, pkgutil, sys
import gymnasium  # which hides the greeting of pygame by a variable of its own
environment = dict(os.environ)
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
assert dict(os.environ) == environment, set(os.environ.items()) ^ set(environment.items())
assert not [module for module in sys.modules if module.startswith("OpenGL.")], "OpenGL was loaded"
assert "torch" not in sys.modules or not sys.modules["torch"].cuda.is_initialized(), "CUDA was started"
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_does_nothing_else(package: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PROBE, package], env=environment, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0
