"""A model's inputs made in a process of its own, so that neither its memory nor a crash of it reaches the parent."""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Reads a job (`model`, `shapes`, `values`, `seed`, `inputs`), writes the feeds to `inputs`."""
    import omni_sdk
    from omni_sdk.tools.evaluate.values import write_arrays
    from omni_sdk.tools.measure.inputs import make_up

    job = json.load(sys.stdin)
    # Specs need no optimized graph, no packed weights and no memory beyond the file's own.
    settings = omni_sdk.Settings(graph_optimization_level="disable", prepacking=False, intra_op_num_threads=1)
    try:
        with omni_sdk.load(job["model"], settings, cache_dir=None) as model:
            feeds = make_up(model.inputs, job["shapes"], job["seed"], job["values"])
    except omni_sdk.OmniError as error:
        sys.stderr.write(f"{str(error).removesuffix(f'  hint: {error.hint}').rstrip()}\0{error.hint or ''}")
        return 1 if isinstance(error, omni_sdk.ModelError) else 2
    except (MemoryError, OverflowError, ValueError) as error:  # numpy's words for sizes beyond it
        sys.stderr.write(f"Expected shapes that fit into memory, got {job['shapes']} ({error}) - at shapes")
        return 2
    write_arrays(job["inputs"], feeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
