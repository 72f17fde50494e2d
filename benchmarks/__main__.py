"""Run one benchmark, or all that this machine has what it takes for."""

import argparse
import importlib
import sys
from pathlib import Path

NAMES = (
    *("serving", "gpu", "memory", "drift", "fairness", "recent", "store", "explanation", "flood", "capacity", "check"),
)
DRAWING = ("drift", "capacity")


def main() -> None:
    """Choose and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=["serving"], help=f"of {', '.join(NAMES)}; default: serving")
    parser.add_argument("--quick", action="store_true", help="short runs: to see that it works, not to quote")
    parser.add_argument("--out", type=Path, help=f"folder for plots, of {', '.join(DRAWING)}")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        sys.exit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    for name in arguments.names:
        options = {"out": arguments.out} if name in DRAWING else {}
        importlib.import_module(f"benchmarks.{name}").main(quick=arguments.quick, **options)


if __name__ == "__main__":
    main()
