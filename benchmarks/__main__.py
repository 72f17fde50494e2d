"""Run benchmarks by name, one after another."""

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.harness.discovery import Benchmark, find

DEFAULT = "serving"
OPTIONS = ("out", "before", "stacks", "rounds", "seconds")


def main() -> None:
    """Read the command line, and run what it names."""
    benchmarks = find()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=[DEFAULT], help=f"of {', '.join(benchmarks)}; default: {DEFAULT}", metavar="NAME"
    )
    parser.add_argument("--quick", action="store_true", help="short runs: they show that it works, and no figure")
    parser.add_argument("--out", type=Path, help=_help("a folder for plots", "out", benchmarks))
    parser.add_argument(
        "--before", metavar="COMMIT", help=_help("measure this commit side by side, too", "before", benchmarks)
    )
    parser.add_argument(
        "--stacks", type=_names, metavar="A,B", help=_help("measure these stacks alone", "stacks", benchmarks)
    )
    parser.add_argument("--rounds", type=int, help=_help("so many rounds", "rounds", benchmarks))
    parser.add_argument("--seconds", type=float, help=_help("for so many seconds", "seconds", benchmarks))
    arguments = parser.parse_args()
    given = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    # After SIGTERM, too, a benchmark stops the servers that it started, as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    names = [name.replace("-", "_") for name in arguments.names]
    for name in names:
        if name not in benchmarks:
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join(benchmarks)}")
        for option in given.keys() - benchmarks[name].options:
            sys.exit(f"the benchmark {name!r} takes no --{option}")
    for name in names:
        benchmarks[name].run(quick=arguments.quick, **given)


def _help(meaning: str, option: str, benchmarks: dict[str, Benchmark]) -> str:
    takers = [name for name, benchmark in benchmarks.items() if option in benchmark.options]
    return f"{meaning} ({', '.join(takers)})"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


if __name__ == "__main__":
    main()
