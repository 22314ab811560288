"""What pytest-benchmark wrote with `--benchmark-json`, as tables of this package's report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omni_sdk.errors import InputError
from omni_sdk.tools.measure.tables import NONE, Table, seconds


@dataclass(frozen=True, slots=True)
class Suite:
    """Timings of one group of benchmarks, by name.

    Attributes
    ----------
    group : str
    timings : mapping of str to mapping of str to float
        pytest-benchmark's statistics of each, in seconds.
    """

    group: str
    timings: Mapping[str, Mapping[str, float]]

    def table(self) -> Table:
        """Fastest first, each with its ratio to the fastest."""
        ordered = sorted(self.timings.items(), key=lambda item: item[1]["median"])
        best = ordered[0][1]["median"]
        rows = tuple(
            (
                name,
                seconds(stats["min"]),
                seconds(stats["median"]),
                seconds(stats["iqr"]),
                seconds(stats["max"]),
                f"{stats['rounds']:.0f}",
                f"{stats['median'] / best:.2f}" if best > 0.0 else NONE,
            )
            for name, stats in ordered
        )
        columns = ("benchmark", "least", "median", "middle half", "most", "rounds", "to the fastest")
        return Table(self.group or "Benchmarks", columns, rows)


@dataclass(frozen=True, slots=True)
class Suites:
    """One file of pytest-benchmark's."""

    machine: str
    when: str
    groups: tuple[Suite, ...]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Suites:
        """From the JSON.

        Raises
        ------
        InputError
            When it has another form, or holds no benchmark.
        """
        groups: dict[str, dict[str, Mapping[str, float]]] = {}
        try:
            entries = list(plain["benchmarks"])
            names = Counter((entry["group"] or "", entry["name"]) for entry in entries)
            for entry in entries:
                wanted = ("min", "median", "iqr", "max", "rounds")
                stats = {name: float(entry["stats"][name]) for name in wanted}
                group = entry["group"] or ""
                # Tests of one name in two files are told apart by their files.
                key = "name" if names[group, entry["name"]] == 1 else "fullname"
                groups.setdefault(group, {})[entry[key]] = stats
            here = plain["machine_info"]
            name = str(here["cpu"].get("brand_raw") or here["machine"])
            found = cls(name, str(plain["datetime"]), tuple(Suite(group, each) for group, each in groups.items()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"Expected pytest-benchmark's JSON, got a file without {error} - at its JSON") from error
        if not groups:
            raise InputError("Expected at least one benchmark, got none - at its JSON")
        return found
