"""What the guards may do to a row."""

from enum import IntEnum

__all__ = ["Action"]


class Action(IntEnum):
    """What may happen to a row; if guards disagree, the strictest action wins."""

    ALLOW = 0
    FLAG = 1
    ABSTAIN = 2
    REJECT = 3

    @property
    def label(self) -> str:
        """The word on the wire and in configs."""
        return self.name.lower()
