"""The section of docs/benchmarks.md on reruns: shares of the first run's CPU seconds."""

from __future__ import annotations

from typing import Any

from benchmarks.report.tables import number, table

_HEADER = ("network", "pictures", "command", "CPU s", "share", "wanted", "seconds")
_COMMANDS = {"first": "first run", "rerun": "rerun, 5 % more pictures", "warm_start": "the same with `--warm-start`"}


def reruns_section(result: dict[str, Any]) -> str:
    """Return the section: a row for each network, set and command."""
    rows = []
    for measured in result["sets"].values():
        for network, commands in measured["networks"].items():
            for name, words in _COMMANDS.items():
                found = commands[name]
                pictures = measured["images"]["first" if name == "first" else "second"]
                shares = [number(value, 2) for value in (found.get("share"), result["limits"].get(name))]
                cost = number(found["cpu_s"]), *shares, number(found["seconds"], 0)
                rows.append((network, number(pictures, 0), words, *cost))
    text = (
        f"`python -m benchmarks reruns`, {result['measured'][:10]}: whole commands on the sample set with a frozen "
        "backbone, from start to publication, user and system time of the process and its children. What a run costs "
        "whatever the number of pictures is in each share ([0053](decisions/0053-reruns.md))."
    )
    return "\n\n".join(("## Reruns", text, table(_HEADER, rows)))
