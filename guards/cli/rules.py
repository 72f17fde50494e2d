"""``guardhouse rules``: drift over all replicas, as recording rules and alerts for Prometheus.

No rule names a stream or a category: they hold for every stream of every model behind one Prometheus, and nothing that
a user named is ever spelled in PromQL. What a bundle decides is how many ordered bins there are to cumulate.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from guards.bundle import Bundle
from guards.evidence import EXPECTED, SIGNIFICANCE
from guards.evidence import SIGNIFICANT as Z
from guards.streams import BELOW, MISSING, SPECIAL, UNSEEN, StreamParams
from guards.types import Mistake

__all__ = ["WINDOWS", "ordered_bins", "render"]

WINDOWS = ("1h", "1d")
PSI_WARNING, PSI_CRITICAL = 0.1, 0.25
MOST_POOLED = 0.5
ROWS = 500
RUNBOOK = "https://github.com/guardhouse/guardhouse/blob/main/docs/runbook.md#drift"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
HEADER = """\
# Drift of every stream against its reference, added up over replicas: written by `guardhouse rules`, do not edit.
# What the figures are, and what to do when one alarms: docs/runbook.md. Why they are so: docs/decisions.
"""
MODEL = "namespace, job, model, bundle"
INSTANCE = "namespace, job, instance"
STREAM = f"window, {MODEL}, stream"
POOLED = 'pooled="true"'
EVERY_BIN = "ignoring (bin, pooled) group_left ()"


def ordered_bins(bundle: Path) -> int:
    """Tell how many bins of equal mass the continuous streams of a bundle have, at most.

    Raises:
        Mistake: there is no bundle, or none of its monitors counts streams.
    """
    config, _, _ = Bundle.describe(bundle)
    bins = [params.bins for params in config.monitors if isinstance(params, StreamParams)]
    if not bins:
        raise Mistake(f"{bundle}: monitors: none counts streams; add {{name: streams, kind: bins}} and fit anew")
    return max(bins)


def render(bins: int, windows: Sequence[str] = WINDOWS) -> str:
    """Write the rule file for continuous streams of up to ``bins`` bins, one group for each window.

    Raises:
        Mistake: a window is no duration, or is there twice.
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
    figures = {**_counts(window), **_pooled(window), **_figures(window), **_kolmogorov_smirnov(window, bins)}
    records: list[dict[str, object]] = [
        {"record": f"guardhouse:drift_{name}", "expr": expr.strip(), "labels": {"window": window}}
        for name, expr in figures.items()
    ]
    hold = f"{max(1, seconds // 12)}s"
    return {
        "name": f"guardhouse-drift-{window}",
        "interval": f"{min(300, max(1, seconds // 60))}s",
        "rules": [*records, _alert(window, hold, "warning"), _alert(window, hold, "critical")],
    }


def _of(name: str, window: str, *matchers: str) -> str:
    """Select one of our own records."""
    inside = ", ".join([f'window="{window}"', *matchers])
    return f"guardhouse:drift_{name}{{{inside}}}"


