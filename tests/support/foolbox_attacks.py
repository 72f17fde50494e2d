"""Attacks a model with foolbox, in an environment of foolbox's own, and prints what the attacks achieve as JSON.

Arguments: a folder with ``model.py`` and ``weights.pt``, and a file with ``x``, ``y``, ``starts`` and ``eps``.
"""

import json
import sys
from pathlib import Path

import foolbox
import numpy as np
import torch


class Counting(torch.nn.Module):
    """Counts the rows that a model is asked."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        return self.net(x)


def main(folder: Path, file: Path) -> None:
    """Attack the rows of the file."""
    sys.path.insert(0, str(folder))
    from model import build

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - foolbox draws from it
    net = build()
    net.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    counting = Counting(net.eval())
    model = foolbox.PyTorchModel(counting, bounds=(0, 1))
    data = np.load(file)
    x, y, starts = (torch.from_numpy(data[name]) for name in ("x", "y", "starts"))
    eps = data["eps"].tolist()
    root = x[0].numel() ** 0.5
    found = {}
    attacks = {
        "pgd": foolbox.attacks.LinfPGD(steps=100, rel_stepsize=0.025),
        "hop_skip_jump": foolbox.attacks.HopSkipJumpAttack(steps=6, constraint="linf"),
        "boundary": foolbox.attacks.BoundaryAttack(steps=900),
    }
    for name, attack in attacks.items():
        counting.rows = 0
        scale = root if name == "boundary" else 1.0
        options = {} if name == "pgd" else {"starting_points": starts}
        success = attack(model, x, foolbox.criteria.Misclassification(y), epsilons=[e * scale for e in eps], **options)[
            2
        ]
        found[name] = {"success": success.float().mean(1).tolist(), "queries": counting.rows / len(x)}
    sys.stdout.write(json.dumps(found))


main(Path(sys.argv[1]), Path(sys.argv[2]))
