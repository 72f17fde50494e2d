"""Overview: requests and answers, their speed, and what is left of the objectives."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import OF, PREDICTIONS, Query, Row, lines, make, number

RATE = "$__rate_interval"
BURN = ("5m", "1h", "6h", "3d")


def dashboard() -> Dashboard:
    """Build the dashboard."""
    return make("overview", "Overview", "Traffic, errors, latency, objectives and what was done to rows.", rows())


def rows() -> list[Row]:
    """Give the panels."""
    return [
        Row(
            "Objectives",
            [
                number(
                    "Availability, 1h",
                    "Share of predict requests that were answered without a 5xx. Objective: 99.9 %.",
                    Query(f'1 - guardhouse:slo_errors:ratio1h{{{OF}, slo="availability"}}', "available"),
                    unit="percentunit",
                ),
                number(
                    "Within 0.25 s, 1h",
                    "Share of predict requests that were answered within 0.25 s. Objective: 99 %.",
                    Query(f'1 - guardhouse:slo_errors:ratio1h{{{OF}, slo="latency"}}', "in time"),
                    unit="percentunit",
                ),
                number(
                    "Burn rate, 3d",
                    "How many times faster than 30 days allow the error budgets are spent; above 1 they will not last.",
                    Query(f"guardhouse:slo_burn:ratio3d{{{OF}}}", "{{slo}}"),
                    unit="short",
                    width=8,
                    limits=(1, 3),
                ),
                number(
                    "Replicas",
                    "Instances that have said within two minutes which model they serve.",
                    Query(f"guardhouse:replicas:count{{{OF}}}", "{{model}}"),
                    unit="short",
                ),
                number(
                    "Alerts",
                    "Alerts of Guardhouse that fire, as Prometheus has them.",
                    Query(
                        f'count(ALERTS{{{OF}, alertstate="firing", alertname=~"Guardhouse.*"}}) or vector(0)', "firing"
                    ),
                    unit="short",
                    limits=(1,),
                ),
                *(
                    lines(
                        f"Budget burn: {slo}",
                        (
                            "Burn rates over four windows. The alerts' limits are 14.4 (5m, 1h), 6 (6h), 3 "
                            "(1d) and 1 (3d)."
                        ),
                        *(Query(f'guardhouse:slo_burn:ratio{window}{{{OF}, slo="{slo}"}}', window) for window in BURN),
                        unit="short",
                        width=12,
                        limits=(1, 14.4),
                    )
                    for slo in ("availability", "latency")
                ),
            ],
        ),
        Row(
            "Traffic",
            [
                lines(
                    "Requests by code",
                    "All routes. 4xx are the clients'; 503 is shed or loading, 504 too late, 500 a fault of ours.",
                    Query(f"sum by (code) (rate(guardhouse_requests_total{{{OF}}}[{RATE}])) > 0", "{{code}}"),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Requests by route",
                    "Probes and scrapes included.",
                    Query(f"sum by (route) (rate(guardhouse_requests_total{{{OF}}}[{RATE}])) > 0", "{{route}}"),
                    unit="reqps",
                    stacked=True,
                ),
                lines(
                    "Refused",
                    "Share of the requests for work that were refused, by reason.",
                    Query(f"guardhouse:shed_requests:ratio5m{{{OF}}}", "{{reason}}"),
                    unit="percentunit",
                    limits=(0.01,),
                ),
                lines(
                    "Rows by action",
                    "What was done to the rows that were answered.",
                    Query(f"sum by (action) (rate(guardhouse_rows_total{{{OF}}}[{RATE}]))", "{{action}}"),
                    unit="rowsps",
                    stacked=True,
                ),
                lines(
                    "Rows touched, 1h",
                    (
                        "Share of rows that guards touched, beside the false-alarm budget: the share of clean rows "
                        "that they may touch. Rows abstained from on purpose, by a target_error, are left out."
                    ),
                    Query(f'guardhouse:guard_flags:ratio1h{{{OF}, guard="any"}}', "touched"),
                    Query(f'guardhouse:guard_threshold:ratio{{{OF}, guard="any"}}', "budget"),
                    unit="percentunit",
                ),
                lines(
                    "Scrapes that failed",
                    "Replicas that Prometheus could not scrape.",
                    Query(f"count(up{{{OF}}} == 0) or 0 * count(up{{{OF}}})", "down"),
                    unit="short",
                    limits=(1,),
                ),
            ],
        ),
        Row(
            "Latency",
            [
                lines(
                    "Prediction",
                    "From the first byte read to the last written, predict routes.",
                    *(
                        Query(
                            (
                                f"histogram_quantile({q}, sum by (le) "
                                f"(rate(guardhouse_request_duration_seconds_bucket{{{OF}, "
                                f"{PREDICTIONS}}}[{RATE}])))"
                            ),
                            f"p{100 * q:g}",
                        )
                        for q in (0.5, 0.95, 0.99)
                    ),
                    unit="s",
                    limits=(0.25,),
                ),
                lines(
                    "Stages, p99",
                    "Where the time goes, once a request or once a batch.",
                    Query(
                        (
                            "histogram_quantile(0.99, sum by (stage, le) "
                            f"(rate(guardhouse_stage_duration_seconds_bucket{{{OF}}}[{RATE}])))"
                        ),
                        "{{stage}}",
                    ),
                    unit="s",
                ),
                lines(
                    "In flight",
                    "Requests that are being answered and rows that wait for the device, over all replicas.",
                    Query(f"sum(guardhouse_inflight_requests{{{OF}}})", "requests"),
                    Query(f"sum(guardhouse_queue_rows{{{OF}}})", "queued rows"),
                    unit="short",
                ),
            ],
        ),
        Row(
            "Outcomes",
            [
                lines(
                    "Accuracy, 1d",
                    (
                        "Expected from calibrated confidence of all answered rows, and realised on those "
                        "whose labels have come."
                    ),
                    Query(
                        (
                            f"sum(increase(guardhouse_expected_correct_total{{{OF}}}[1d])) / "
                            f"sum(increase(guardhouse_answered_total{{{OF}}}[1d]))"
                        ),
                        "expected",
                    ),
                    Query(
                        (
                            f'sum(increase(guardhouse_outcomes_total{{{OF}, correct="true"}}[1d])) / '
                            f"sum(increase(guardhouse_outcomes_total{{{OF}}}[1d]))"
                        ),
                        "realised",
                    ),
                    unit="percentunit",
                    width=6,
                ),
                lines(
                    "Coverage, 1d",
                    "Share of outcomes that the prediction set or interval held, beside what the config asks for.",
                    Query(f"guardhouse:coverage:ratio1d{{{OF}}}", "realised"),
                    Query(f"guardhouse:coverage_target:ratio{{{OF}}}", "target"),
                    unit="percentunit",
                    width=6,
                ),
                lines(
                    "Outcomes received",
                    "By what became of them: unknown ones match no stored prediction.",
                    Query(f"sum by (result) (rate(guardhouse_feedback_total{{{OF}}}[{RATE}]))", "{{result}}"),
                    unit="cps",
                    width=6,
                    stacked=True,
                ),
                lines(
                    "Rows stored",
                    "Answered rows on their way to the store; dropped ones can never be joined with an outcome.",
                    Query(f"sum by (result) (rate(guardhouse_store_rows_total{{{OF}}}[{RATE}]))", "{{result}}"),
                    unit="rowsps",
                    width=6,
                    stacked=True,
                ),
            ],
        ),
    ]
