"""The budgets of all principals with quotas, in one front; the engine's process keeps the buckets for all fronts."""

from dataclasses import dataclass, field

from service.front.control_channel import ControlChannel
from service.keys.principal import Principal
from service.messages.refused import Refused
from service.quotas.buckets import Rate
from service.quotas.budget import Budget
from service.quotas.keeper import TAKE

__all__ = ["Budgets"]


@dataclass(slots=True, eq=False)
class Budgets:
    """Gives each principal its budget. ``control`` is the front's connection to the engine."""

    control: ControlChannel
    _known: dict[Principal, Budget] = field(default_factory=dict)

    def of(self, principal: Principal | None) -> Budget | None:
        """Return the budget of a principal; None if nothing bounds what it uses."""
        if principal is None or principal.quotas is None:
            return None
        found = self._known.get(principal)
        if found is None:
            # If the file of keys was read again, principals with other quotas are others, and the old ones are gone.
            self._known = {each: budget for each, budget in self._known.items() if each.name != principal.name}
            found = self._known[principal] = Budget(principal.name, principal.quotas, self._ask)
        return found

    async def _ask(self, key: str, rate: Rate, amount: float) -> float:
        """Ask the engine for tokens. While the engine cannot be asked, nothing is counted: it predicts nothing."""
        if self.control.trouble is not None:
            return 0.0
        try:
            said, _ = await self.control.ask(TAKE, {"key": key, "rate": list(rate), "amount": amount})
        except Refused:
            return 0.0
        return float(said["wait"])
