"""Guards: their flags against their budget, whether their p-values are still uniform, and their cost."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import OF, Query, Row, bars, heat, label, lines, make, number

RATE = "$__rate_interval"
GUARD = f'{OF}, guard="$guard"'
BATCH = f'{OF}, stage=~"input_guards|model|output_guards"'


def dashboard() -> Dashboard:
    """Build the dashboard."""
    variables = [label("guard", f"guardhouse_guard_rows_total{{{OF}}}")]
    return make(
        "guards",
        "Guards",
        "What the guards flag, and whether their p-values still mean what they say.",
        rows(),
        variables,
    )


def rows() -> list[Row]:
    """Give the panels."""
    return [
        Row(
            "All guards",
            [
                lines(
                    "Flag rate, 1h",
                    "Share of rows that each guard flags; any is all of them together.",
                    Query(f"guardhouse:guard_flags:ratio1h{{{OF}}}", "{{guard}}"),
                    unit="percentunit",
                ),
                lines(
                    "Flag rate over threshold, 1h",
                    "1 on clean rows; the alert's limit is 2, if chance does not explain it.",
                    Query(
                        f"guardhouse:guard_flags:ratio1h{{{OF}}} / (guardhouse:guard_threshold:ratio{{{OF}}} > 0)",
                        "{{guard}}",
                    ),
                    unit="short",
                    limits=(2,),
                ),
                lines(
                    "Significance, 1h",
                    (
                        "Signed root of the likelihood ratio of flags against calibration, in standard "
                        "errors; no value if a guard flags less than it may."
                    ),
                    Query(f"guardhouse:guard_flags:z1h{{{OF}}}", "{{guard}}"),
                    unit="short",
                    limits=(4.7534,),
                ),
                lines(
                    "Excess of small p-values, 1h",
                    "The most by which the distribution of p-values lies above the uniform one.",
                    Query(f"guardhouse:guard_p_value:excess1h{{{OF}}}", "{{guard}}"),
                    unit="short",
                    limits=(0.1,),
                ),
                lines(
                    "Declared bounds broken",
                    "Rows that break a declared bound or category: they are flagged whatever the budget.",
                    Query(f"sum by (guard) (rate(guardhouse_guard_violations_total{{{OF}}}[{RATE}]))", "{{guard}}"),
                    unit="rowsps",
                ),
                lines(
                    "Crashes",
                    "Rows on which a guard raised an exception.",
                    Query(f"sum by (guard) (increase(guardhouse_guard_errors_total{{{OF}}}[{RATE}]))", "{{guard}}"),
                    unit="short",
                    limits=(1,),
                ),
            ],
        ),
        Row(
            "Guard $guard",
            [
                heat(
                    "P-values over time",
                    "Rows by p-value; on clean traffic every tenth has as many.",
                    Query(f"sum by (le) (increase(guardhouse_guard_p_value_bucket{{{GUARD}}}[{RATE}]))", "{{le}}"),
                    unit="none",
                    width=12,
                ),
                bars(
                    "Distribution, 1h",
                    "Share of rows with a p-value up to each bound: on clean rows as large as the bound.",
                    Query(f"sort(max by (le) (guardhouse:guard_p_value:ratio1h{{{GUARD}}}))", "p ≤ {{le}}"),
                    unit="percentunit",
                    width=12,
                ),
                number(
                    "Threshold",
                    "The p-value at and under which it flags: its share of the false-alarm budget.",
                    Query(f"guardhouse:guard_threshold:ratio{{{GUARD}}}", "{{guard}}"),
                    unit="percentunit",
                    width=6,
                ),
                number(
                    "Rows judged, 1h",
                    "Rows that it gave a p-value.",
                    Query(f"guardhouse:guard_rows:increase1h{{{GUARD}}}", "{{guard}}"),
                    unit="short",
                    width=6,
                ),
                number(
                    "Calibration rows",
                    "Held-out rows from which p-values are computed; 1e9 if the bundle does not say.",
                    Query(f"guardhouse:calibration_rows:max{{{OF}}}", "{{model}}"),
                    unit="short",
                    width=6,
                ),
                number(
                    "Chance",
                    "Bound on the probability of p-values so far from uniform by chance.",
                    Query(f"guardhouse:guard_p_value:uniform_p1h{{{GUARD}}}", "{{guard}}"),
                    unit="short",
                    width=6,
                ),
            ],
        ),
        Row(
            "Cost and explanations",
            [
                lines(
                    "Time of the stages",
                    "Mean time a batch spends in the guards before and after the model, beside the model's own.",
                    Query(
                        f"sum by (stage) (rate(guardhouse_stage_duration_seconds_sum{{{BATCH}}}[{RATE}]))"
                        f" / sum by (stage) (rate(guardhouse_stage_duration_seconds_count{{{BATCH}}}[{RATE}]))",
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "Explanations",
                    "By method and result.",
                    Query(
                        f"sum by (method, result) (rate(guardhouse_explanations_total{{{OF}}}[{RATE}])) > 0",
                        "{{method}} {{result}}",
                    ),
                    unit="reqps",
                ),
                lines(
                    "Time to explain, p95",
                    "By method.",
                    Query(
                        (
                            "histogram_quantile(0.95, sum by (method, le) "
                            f"(rate(guardhouse_explain_duration_seconds_bucket{{{OF}}}[{RATE}]))) >= 0"
                        ),
                        "{{method}}",
                    ),
                    unit="s",
                ),
            ],
        ),
    ]