def _counts(window: str) -> dict[str, str]:
    """Give rows by bin, of the window and of the reference: sums of increases, and never increases of sums.

    Every instance counts for the bundle that it serves, whose bins are its own; one that changed its bundle within the
    window is left out until the window has passed, because its counters do not tell which rows came before.
    """
    info = f"max_over_time(guardhouse_build_info[{window}])"
    served = f"on ({INSTANCE}) group_left (model, bundle) {_of('instances', window)}"
    live, reference = _of("bin_rows", window), _of("reference_bin_rows", window)

    def gauge(metric: str, labels: str) -> str:
        # Five minutes back: a scrape that fails, or the one replica's restart, is no end of the reference.
        return f"max by ({MODEL}, {labels}) (last_over_time({metric}[5m]) * {served})"

    return {
        "instances": f"""
max by ({INSTANCE}, model, bundle) ({info})
and on ({INSTANCE})
count by ({INSTANCE}) (max by ({INSTANCE}, bundle) ({info})) == 1""",
        "bin_rows": f"""
sum by ({MODEL}, stream, bin) (
  increase(guardhouse_stream_bin_total[{window}])
  * {served}
)""",
        "reference_bin_rows": f"""
{gauge("guardhouse_reference_bin_ratio", "stream, bin")}
* {EVERY_BIN}
{gauge("guardhouse_reference_rows", "stream")}""",
        "rows": f"sum by ({STREAM}) ({live})",
        "reference_rows": f"sum by ({STREAM}) ({reference})",
        "bin_ratio": f"{live} / {EVERY_BIN} ({_of('rows', window)} > 0)",
        "reference_bin_ratio": f"{reference} / {EVERY_BIN} ({_of('reference_rows', window)} > 0)",
    }


def _pooled(window: str) -> dict[str, str]:
    """Give the bins that figures without an order compare: rare bins put together into one, labelled `pooled`.

    In a bin of few rows neither chi-squared nor the bias that is taken off PSI is what theory says. Bins are chosen by
    the rows of both samples: chosen by the reference alone, they would be those that it happens to have too many of.
    """
    own = f'bin!~"{"|".join(SPECIAL)}"'
    live, reference, rare = _of("bin_rows", window), _of("reference_bin_rows", window), _of("rare_bin_rows", window)
    rows, total = _of("rows", window), _of("reference_rows", window)

    def pooled(samples: str) -> str:
        rest = f"sum by ({STREAM}) ({samples} and {rare})"
        return f"""
({samples} unless {rare})
or label_replace({rest}, "pooled", "true", "", "")"""

    together = f"{_of('pooled_bin_rows', window, POOLED)} + {_of('pooled_reference_bin_rows', window, POOLED)}"
    return {
        "rare_bin_rows": f"""
({_of("bin_rows", window, own)} + {_of("reference_bin_rows", window, own)})
* {EVERY_BIN} (({rows} + {total} - abs({rows} - {total})) / 2 / ({rows} + {total}))
< {EXPECTED:g}""",
        "pooled_bin_rows": pooled(live),
        "pooled_reference_bin_rows": pooled(reference),
        "pooled_ratio": f"sum by ({STREAM}) ({together}) / ({rows} + {total})",
        "bins": (
            f"count by ({STREAM}) ({_of('pooled_bin_rows', window)} + {_of('pooled_reference_bin_rows', window)} > 0)"
        ),
    }


def _figures(window: str) -> dict[str, str]:
    """Give the figures that know no order of bins; those that neither sample fills are no bins.

    The reference is a sample too: chi-squared is that of the 2 x bins table, and PSI has its expectation without
    drift, (bins - 1) (1 / rows + 1 / reference rows), taken off. Wilson and Hilferty (1931) for z. Where the pooled bin
    has more than half of all rows and the others do not differ significantly, there is too little to compare: PSI and
    the distance are absent, and not small. :func:`guards.evidence.population_stability` is the same PSI.
    """
    live, reference = _of("pooled_bin_rows", window), _of("pooled_reference_bin_rows", window)
    rows, total, bins = f"({_of('rows', window)} > 0)", f"({_of('reference_rows', window)} > 0)", _of("bins", window)
    p, q, free = f"({live} / {EVERY_BIN} {rows})", f"({reference} / {EVERY_BIN} {total})", f"({bins} - 1)"
    smooth, smooth_reference = (
        f"({sample} + 0.5) / {EVERY_BIN} ({size} + {bins} / 2)" for sample, size in ((live, rows), (reference, total))
    )
    enough = f"""
unless (
  {_of("pooled_ratio", window)} > {MOST_POOLED}
  unless {_of("chi_squared_z", window)} > {Z}
)"""
    return {
        "chi_squared": f"""
{rows} * {total} * sum by ({STREAM}) (
  ({p} - {q}) ^ 2 / ({live} + {reference} > 0)
)""",
        "chi_squared_z": f"""
(
  ({_of("chi_squared", window)} / ({free} > 0)) ^ (1 / 3)
  - (1 - 2 / (9 * {free}))
)
/ sqrt(2 / (9 * {free}))""",
        "psi": f"""
(
  sum by ({STREAM}) (
    (
      {smooth}
      - {smooth_reference}
    )
    * (
      ln({smooth})
      - ln({smooth_reference})
    )
    and {live} + {reference} > 0
  )
  - {free} * (1 / {rows} + 1 / {total})
){enough}""",
        "jensen_shannon_distance": f"""
sqrt(clamp_min(
  (
    sum by ({STREAM}) (({p} > 0) * ln(2 * {p} / ({p} + {q})))
    + sum by ({STREAM}) (({q} > 0) * ln(2 * {q} / ({p} + {q})))
  ) / {2 * math.log(2)}, 0
)){enough}""",
    }


