"""The manifest of a bundle: its types, and a reader that takes nothing on trust.

A manifest is one JSON object in UTF-8. `parse` accepts exactly what `render` writes: every key present, none unknown,
every value of its type, within the limits of `omni_sdk.strict`. The `fingerprint` is the XXH3-128 of all the rest in
canonical form, so a manifest that was edited or damaged is known for it. XXH3 guards against accidents; it is no
signature, and a bundle is as trustworthy as whoever could write its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import xxhash

from omni_sdk.errors import BundleError
from omni_sdk.files import FileEntry, files_of
from omni_sdk.strict import JSON, Reader, decode, refuse

FORMAT = "omni-sdk bundle"
SCHEMA = 1
FILENAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Audio:
    """What makes a model an audio model.

    Parameters
    ----------
    sample_rate : int
        Of the waveform, Hz.
    hop : int
        Samples per frame of the input.
    input, output : str
        Names of the codes or frames that go in and of the waveform that comes out.
    first_chunk_deficit : int, default 0
        Samples by which a stream's first chunk is shorter than `frames * hop`.
    """

    sample_rate: int
    hop: int
    input: str
    output: str
    first_chunk_deficit: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a bundle says of itself.

    Parameters
    ----------
    schema : int
        Version of this layout; at most `SCHEMA`.
    graph : str
        Name of the ONNX graph among `files`.
    files : tuple of FileEntry
        Every file of the bundle but the manifest, by name.
    state : mapping of str to str
        Carried state: each input's name to the output that feeds it in the next step.
    audio : Audio or None
        Set where the model makes audio.
    opset : mapping of str to int
        Operator domain to version.
    operators : int
        Version of this package's operator set that the graph needs; 0 where it needs none.
    quality, provenance : mapping of str to JSON
        Measured figures, and where the model came from.
    fingerprint : str
        XXH3-128 over everything above: 32 lowercase hexadecimal digits.
    """

    schema: int
    graph: str
    files: tuple[FileEntry, ...]
    state: Mapping[str, str]
    audio: Audio | None
    opset: Mapping[str, int]
    operators: int
    quality: Mapping[str, JSON]
    provenance: Mapping[str, JSON]
    fingerprint: str


def render(
    *,
    graph: str,
    files: Sequence[FileEntry],
    state: Mapping[str, str],
    audio: Audio | None,
    opset: Mapping[str, int],
    operators: int,
    quality: Mapping[str, JSON],
    provenance: Mapping[str, JSON],
) -> bytes:
    """Write a manifest as the text that `parse` reads back.

    Returns
    -------
    bytes
        JSON in UTF-8, indented for people, with the fingerprint filled in.

    Raises
    ------
    BundleError
        Where a value is none that JSON or this schema can hold.
    """
    document: dict[str, JSON] = {
        "format": FORMAT,
        "schema": SCHEMA,
        "graph": graph,
        "files": [asdict(entry) for entry in files],
        "state": dict(state),
        "audio": None if audio is None else asdict(audio),
        "opset": dict(opset),
        "operators": operators,
        "quality": dict(quality),
        "provenance": dict(provenance),
    }
    try:
        document["fingerprint"] = _fingerprint(document)
        text = json.dumps(document, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(
            f"Expected values that JSON can hold, got one it cannot ({error}) - at the manifest"
        ) from error
    parse(text)
    return text


def parse(text: bytes) -> Manifest:
    """Read a manifest, or say what is wrong with it.

    Parameters
    ----------
    text : bytes
        The whole content of `manifest.json`.

    Returns
    -------
    Manifest

    Raises
    ------
    BundleError
        Where the text is no manifest of ours, is of a later schema, or holds anything but what the schema allows.
    """
    document = Reader(decode(text, "manifest"), "manifest")
    if document.take("format") != FORMAT:
        refuse(f"the format {FORMAT!r}", "another one (this folder is none of ours)", "manifest.format")
    schema = document.integer("schema", minimum=1)
    if schema > SCHEMA:
        raise BundleError(
            f"Expected a manifest of schema {SCHEMA} or earlier, got schema {schema} - at manifest.schema",
            hint="this bundle was made by a later release of omni-sdk; update it, or prepare the model again",
        )
    files = files_of(document)
    graph = document.string("graph")
    names = {entry.name for entry in files}
    if FILENAME in names:
        refuse("files beside the manifest", f"{FILENAME!r}", "manifest.files")
    if graph not in names:
        refuse("the name of a listed file", f"{graph!r}", "manifest.graph")
    state = document.strings("state")
    if len(set(state.values())) != len(state):
        refuse("each output to feed one input", "an output that feeds two", "manifest.state")
    manifest = Manifest(
        schema=schema,
        graph=graph,
        files=files,
        state=state,
        audio=_audio(document),
        opset=document.integers("opset"),
        operators=document.integer("operators"),
        quality=document.mapping("quality"),
        provenance=document.mapping("provenance"),
        fingerprint=document.digest("fingerprint"),
    )
    if manifest.fingerprint != _fingerprint(document.whole):
        refuse(
            "the fingerprint of what stands there",
            "another one (it was changed after it was written)",
            "manifest.fingerprint",
        )
    document.close()
    return manifest


def _audio(document: Reader) -> Audio | None:
    if document.peek("audio") is None:
        document.take("audio")
        return None
    item = Reader(document.take("audio"), "manifest.audio")
    audio = Audio(
        sample_rate=item.integer("sample_rate", minimum=1),
        hop=item.integer("hop", minimum=1),
        input=item.string("input"),
        output=item.string("output"),
        first_chunk_deficit=item.integer("first_chunk_deficit"),
    )
    item.close()
    return audio


def _fingerprint(document: Mapping[str, JSON]) -> str:
    rest = {key: value for key, value in document.items() if key != "fingerprint"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return xxhash.xxh3_128_hexdigest(canonical.encode())
