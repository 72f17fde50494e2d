"""The recording rules' expressions, in PromQL: rows in each bin, and the figures of drift that follow from them."""

import math

from guards.monitors.streams import BELOW, MISSING, SPECIAL, UNSEEN
from guards.statistics.e_values import EXPECTED
from guards.statistics.e_values import SIGNIFICANT as Z

__all__ = ["Z", "expressions", "series"]

MOST_POOLED = 0.5
MODEL = "namespace, job, model, bundle"
INSTANCE = "namespace, job, instance"
STREAM = f"window, {MODEL}, stream"
POOLED = 'pooled="true"'
EVERY_BIN = "ignoring (bin, pooled) group_left ()"


def expressions(window: str, bins: int) -> dict[str, str]:
    """Give the expression of each recording rule of a window, by name, in the order in which rules use each other.

    ``bins`` is the largest number of ordered bins of any stream.
    """
    return {**_counts(window), **_pooled(window), **_figures(window), **_kolmogorov_smirnov(window, bins)}


def series(name: str, window: str, *matchers: str) -> str:
    """Select the series of one of the recording rules in this file."""
    inside = ", ".join([f'window="{window}"', *matchers])
    return f"guardhouse:drift_{name}{{{inside}}}"


def _counts(window: str) -> dict[str, str]:
    """Give the rows in each bin, of the window and of the reference.

    The rules add up increases, and never take the increase of a sum: a restart of one replica resets its counters.
    Every instance counts for the bundle that the instance serves, since each bundle has bins of its own. If an instance
    changed its bundle within the window, the instance is left out until the window has passed: its counters do not tell
    which rows came before the change.
    """
    info = f"max_over_time(guardhouse_build_info[{window}])"
    served = f"on ({INSTANCE}) group_left (model, bundle) {series('instances', window)}"
    live, reference = series("bin_rows", window), series("reference_bin_rows", window)

    def gauge(metric: str, labels: str) -> str:
        # The last five minutes count: a failed scrape or a restart of the only replica must not end the reference.
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
        "bin_ratio": f"{live} / {EVERY_BIN} ({series('rows', window)} > 0)",
        "reference_bin_ratio": f"{reference} / {EVERY_BIN} ({series('reference_rows', window)} > 0)",
    }


def _pooled(window: str) -> dict[str, str]:
    """Give the bins that the figures without an order compare; rare bins are put together into one, labelled `pooled`.

    If a bin has few rows, theory holds neither for chi-squared nor for the bias that is taken off PSI. Which bins are
    rare is decided by the rows of both samples. If the reference alone decided, the bins that are kept would be those
    of which the reference has too many rows by chance.
    """
    own = f'bin!~"{"|".join(SPECIAL)}"'
    live, reference, rare = (
        series("bin_rows", window),
        series("reference_bin_rows", window),
        series("rare_bin_rows", window),
    )
    rows, total = series("rows", window), series("reference_rows", window)

    def pooled(samples: str) -> str:
        rest = f"sum by ({STREAM}) ({samples} and {rare})"
        return f"""
({samples} unless {rare})
or label_replace({rest}, "pooled", "true", "", "")"""

    together = f"{series('pooled_bin_rows', window, POOLED)} + {series('pooled_reference_bin_rows', window, POOLED)}"
    return {
        "rare_bin_rows": f"""
({series("bin_rows", window, own)} + {series("reference_bin_rows", window, own)})
* {EVERY_BIN} (({rows} + {total} - abs({rows} - {total})) / 2 / ({rows} + {total}))
< {EXPECTED:g}""",
        "pooled_bin_rows": pooled(live),
        "pooled_reference_bin_rows": pooled(reference),
        "pooled_ratio": f"sum by ({STREAM}) ({together}) / ({rows} + {total})",
        "bins": (
            f"count by ({STREAM}) "
            f"({series('pooled_bin_rows', window)} + {series('pooled_reference_bin_rows', window)} > 0)"
        ),
    }


def _figures(window: str) -> dict[str, str]:
    """Give the figures that do not depend on an order of the bins; a bin without rows in both samples does not count.

    The reference is a sample, too. So chi-squared is computed on the 2 x bins table, and PSI is reduced by its
    expectation without drift, (bins - 1) (1 / rows + 1 / reference rows). z follows Wilson and Hilferty (1931). If the
    pooled bin has more than half of all rows and the others do not differ significantly, there is too little to
    compare: then PSI and the distance are absent, and not small.
    :func:`guards.statistics.e_values.population_stability` computes the same PSI.
    """
    live, reference = series("pooled_bin_rows", window), series("pooled_reference_bin_rows", window)
    rows, total, bins = (
        f"({series('rows', window)} > 0)",
        f"({series('reference_rows', window)} > 0)",
        series("bins", window),
    )
    p, q, free = f"({live} / {EVERY_BIN} {rows})", f"({reference} / {EVERY_BIN} {total})", f"({bins} - 1)"
    smooth, smooth_reference = (
        f"({sample} + 0.5) / {EVERY_BIN} ({size} + {bins} / 2)" for sample, size in ((live, rows), (reference, total))
    )
    enough = f"""
unless (
  {series("pooled_ratio", window)} > {MOST_POOLED}
  unless {series("chi_squared_z", window)} > {Z}
)"""
    return {
        "chi_squared": f"""
{rows} * {total} * sum by ({STREAM}) (
  ({p} - {q}) ^ 2 / ({live} + {reference} > 0)
)""",
        "chi_squared_z": f"""
(
  ({series("chi_squared", window)} / ({free} > 0)) ^ (1 / 3)
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
    """Give Kolmogorov's and Smirnov's two-sample statistic and its asymptotic p-value, for streams with an order.

    Missing values are left out. A stream has an order if it has no `unseen` bin. PromQL cannot order labels, so that
    every cumulative sum is spelled out. Kolmogorov's distribution has two series: the rule changes from one to the
    other at a value at which three terms of either are exact to 1e-12.
    """
    present = f'bin!="{MISSING}"'
    p, q = series("bin_ratio", window, present), series("reference_bin_ratio", window, present)
    rows, total = (
        f"sum by ({STREAM}) ({series(name, window, present)})" for name in ("bin_rows", "reference_bin_rows")
    )
    below = [BELOW, *map(str, range(bins))]  # the sum over all, with `above`, is 0

    def cumulative(cut: int) -> str:
        difference = series("bin_difference", window, f'bin=~"{"|".join(below[: cut + 1])}"')
        return f'label_replace(sum by ({STREAM}) ({difference}), "cut", "{cut}", "", "")'

    scaled = series("ks_scaled", window)
    large, small = f"({scaled} >= 1)", f"clamp_min({scaled} < 1, 0.1)"
    return {
        "bin_difference": f"""
(
  {p} / {EVERY_BIN} (sum by ({STREAM}) ({p}) > 0)
  - {q} / {EVERY_BIN} (sum by ({STREAM}) ({q}) > 0)
)
unless on ({STREAM}) {series("bin_rows", window, f'bin="{UNSEEN}"')}""",
        "ks_statistic": f"max by ({STREAM}) (abs(\n  " + "\n  or ".join(map(cumulative, range(len(below)))) + "\n))",
        "ks_scaled": f"""
{series("ks_statistic", window)}
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
