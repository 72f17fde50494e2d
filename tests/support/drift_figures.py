"""Computes the drift figures with numpy and scipy, and writes a series as PromQL does."""

import json
import math
from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp, kstwobign, norm

Counts = Mapping[str, int]
BINS = 10
SPECIAL = ("below", "above", "missing", "unseen")
ORDERED = ("below", *map(str, range(BINS)), "above", "missing")


def figures(live: Counts, reference: Counts) -> dict[str, float]:
    """Compute every figure from two histograms over the same bins; figures of an order only if the bins have one."""
    names = [name for name in reference if live[name] + reference[name]]
    whole = np.array([[counts[name] for name in names] for counts in (live, reference)])
    expected = np.outer(whole.sum(1), whole.sum(0)) / whole.sum() if whole.sum() else whole
    rare = (expected.min(0) < 5) & ~np.isin(names, SPECIAL)
    table = np.column_stack([whole[:, ~rare], whole[:, rare].sum(1)]) if rare.any() else whole
    rows, bins = table.sum(1), range(table.shape[1])
    smooth = (table + 0.5) / (rows[:, None] + len(bins) / 2)
    psi = ((smooth[0] - smooth[1]) * np.log(smooth[0] / smooth[1])).sum() - (len(bins) - 1) * (1 / rows).sum()
    found = {"rows": float(rows[0]), "reference_rows": float(rows[1]), "bins": float(len(bins))}
    if rare.any():
        found["pooled_ratio"] = float(whole[:, rare].sum() / whole.sum())
    if len(bins) > 1:
        test = chi2_contingency(table, correction=False)
        wilson_hilferty = 2 / (9 * test.dof)
        found["chi_squared"] = float(test.statistic)
        found["chi_squared_z"] = float(
            (np.cbrt(test.statistic / test.dof) - 1 + wilson_hilferty) / math.sqrt(wilson_hilferty)
        )
    if found.get("pooled_ratio", 0.0) <= 0.5 or found.get("chi_squared_z", 0.0) > norm.isf(1e-6):
        found |= {"psi": float(psi), "jensen_shannon_distance": float(jensenshannon(*table, base=2))}
    if "unseen" not in reference:
        places = np.arange(len(ORDERED) - 1)
        one, other = (np.repeat(places, [counts[name] for name in ORDERED[:-1]]) for counts in (live, reference))
        if len(one):
            statistic = float(ks_2samp(one, other, method="asymp").statistic)
            found["ks_statistic"] = statistic
            found["ks_p_value"] = float(
                kstwobign.sf(statistic * math.sqrt(len(one) * len(other) / (len(one) + len(other))))
            )
    return found


def spell(name: str, **labels: str) -> str:
    """Write a series as PromQL and the exposition format do, with any text in its labels."""
    return f"{name}{{{','.join(f'{key}={json.dumps(value, ensure_ascii=False)}' for key, value in labels.items())}}}"
