"""Measures how much memory a front takes while something is done to it."""

from gateways import Gateway


class Peak:
    """The largest resident memory of a front since the start of the measurement."""

    def __init__(self, gateway: Gateway) -> None:
        (self.front,) = gateway.fronts
        self.before = self.front.memory_info().rss
        with open(f"/proc/{self.front.pid}/clear_refs", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("5")  # resets the peak

    def grown(self) -> int:
        """Return how many bytes the front grew at most."""
        with open(f"/proc/{self.front.pid}/status", encoding="ascii") as file:  # noqa: PTH123
            (line,) = (line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 - self.before
