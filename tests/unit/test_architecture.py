"""Imports run downward, the runtime never reaches for the tools, and importing it stays light."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import omni_sdk

PACKAGE = Path(omni_sdk.__file__).parent
OVERVIEW = Path(__file__).parents[2] / "docs" / "architecture.md"

# Each room uses what stands above it, never below.
ROOMS = [
    "errors", "_buffers", "_runs", "_keys", "_kernels", "stats", "cgroup", "cpu", "memory",
    "providers", "installed", "refusals", "ort_options", "settings_check", "settings",
    "strict", "folders", "files", "manifest", "bundle", "stamps", "graph_scan", "source",
    "ranges", "specs", "feeds", "process_pools", "session", "digests", "entries", "mapped", "budget", "compiled",
    "profiles",
    "binding", "awaiting", "forking", "learned", "runner", "cache", "states", "shapes", "agreement",
    "stream", "device_stream", "window", "streams", "chunked", "warmup", "explain", "caller", "parts",
    "reports", "model", "turns", "places", "hosted", "host", "__init__", "smoke",
]  # fmt: skip
TOUCH_ORT = {"process_pools", "session", "binding", "settings", "smoke"}
LIBRARIES = {"numpy", "xxhash", "psutil", "platformdirs", "onnxruntime", "tomli"}
STANDARD = sys.stdlib_module_names | {"tomllib"}  # which Python 3.10 has not yet; `tomli` takes its place there
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in it; `from omni_sdk import x` counts as `omni_sdk.x`."""
    for node in _at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            if node.module == "omni_sdk":
                yield from (f"omni_sdk.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker looks at."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _at_run_time(node)


def imports(module: str) -> list[str]:
    return list(imported(ast.parse((PACKAGE / f"{module}.py").read_text())))


def room(name: str) -> str:
    """The room of this package that an import leads to: `__init__` for the package itself."""
    return name.partition(".")[2].split(".")[0] or "__init__"


def test_every_module_has_its_place():
    compiled = {"_buffers", "_runs", "_keys", "_kernels"}
    assert set(ROOMS) == {*MODULES, *compiled}
    assert len(ROOMS) == len(set(ROOMS))


@pytest.mark.skipif(not OVERVIEW.exists(), reason="installed without its documentation")
def test_the_overview_names_every_room():
    wing = OVERVIEW.read_text().partition("## The runtime wing")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in wing.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(set(ROOMS) - {"__init__"})


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module):
    used = {room(name) for name in imports(module) if name.split(".")[0] == "omni_sdk"}
    above = set(ROOMS[: ROOMS.index(module)])
    assert used <= above, f"{module} reaches below itself: {sorted(used - above)}"


@pytest.mark.parametrize("module", MODULES)
def test_the_runtime_needs_few_libraries(module):
    libraries = {name.split(".")[0] for name in imports(module)} - STANDARD - {"omni_sdk"}
    assert libraries <= LIBRARIES
    assert ("onnxruntime" in libraries) <= (module in TOUCH_ORT)


def test_an_import_below_would_be_seen():
    source = (
        "import omni_sdk.host\nif TYPE_CHECKING:\n    import omni_sdk.smoke\ndef f():\n    from omni_sdk import model"
    )
    assert [room(name) for name in imported(ast.parse(source))] == ["host", "model"]
    assert room("omni_sdk.tools.prepare") == "tools"
    assert room("omni_sdk") == "__init__"


def test_the_tools_are_no_ones_but_the_command_lines():
    for path in PACKAGE.glob("tools/**/*.py"):
        found = imported(ast.parse(path.read_text()))
        assert not any(name.startswith("omni_sdk.cli") for name in found), path


def test_importing_the_package_pulls_in_nothing_of_the_tools():
    script = "import sys, json, omni_sdk; print(json.dumps(sorted(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    loaded = json.loads(run.stdout)
    heavy = {"onnx", "onnx_ir", "onnxscript", "matplotlib", "torch", "click", "rich", "sympy", "transformers"}
    assert {name.split(".")[0] for name in loaded} & heavy == set()
    assert not any(name.startswith(("omni_sdk.tools", "omni_sdk.cli")) for name in loaded)
    assert run.stderr == ""
