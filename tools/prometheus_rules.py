"""Writes the PrometheusRules of deploy/components/monitoring, one for each file of rules in deploy/prometheus."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "deploy" / "prometheus"
OBJECTS = ROOT / "deploy" / "components" / "monitoring" / "rules.yaml"
HEADER = "# Written by `make prometheus-rules` from deploy/prometheus; do not edit.\n"


def wrapped(path: Path) -> str:
    """Return a file of rules as the ``spec`` of an object; the lines are copied, so that the comments stay."""
    name = path.name.removesuffix(".rules.yaml")
    lines = path.read_text(encoding="utf-8").splitlines()
    head = ["apiVersion: monitoring.coreos.com/v1", "kind: PrometheusRule", "metadata:", f"  name: guardhouse-{name}"]
    labels = ["  labels:", "    app.kubernetes.io/name: guardhouse", "spec:"]
    return "\n".join([*head, *labels, *(f"  {line}" if line else "" for line in lines)]) + "\n"


def main() -> None:
    """Write the file."""
    files = sorted(RULES.glob("*.rules.yaml"))
    OBJECTS.write_text(HEADER + "---\n".join(map(wrapped, files)), encoding="utf-8")
    sys.stdout.write(f"{OBJECTS.relative_to(ROOT)}: {len(files)} objects\n")


if __name__ == "__main__":
    main()