def _kolmogorov_smirnov(window: str, bins: int) -> dict[str, str]:
    """Give the two-sample statistic over present values of the streams with an order, and its asymptotic p-value.

    PromQL cannot order labels, so that every cumulative sum is spelled out. A stream without an `unseen` bin has an
    order. The two series of Kolmogorov's distribution meet where three terms of either are exact to 1e-12.
    """
    present = f'bin!="{MISSING}"'
    p, q = _of("bin_ratio", window, present), _of("reference_bin_ratio", window, present)
    rows, total = (f"sum by ({STREAM}) ({_of(name, window, present)})" for name in ("bin_rows", "reference_bin_rows"))
    below = [BELOW, *map(str, range(bins))]  # the sum over all, with `above`, is 0

    def cumulative(cut: int) -> str:
        difference = _of("bin_difference", window, f'bin=~"{"|".join(below[: cut + 1])}"')
        return f'label_replace(sum by ({STREAM}) ({difference}), "cut", "{cut}", "", "")'

    scaled = _of("ks_scaled", window)
    large, small = f"({scaled} >= 1)", f"clamp_min({scaled} < 1, 0.1)"
    return {
        "bin_difference": f"""
(
  {p} / {EVERY_BIN} (sum by ({STREAM}) ({p}) > 0)
  - {q} / {EVERY_BIN} (sum by ({STREAM}) ({q}) > 0)
)
unless on ({STREAM}) {_of("bin_rows", window, f'bin="{UNSEEN}"')}""",
        "ks_statistic": f"max by ({STREAM}) (abs(\n  " + "\n  or ".join(map(cumulative, range(len(below)))) + "\n))",
        "ks_scaled": f"""
{_of("ks_statistic", window)}
* sqrt(
  {rows}
  * {total}
  / ({rows} + {total})
)""",
        "ks_p_value": f"""
2 * (exp(-2 * {large} ^ 2) - exp(-8 * {large} ^ 2) + exp(-18 * {large} ^ 2))
or
1 - 2.5066282746310002 / {small} * (
  exp(-1.2337005501361697 / {small} ^ 2)
  + exp(-11.103304951225528 / {small} ^ 2)
  + exp(-30.842513753404244 / {small} ^ 2)
)""",
    }


def _alert(window: str, hold: str, severity: str) -> dict[str, object]:
    psi = PSI_CRITICAL if severity == "critical" else PSI_WARNING
    return {
        "alert": "GuardhouseDrift",
        "expr": f"""
{_of("psi", window)} > {psi}
and ({_of("chi_squared_z", window)} > {Z} or {_of("ks_p_value", window)} < {SIGNIFICANCE})
and {_of("rows", window)} >= {ROWS}""".strip(),
        "for": hold,
        "labels": {"severity": severity, "window": window},  # the series say it too; promtool sees no two alike
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
    """Expressions over several lines stay over several lines."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
