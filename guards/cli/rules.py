"""``guardhouse rules``: writes recording rules and alerts for Prometheus that measure drift over all replicas.

The rules hold for every stream of every model behind one Prometheus: no rule names a stream or a category, so that no
name which a user chose has to be written in PromQL. From the bundle the rules need only the largest number of ordered
bins, since every cumulative sum is spelled out.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from guards.bundle.manifest import read_manifest
from guards.cli.drift_expressions import Z, expressions, series
from guards.monitors.streams import StreamParams
from guards.statistics.e_values import SIGNIFICANCE
from guards.types import Mistake

__all__ = ["WINDOWS", "ordered_bins", "render"]

WINDOWS = ("1h", "1d")
PSI_WARNING, PSI_CRITICAL = 0.1, 0.25
ROWS = 500
RUNBOOK = "https://github.com/guardhouse/guardhouse/blob/main/docs/runbook.md#drift"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
HEADER = """\
# Drift of every stream against its reference, added up over replicas: written by `guardhouse rules`, do not edit.
# What the figures are, and what to do when one alarms: docs/runbook.md. Why they are so: docs/decisions.
"""


def ordered_bins(bundle: Path) -> int:
    """Give the largest number of equal-mass bins that a continuous stream of a bundle has.

    Raises:
        Mistake: there is no bundle, or none of its monitors counts streams.
    """
    config = read_manifest(bundle, verify=False).config
    bins = [params.bins for params in config.monitors if isinstance(params, StreamParams)]
    if not bins:
        raise Mistake(f"{bundle}: monitors: none counts streams; add {{name: streams, kind: bins}} and fit anew")
    return max(bins)


def render(bins: int, windows: Sequence[str] = WINDOWS) -> str:
    """Write the rule file for continuous streams of up to ``bins`` bins, with one rule group for each window.

    Raises:
        Mistake: a window is no duration, or is given twice.
    """
    for window in windows:
        if not re.fullmatch(r"[1-9]\d*[smhdw]", window):
            raise Mistake(f"--window {window}: no duration; give a number and one of s, m, h, d, w, such as 1h")
        if windows.count(window) > 1:
            raise Mistake(f"--window {window}: it is given twice")
    document = {"groups": [_group(bins, window) for window in windows]}
    return HEADER + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def _group(bins: int, window: str) -> dict[str, object]:
    seconds = int(window[:-1]) * SECONDS[window[-1]]
    records: list[dict[str, object]] = [
        {"record": f"guardhouse:drift_{name}", "expr": expr.strip(), "labels": {"window": window}}
        for name, expr in expressions(window, bins).items()
    ]
    hold = f"{max(1, seconds // 12)}s"
    return {
        "name": f"guardhouse-drift-{window}",
        "interval": f"{min(300, max(1, seconds // 60))}s",
        "rules": [*records, _alert(window, hold, "warning"), _alert(window, hold, "critical")],
    }


def _alert(window: str, hold: str, severity: str) -> dict[str, object]:
    psi = PSI_CRITICAL if severity == "critical" else PSI_WARNING
    return {
        "alert": "GuardhouseDrift",
        "expr": f"""
{series("psi", window)} > {psi}
and ({series("chi_squared_z", window)} > {Z} or {series("ks_p_value", window)} < {SIGNIFICANCE})
and {series("rows", window)} >= {ROWS}""".strip(),
        "for": hold,
        # The series have the label `window`, too. Without it here, promtool takes the alerts for the same alert.
        "labels": {"severity": severity, "window": window},
        "annotations": {
            "summary": "{{ $labels.stream }} of {{ $labels.model }} is not distributed as its reference is",
            "description": (
                "Over the last {{ $labels.window }} the stream {{ $labels.stream }} of {{ $labels.model }} "
                f'({{{{ $labels.job }}}}) has a PSI of {{{{ $value | printf "%.3f" }}}}, above {psi}, and chance is '
                f"an unlikely cause (p < {SIGNIFICANCE:g}, {ROWS} rows or more)."
            ),
            "runbook_url": RUNBOOK,
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes an expression of several lines as several lines."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
