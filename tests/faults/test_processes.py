"""Models in other processes than the one that loaded them: spawned ones load their own."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from victims import SETTINGS, WIDTH, dense

import omni_sdk as omni

X = np.ones((2, WIDTH), np.float32)


def answer(model: omni.Model) -> np.ndarray:
    return model.infer(x=X)["y"]


@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods())))
def test_a_model_given_to_another_process_answers_there(method, tmp_path):
    path = dense(tmp_path / "model.onnx")
    with (
        omni.load(path, SETTINGS, cache_dir=tmp_path / "cache") as model,
        ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool,
    ):
        right = answer(model)
        assert all((found == right).all() for found in pool.map(answer, [model] * 4))
        assert (answer(model) == right).all()


def test_a_model_from_bytes_says_that_it_cannot_be_given(tmp_path):
    data = dense(tmp_path / "model.onnx", external=False).read_bytes()
    with (
        omni.load(data, SETTINGS, cache_dir=None) as model,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        pytest.raises(omni.ModelError, match="loaded from a path"),
    ):
        pool.submit(answer, model).result(60)
