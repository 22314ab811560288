"""A model as a step of a Ray Data pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.util import metrics as ray_metrics

from omni_sdk.bundle import Bundle, Manifest, is_bundle
from omni_sdk.errors import InputError, ModelError
from omni_sdk.model import Model
from omni_sdk.settings import Settings
from omni_sdk.tools.scale import rows as row_wise
from omni_sdk.tools.scale.loading import load_with_manifest
from omni_sdk.tools.scale.metrics import Metrics
from omni_sdk.tools.scale.resources import fitted, read_settings
from omni_sdk.tools.scale.rows import Bucket, Feeds

if TYPE_CHECKING:
    import pyarrow as pa

ERROR = "error"
MAX_STACK = 32

Columns = Mapping[str, Any]


class InferBatches:
    """Runs a model on the rows of batches: the class that `Dataset.map_batches` makes actors of.

    >>> dataset.map_batches(
    ...     InferBatches, fn_constructor_args=("code2wav",), batch_size=16, num_cpus=1,
    ...     compute=ray.data.ActorPoolStrategy(size=4),
    ... )  # doctest: +SKIP

    Each actor loads the model once, from the compile cache, whose weights are mapped: actors of one node share their
    pages. Threads are the CPUs that Ray gave the actor, where the settings leave them to `"auto"`. Leave a CPU's part
    free for reading: actors that ask for all of them leave Ray Data nothing to read with, and it waits for ever.

    A row has one array for each input, with the model's first dimension or without; rows of any lengths may stand in
    one batch. The batch that comes back has the outputs and the columns that are no inputs, row by row, and a
    column of errors: None, or a struct of the row's `index` in the batch and the `reason` for which it has no
    outputs (NaN, or empty arrays). An error of one row is no other row's. Outputs are of one rank in every batch,
    however the rows came: without the model's first dimension, or with it (`keep_first`).

    Parameters
    ----------
    model : path or Model
        A bundle, an `.onnx` file, or a model loaded from one, whose settings and cache folder then hold. A model that
        is sent to an actor is loaded there, and once more where its threads are `"auto"`: a path is loaded once.
    settings : Settings, str or mapping, optional
        Settings, a preset's name, or fields; default `balanced`.
    cache_dir : path or None, optional
        As for `omni_sdk.load`.
    columns : mapping of str to str, optional
        Input -> column that holds it; default: the column of the input's name.
    constants : mapping of str to value, optional
        Inputs that are the same for every row.
    outputs : sequence of str, optional
        Which to keep; default: all but carried states.
    max_stack : int, default 32
        Rows of one run at most, where the model takes several.
    keep_first : bool, optional
        Whether a row's outputs have the model's first dimension. Default: they have it only where no input has another
        behind one that a row may leave out.

    Raises
    ------
    InputError
        When `columns`, `constants` or `outputs` name what the model has not, a constant does not fit its input, an
        output has the name of the errors, or a stack is to have no row.
    ModelError
        When the model takes something else than tensors.
    """

    def __init__(
        self,
        model: str | PathLike[str] | Model,
        settings: Settings | str | dict[str, object] | None = None,
        *,
        cache_dir: str | PathLike[str] | EllipsisType | None = ...,
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        max_stack: int = MAX_STACK,
        keep_first: bool | None = None,
    ) -> None:
        if max_stack < 1:
            raise InputError(f"Expected a stack of 1 row or more, got {max_stack} - at max_stack")
        self._model, source, carried = _loaded(model, settings, cache_dir)
        self._constants = row_wise.constants(constants or {}, self._model.inputs)
        self._inputs = [s for s in self._model.inputs if s.name not in carried and s.name not in self._constants]
        self._outputs = [s for s in self._model.outputs if s.name not in carried]
        self._columns = {spec.name: spec.name for spec in self._inputs} | dict(columns or {})
        self._check(columns or {}, outputs)
        if outputs is not None:
            self._outputs = [spec for spec in self._outputs if spec.name in outputs]
        self._stackable = row_wise.is_stackable(self._inputs, self._outputs) and not self._constants
        self._max_stack = max_stack
        self._keep_first = not row_wise.has_rows(self._inputs) if keep_first is None else keep_first
        self._metrics = Metrics(ray_metrics, source)

    def __call__(self, batch: Columns | pa.Table) -> dict[str, Any]:
        """Run every row of a batch.

        Parameters
        ----------
        batch : mapping of str to ndarray, or pyarrow.Table
            As `batch_format="numpy"` or `"pyarrow"` gives it; tensors of a table are read where they lie.

        Returns
        -------
        dict
            Columns by name.

        Raises
        ------
        InputError
            When the batch lacks a column, or has one that would be replaced: that is no row's fault.
        """
        table = batch if isinstance(batch, Mapping) else {name: _numpy(batch[name]) for name in batch.column_names}
        taken = {name: self._taken(table, column) for name, column in self._columns.items()}
        kept = row_wise.kept(table, self._columns.values(), [*(spec.name for spec in self._outputs), ERROR])
        count = len(next(iter(table.values()))) if table else 0
        errors: list[dict[str, object] | None] = [None] * count
        ready: dict[int, Feeds] = {}
        for row in range(count):
            try:
                ready[row] = row_wise.feeds_of(taken, row, self._inputs)
            except Exception as error:
                errors[row] = _told(row, error)
        results: dict[str, list[np.ndarray | None]] = {spec.name: [None] * count for spec in self._outputs}
        for bucket in row_wise.buckets(ready, self._inputs, stackable=self._stackable, most=self._max_stack):
            self._run(bucket, ready, results, errors)
        self._metrics.publish(self._model.stats())
        made = {s.name: row_wise.column(results[s.name], s, keep_first=self._keep_first) for s in self._outputs}
        return {**kept, **made, ERROR: _errors(errors)}

    def _run(
        self,
        bucket: Bucket,
        ready: Mapping[int, Feeds],
        results: dict[str, list[np.ndarray | None]],
        errors: list[dict[str, object] | None],
    ) -> None:
        try:
            outputs = self._model.infer({**bucket.feeds, **self._constants})
            found = {name: bucket.apart(outputs[name], name, keep_first=self._keep_first) for name in results}
        except Exception as error:  # also what is no fault of the row's: the others' results are not lost with it
            if len(bucket.rows) == 1:
                errors[bucket.rows[0]] = _told(bucket.rows[0], error)
                return
            for row in bucket.rows:  # one of them is at fault: each by itself
                alone = {row: ready[row]}
                for single in row_wise.buckets(alone, self._inputs, stackable=self._stackable, most=1):
                    self._run(single, ready, results, errors)
            return
        for name, values in results.items():
            for row, part in zip(bucket.rows, found[name], strict=True):
                values[row] = part

    def _taken(self, table: Columns, column: str) -> Any:
        if column not in table:
            raise InputError(
                f"Expected a column {column!r}, got {', '.join(table) or 'none'} - at the batch",
                hint="name the column of each input: columns={'input': 'column'}",
            )
        return table[column]

    def _check(self, columns: Mapping[str, str], outputs: Sequence[str] | None) -> None:
        named = {
            "columns": (columns, [spec.name for spec in self._inputs]),
            "outputs": (outputs or (), [spec.name for spec in self._outputs]),
        }
        for where, (given, known) in named.items():
            for name in given:
                if name not in known:
                    raise InputError(f"Expected some of {', '.join(known)}, got {name!r} - at {where}")
        if ERROR in ([spec.name for spec in self._outputs] if outputs is None else outputs):
            raise InputError(f"Expected outputs with other names than {ERROR!r}, where errors go, got one - at outputs",
                             hint="say which outputs to keep: outputs=['...']")  # fmt: skip
        for spec in (*self._inputs, *self._outputs):
            if spec.element is None:
                raise ModelError(f"Expected tensors of numbers, got {spec} - at InferBatches")


def _loaded(
    model: str | PathLike[str] | Model,
    settings: Settings | str | dict[str, object] | None,
    cache_dir: str | PathLike[str] | EllipsisType | None,
) -> tuple[Model, str, set[str]]:
    """The model with the threads that Ray gave, where it came from, and what it carries from step to step."""
    if not isinstance(model, Model):
        made, manifest = load_with_manifest(model, fitted(read_settings(settings)), cache_dir)
        return made, str(model), _carried(manifest)
    for what, given in (("settings", settings is not None), ("cache_dir", cache_dir is not ...)):
        if given:
            raise InputError(f"Expected {what} with a path alone, got it with a loaded model - at InferBatches")
    again, _ = model.__reduce__()  # says why where a model cannot be made again
    (source, own), own_cache = again.args, again.keywords["cache_dir"]
    wanted = fitted(own)
    if wanted != own:
        made, manifest = load_with_manifest(source, wanted, own_cache)
        return made, str(source), _carried(manifest)
    return model, str(source), _carried(Bundle.open(source).manifest if is_bundle(source) else None)


def _carried(manifest: Manifest | None) -> set[str]:
    return {*manifest.state, *manifest.state.values()} if manifest is not None else set()


def _numpy(column: pa.ChunkedArray) -> np.ndarray:
    """A column of a table; of one chunk of tensors, a view of it."""
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    array: np.ndarray = whole.to_numpy(zero_copy_only=False)
    return array


def _told(row: int, error: Exception) -> dict[str, object]:
    return {"index": row, "reason": f"{type(error).__name__}: {error}"}


def _errors(errors: list[dict[str, object] | None]) -> np.ndarray:
    column = np.empty(len(errors), object)
    column[:] = errors
    return column
