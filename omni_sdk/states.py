"""Which inputs of a model carry on from which outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from omni_sdk.errors import StreamError
from omni_sdk.specs import TensorSpec

# Marks that exporters put on either side of a state's name: `past.x` -> `present.x`, `h_in` -> `h_out`,
# `state` -> `stateN`.
_INPUT_MARKS = re.compile(
    r"^(?:past|prev|previous|init|in|input|old|cache_in|state_in)[._]|[._](?:in|past|prev|old|init|i)$"
)
_OUTPUT_MARKS = re.compile(
    r"^(?:present|cur|current|next|new|out|output|cache_out|state_out)[._]|[._](?:out|present|next|new|cur|n|o)$|(?<=[a-z])[N]$"
)
_WEAK_MARKS = re.compile(r"^(?:in|input)[._]|[._](?:in|i)$")
_HINT = "name the pairs: model.stream(state={'input': 'output', ...})"


def check_pairs(
    pairs: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, str]:
    """State pairs as a user or a manifest gave them, input name -> output name.

    Raises
    ------
    StreamError
        For a name that the model does not have, an output that feeds two inputs, or a pair whose dtypes or ranks
        differ.
    """
    takes, gives = ({spec.name: spec for spec in specs} for specs in (inputs, outputs))
    for name, source in pairs.items():
        if name not in takes:
            raise StreamError(f"Expected an input ({', '.join(takes)}), got {name!r} - at state")
        if not isinstance(source, str) or source not in gives:
            raise StreamError(f"Expected an output ({', '.join(gives)}), got {source!r} - at state[{name!r}]")
        if not compatible(takes[name], gives[source]):
            raise StreamError(f"Expected a state like {takes[name]}, got {gives[source]} - at state[{name!r}]")
    twice = [source for source in pairs.values() if list(pairs.values()).count(source) > 1]
    if twice:
        raise StreamError(f"Expected each output to feed one input, got {twice[0]!r} twice - at state")
    return dict(pairs)


def match_pairs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """State pairs found by name and shape; empty when the model has none.

    Two names match when they are equal once the marks of a state's two ends are taken off, and one of them bore such a
    mark. `in` and `out` mark signals as well as states: where they would leave nothing that is new at a step, a single
    match is none, as of `in.wav` and `out.wav`.

    Raises
    ------
    StreamError
        When an input matches several outputs, or bears a mark of state and matches none, or when any of several inputs
        may be the one that is new at each step.
    """
    pairs: dict[str, str] = {}
    # Names marked at both ends go first: beside `past.x` and `present.x`, an input `x` is what is new.
    for matches in (_marked_at_both_ends, _marked_at_one_end):
        free = [other for other in outputs if other.name not in pairs.values()]
        for spec in [spec for spec in inputs if spec.name not in pairs]:
            found = [other.name for other in free if compatible(spec, other) and matches(spec.name, other.name)]
            if len(found) > 1:
                raise StreamError(
                    f"Expected one output for the state {spec.name!r}, got {', '.join(found)} - at stream", hint=_HINT
                )
            if found:
                pairs[spec.name] = found[0]
    lost = [spec.name for spec in inputs if spec.name.startswith(("past.", "past_")) and spec.name not in pairs]
    if lost:
        raise StreamError(
            f"Expected an output that carries the state {lost[0]!r} on, got {_names(outputs)} - at stream", hint=_HINT
        )
    if len(pairs) == len(inputs) and any(_WEAK_MARKS.search(name) for name in pairs):
        if len(pairs) == 1:
            return {}
        raise StreamError(
            f"Expected an input that is new at each step, got {_names(inputs)}, which all look like states - at stream",
            hint=_HINT,
        )
    return check_pairs(pairs, inputs, outputs)


def open_pairs(
    pairs: Mapping[str, str] | None, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, str]:
    """Pairs that were named, checked; with None, those found by name. `StreamError` when there are none."""
    found = match_pairs(inputs, outputs) if pairs is None else check_pairs(pairs, inputs, outputs)
    if not found:
        raise StreamError(
            f"Expected a model with state, got none among {', '.join(map(str, inputs))} - at stream",
            hint="name the pairs with state={'input': 'output'}, or give window=Window(...)",
        )
    return found


def with_first_states(
    feeds: dict[str, Any], pairs: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, Any]:
    """Feeds of a streaming form run at once: states that are left out, all of them, are a stream's first ones."""
    if not pairs or pairs.keys() & feeds.keys():
        return feeds
    shapes = first_shapes(pairs, inputs, outputs, feeds)
    return {**feeds, **{spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in inputs if spec.name in pairs}}


def first_shapes(
    pairs: Mapping[str, str], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], feeds: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Shape of each state before the first step, by input name.

    A symbolic size is what the feeds have under the same symbol; one that grows (the output calls it otherwise) starts
    at 0; any other is a batch of one.

    Parameters
    ----------
    pairs : mapping of str to str
        State input -> state output.
    inputs, outputs : sequence of TensorSpec
        Of the model.
    feeds : mapping of str to ndarray
        The first step's, states left out.
    """
    return shapes_at_first(pairs, inputs, outputs, {name: _shape(value) for name, value in feeds.items()})


def shapes_at_first(
    pairs: Mapping[str, str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    shapes: Mapping[str, Sequence[int]],
) -> dict[str, tuple[int, ...]]:
    """`first_shapes`, of feeds of these shapes."""
    sizes = {
        symbol: size
        for spec in inputs
        if spec.name in shapes and spec.name not in pairs
        for symbol, size in zip(spec.shape, shapes[spec.name], strict=False)
        if isinstance(symbol, str)
    }
    after = {spec.name: spec.shape for spec in outputs}
    return {
        spec.name: tuple(
            size
            if isinstance(size, int)
            else sizes.get(size or "", 0 if _grows(size, axis, after[pairs[spec.name]]) else 1)
            for axis, size in enumerate(spec.shape)
        )
        for spec in inputs
        if spec.name in pairs
    }


def _shape(value: Any) -> tuple[int, ...]:
    """Of a feed that nobody has checked yet; () of what has none, which the check refuses with a sentence."""
    try:
        return np.shape(value)
    except ValueError:  # a ragged list
        return ()


def _grows(size: str | None, axis: int, after: tuple[int | str | None, ...]) -> bool:
    return size is not None and axis < len(after) and isinstance(after[axis], str) and after[axis] != size


def compatible(taken: TensorSpec, given: TensorSpec) -> bool:
    """Whether what one step gives can be what the next one takes."""
    if taken.type != given.type or taken.element is None or taken.element.packed:
        return False
    if len(taken.shape) != len(given.shape):
        return not taken.shape or not given.shape  # one of them is of unknown rank
    pairs = zip(taken.shape, given.shape, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _marked_at_both_ends(taken: str, given: str) -> bool:
    left, right = _INPUT_MARKS.sub("", taken), _OUTPUT_MARKS.sub("", given)
    return left == right and left != taken and right != given


def _marked_at_one_end(taken: str, given: str) -> bool:
    return taken != given and (_INPUT_MARKS.sub("", taken) == given or taken == _OUTPUT_MARKS.sub("", given))


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(spec.name for spec in specs)
