"""Capacity: load, waiting, how busy the devices are, memory, and the cost of a prediction."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.panels import OF, Query, Row, heat, lines, make

RATE = "$__rate_interval"


def dashboard() -> Dashboard:
    """Build the dashboard."""
    return make("capacity", "Capacity", "The signals that scaling goes by, batches, memory, and cost.", rows())


def rows() -> list[Row]:
    """Give the panels."""
    return [
        Row(
            "What scaling goes by, first things first",
            [
                lines(
                    "Load",
                    (
                        "Requests in flight and rows in the queue, means of a minute, added up over "
                        "replicas: what an autoscaler divides by its target."
                    ),
                    Query(f"guardhouse:load:sum{{{OF}}}", "{{model}}"),
                    unit="short",
                    width=6,
                ),
                lines(
                    "Load of a replica",
                    "The same by replica, on average.",
                    Query(f"guardhouse:load:sum{{{OF}}} / guardhouse:replicas:count{{{OF}}}", "{{model}}"),
                    unit="short",
                    width=6,
                ),
                lines(
                    "Queue wait, p95",
                    "How long one request in twenty waits for the device; the alert's limit is 0.1 s.",
                    Query(f"guardhouse:queue_wait_seconds:p95{{{OF}}}", "{{model}}"),
                    unit="s",
                    width=6,
                    limits=(0.1,),
                ),
                lines(
                    "Device busy",
                    "Share of the time that the devices compute, mean of the replicas; the alert's limit is 90 %.",
                    Query(f"guardhouse:device_busy:ratio{{{OF}}}", "{{model}}"),
                    unit="percentunit",
                    width=6,
                    limits=(0.9,),
                ),
            ],
        ),
        Row(
            "Replicas",
            [
                lines(
                    "Number",
                    "Instances that have said within two minutes which model they serve.",
                    Query(f"guardhouse:replicas:count{{{OF}}}", "{{model}}"),
                    unit="short",
                ),
                lines(
                    "Busy, by replica",
                    (
                        "Share of the time that each device computes: apart from one another means traffic "
                        "is not balanced."
                    ),
                    Query(
                        f"sum by (instance, device) (rate(guardhouse_device_busy_seconds_total{{{OF}}}[{RATE}]))",
                        "{{instance}} {{device}}",
                    ),
                    unit="percentunit",
                    limits=(0.9,),
                ),
                lines(
                    "Queue, by replica",
                    "Rows that wait for the device.",
                    Query(f"guardhouse_queue_rows{{{OF}}}", "{{instance}}"),
                    unit="short",
                ),
            ],
        ),
        Row(
            "Batches",
            [
                heat(
                    "Rows in a batch",
                    "Batches by their size: larger ones cost less a row.",
                    Query(f"sum by (le) (increase(guardhouse_batch_rows_bucket{{{OF}}}[{RATE}]))", "{{le}}"),
                    unit="short",
                ),
                lines(
                    "Rows in a batch, mean",
                    "By replica.",
                    Query(
                        (
                            f"rate(guardhouse_batch_rows_sum{{{OF}}}[{RATE}]) / "
                            f"(rate(guardhouse_batch_rows_count{{{OF}}}[{RATE}]) > 0)"
                        ),
                        "{{instance}}",
                    ),
                    unit="short",
                ),
                lines(
                    "Predictions",
                    "Rows answered a second.",
                    Query(f"guardhouse:predictions:rate5m{{{OF}}}", "{{model}}"),
                    unit="rowsps",
                ),
            ],
        ),
        Row(
            "Cost",
            [
                lines(
                    "Device time for 1,000 predictions",
                    "Seconds that devices computed.",
                    Query(f"guardhouse:device_seconds_per_1000_predictions{{{OF}}}", "{{model}}"),
                    unit="s",
                ),
                lines(
                    "Energy for 1,000 predictions",
                    "All that the GPUs drew, idle time included.",
                    Query(f"guardhouse:joules_per_1000_predictions{{{OF}}}", "{{model}}"),
                    unit="joule",
                ),
                lines(
                    "GPU power",
                    "By replica and device.",
                    Query(f"guardhouse_gpu_power_watts{{{OF}}}", "{{instance}} {{device}}"),
                    unit="watt",
                ),
            ],
        ),
        Row(
            "Memory and processor",
            [
                lines(
                    "Memory of the process",
                    "Resident memory by replica.",
                    Query(f"process_resident_memory_bytes{{{OF}}}", "{{instance}}"),
                    unit="bytes",
                    width=6,
                ),
                lines(
                    "Processor",
                    "Processor seconds a second, by replica.",
                    Query(f"rate(process_cpu_seconds_total{{{OF}}}[{RATE}])", "{{instance}}"),
                    unit="short",
                    width=6,
                ),
                lines(
                    "Memory of the device",
                    "By kind: what tensors take, what torch keeps for them, what everybody uses, and all there is.",
                    Query(f"guardhouse_device_memory_bytes{{{OF}}}", "{{instance}} {{kind}}"),
                    unit="bytes",
                    width=6,
                ),
                lines(
                    "GPU utilisation",
                    (
                        "Share of the time that any kernel ran: full long before the device is, hence no "
                        "signal for scaling."
                    ),
                    Query(f"guardhouse_gpu_utilization_ratio{{{OF}}}", "{{instance}} {{device}}"),
                    unit="percentunit",
                    width=6,
                ),
            ],
        ),
    ]
