"""Writes the dashboards of deploy/grafana as JSON files for Grafana, beside the code that makes them."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: E402

from deploy.grafana import capacity, drift, groups, guards, overview  # noqa: E402

FOLDER = ROOT / "deploy" / "grafana" / "dashboards"


def render() -> dict[str, str]:
    """Give the JSON of every dashboard by the name of its file."""
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {
        f"{module.__name__.rpartition('.')[2]}.json": encoder.encode(module.dashboard()) + "\n"
        for module in (overview, guards, drift, groups, capacity)
    }


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{FOLDER.relative_to(ROOT) / name}\n")


if __name__ == "__main__":
    main()
