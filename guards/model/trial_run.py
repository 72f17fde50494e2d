"""The trial run of a module: finds out whether the module takes the rows, prints, or changes the rows."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from guards.model.features import linear_layers
from guards.model.forward_errors import forward_error
from guards.model.outputs import outputs_in
from guards.notices import Notices
from guards.types import Mistake

__all__ = ["Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """The name of the linear layer that ran last, if any, and whether the module prints or writes into its input."""

    last_linear: str | None
    prints: bool
    changes_input: bool

    @classmethod
    @torch.inference_mode()
    def of(cls, net: nn.Module, call: Callable[[Tensor], object], prepared: Tensor) -> Self:
        """Run the module on a copy of prepared rows (n, ...); what it prints goes to standard error.

        Raises:
            Mistake: the module does not take the rows, or returns no tensor of outputs.
        """
        ran: list[str] = []
        scripted = isinstance(net, torch.jit.ScriptModule)
        handles = [
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
            for name, module in ([] if scripted else linear_layers(net))
        ]
        given, printed = prepared.clone(), io.StringIO()
        try:
            with redirect_stdout(printed):
                returned = call(given)
        except Exception as raised:
            raise Mistake(forward_error(net, prepared, raised)) from raised
        finally:
            for handle in handles:
                handle.remove()
            sys.stderr.write(printed.getvalue())
        outputs_in(returned)
        changed = not torch.equal(given.nan_to_num(), prepared.nan_to_num())
        return cls(ran[-1] if ran else None, bool(printed.getvalue()), changed)

    def tell(self, notices: Notices) -> None:
        """Add a note if the module prints, and a note if it changes its input: the user may not know of either."""
        if self.prints:
            notices.note("model: its forward prints; the text goes to standard error")
        if self.changes_input:
            notices.note("model: its forward changes the rows that it is given; the model gets a copy of them")
