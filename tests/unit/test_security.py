"""What SECURITY.md promises of the code itself: nothing that is read is run, and nothing is opened unasked."""

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
SOURCES = sorted(PACKAGE.rglob("*.py"))
POLICY = Path(__file__).parents[2] / "SECURITY.md"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

RUN_DATA = {"eval", "exec", "compile", "__import__", "breakpoint"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "code"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"}
OPENERS = {
    "open", "read_bytes", "read_text", "write_bytes", "write_text", "fromfile", "memmap", "mmap", "touch",
    "symlink_to", "hardlink_to", "fdopen", "CDLL", "connect", "urlopen", "Popen", "run_path",
}  # fmt: skip
# Who opens what in the runtime wing: a module's calls, and why, in SECURITY.md.
OPENS = {
    "bundle": {"open", "write_bytes"},
    "cgroup": {"read_text"},
    "cpu": {"read_text"},
    "entries": {"open", "write_text"},
    "files": {"open"},
    "folders": {"CDLL", "open"},
    "forking": {"CDLL"},
    "mapped": {"CDLL", "read_text"},
    "memory": {"read_text"},
    "ort_options": {"mmap", "open"},
    "session": {"read_bytes"},
    "settings": {"open"},
    "source": {"mmap", "open"},
    "stamps": {"read_text"},
}


def dotted(node: ast.expr) -> str:
    """`a.b.c` as written; what is no chain of names keeps its last attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(text: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))


def dangers(text: str) -> list[str]:
    """Everything in a source by which data could become code or a command."""
    found = []
    for node in ast.walk(ast.parse(text)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        found += [module for module in modules if module.split(".")[0] in UNPICKLERS]
    for call in calls(text):
        name = dotted(call.func)
        if name in RUN_DATA | SHELLS or name.endswith(("torch.load", "yaml.load")):
            found.append(name)
        for keyword in call.keywords:
            refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in {"allow_pickle", "shell"} and not refused:
                found.append(f"{name}({keyword.arg}=...)")
    return found


def opened(text: str) -> set[str]:
    """Calls that reach a file, a library, a process or the network."""
    names = {dotted(call.func) for call in calls(text)} - {"Bundle.open"}  # which is the bundle's business
    return {name.rsplit(".", 1)[-1] for name in names} & OPENERS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_that_is_read_is_run(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)", "import pickle", "from marshal import loads", "np.load(p, allow_pickle=True)", "os.system(x)",
        "subprocess.run(x, shell=flag)", "torch.load(p)", "import os, cloudpickle.fast",
    ],
)  # fmt: skip
def test_a_danger_would_be_seen(text):
    assert len(dangers(text)) == 1


def test_what_is_harmless_is_not_a_danger():
    assert dangers("re.compile(x)\nmodel.eval()\nnp.load(p, allow_pickle=False)\nrun(x, shell=False)") == []


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_the_runtime_opens_files_in_few_places(path):
    allowed = OPENS.get(path.stem, set())
    assert opened(path.read_text(encoding="utf-8")) - {"load"} <= allowed | (
        {"open"} if _opens_bundles(path) else set()
    )


def _opens_bundles(path: Path) -> bool:
    """Whether its only `open` is `Bundle.open`, which is the bundle's business."""
    names = {dotted(call.func) for call in calls(path.read_text(encoding="utf-8"))}
    return {name for name in names if name.rsplit(".", 1)[-1] == "open"} <= {"Bundle.open"}


@pytest.mark.skipif(not POLICY.exists(), reason="installed without its documentation")
def test_the_policy_names_every_place_that_opens_files():
    section = POLICY.read_text(encoding="utf-8").partition("## What is opened")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(OPENS)


# Every path that Python opens or lists, and every address that it connects to, from before the model is loaded.
WATCHED = """
import json, sys
import numpy as np
import omni_sdk as omni
model, folder, cache = sys.argv[1:]
seen = []
WATCHED = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "socket.connect",
           "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "ctypes.dlopen"}
sys.addaudithook(lambda event, args: seen.append([event, str(args[0])]) if event in WATCHED else None)
with omni.load(model, cache_dir=cache) as loaded:
    loaded.warmup({"x": (2, 64), "past.h": (2, 32)})
    loaded.infer(x=np.ones((2, 64), np.float32), **{"past.h": np.zeros((2, 32), np.float32)})
    with loaded.stream() as stream:
        stream.step(x=np.ones((1, 64), np.float32))
    loaded.explain(), loaded.stats(), loaded.memory()
print(json.dumps(seen))
"""


def test_nothing_is_opened_but_what_was_asked(tmp_path):
    (tmp_path / "model").mkdir()
    model = tmp_path / "model" / "smoke.onnx"
    model.write_bytes((PACKAGE / "smoke.onnx").read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", WATCHED, str(model), str(model.parent), str(tmp_path / "cache")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(home), "TMPDIR": str(home)}
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "CI"):  # CI silences the telemetry too
        env.pop(name, None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    ours = (str(model.parent), str(tmp_path / "cache"))
    installed = (sys.prefix, sys.base_prefix, sys.exec_prefix, *(entry for entry in sys.path if entry))
    system = ("/proc/", "/sys/", "None")  # a library of no name is the C library, loaded long ago
    assert [event for event in seen if event[0] == "open" and event[1] == str(model)], "the watch saw nothing"
    strange = [[event, path] for event, path in seen if not path.startswith((*ours, *installed, *system))]
    assert strange == []
    assert list(home.rglob("*")) == []  # nor by ONNX Runtime, which keeps its telemetry there


@pytest.mark.skipif(not PYPROJECT.exists(), reason="installed without its project file")
def test_every_dependency_has_a_lower_bound():
    text = PYPROJECT.read_text(encoding="utf-8")
    project = text.partition("[project.scripts]")[0].partition("dependencies = [")[2]
    requirements = [line for line in re.findall(r'"([a-z][^"]*)"', project) if not line.startswith("omni-sdk[")]
    assert len(requirements) > 20
    for requirement in requirements:
        assert re.match(r"[\w.-]+(\[[\w,]+\])?(>=|==)\d", requirement), requirement


@pytest.mark.parametrize(("wish", "effect"), [(None, "1"), ("0", "0"), ("true", "true")])
def test_telemetry_is_off_unless_wished_for(wish, effect):
    # ONNX Runtime itself is told no, whatever the wish: this test reports to nobody.
    script = "import os\nos.environ['ORT_DISABLE_TELEMETRY'] = '1'\nimport onnxruntime\noff = []\n"
    script += "onnxruntime.disable_telemetry_events = lambda: off.append(1)\ndel os.environ['ORT_DISABLE_TELEMETRY']\n"
    script += f"os.environ |= {{}} if {wish!r} is None else {{'ORT_DISABLE_TELEMETRY': {wish!r}}}\n"
    script += "import omni_sdk\nprint(os.environ['ORT_DISABLE_TELEMETRY'], len(off))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == [effect, "0" if wish == "0" else "1"]
