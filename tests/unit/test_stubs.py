"""The stubs of the compiled modules say what the modules have, name for name."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import omni_sdk

FOLDER = Path(omni_sdk.__file__).parent
STUBS = sorted(path.stem for path in FOLDER.glob("*.pyi"))
# What Cython gives every extension type, and the compiler every module.
GIVEN = {"__init__", "__buffer__"}


def stub(module):
    return ast.parse((FOLDER / f"{module}.pyi").read_text()).body


def names(body):
    found = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            found.add(node.target.id)
    return found


def public(thing):
    return {name for name in vars(thing) if not name.startswith("_")}


def own(module):
    """Public classes and functions that a compiled module defines itself."""
    return {name for name in public(module) if getattr(getattr(module, name), "__module__", "") == module.__name__}


def test_each_typed_extension_has_a_stub():
    assert STUBS == ["_buffers", "_keys", "_runs"]


@pytest.mark.parametrize("name", STUBS)
def test_a_stub_names_what_its_module_defines(name):
    module = importlib.import_module(f"omni_sdk.{name}")
    assert names(stub(name)) == own(module)


@pytest.mark.parametrize("name", STUBS)
def test_classes_have_the_same_members(name):
    module = importlib.import_module(f"omni_sdk.{name}")
    for node in stub(name):
        if isinstance(node, ast.ClassDef):
            assert names(node.body) - GIVEN == public(getattr(module, node.name)), node.name


@pytest.mark.parametrize("name", STUBS)
def test_functions_take_the_same_parameters(name):
    module = importlib.import_module(f"omni_sdk.{name}")
    seen = 0
    for node in stub(name):
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        holder = getattr(module, node.name) if isinstance(node, ast.ClassDef) else module
        for member in members:
            if not isinstance(member, ast.FunctionDef) or member.name in GIVEN:
                continue
            try:
                have = list(inspect.signature(getattr(holder, member.name)).parameters)
            except ValueError:  # a function without a signature to look at
                continue
            seen += 1
            told = (*member.args.posonlyargs, *member.args.args, *member.args.kwonlyargs)
            assert [argument.arg for argument in told] == have, member.name
    assert seen
