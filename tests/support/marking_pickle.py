"""A pickle that leaves a mark when it is unpickled."""

import io
from pathlib import Path
from typing import Any

import torch


class Booby:
    """An object that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def pickled(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(1), "booby": Booby(mark)}, stream)
    return stream.getvalue()
