"""The small model whose answers the checks of explainers let an explainer explain."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from guards.explainers.explained_function import Subject
from guards.input.imputation import Imputation
from guards.model.torch_model import TorchModel
from guards.testing.example import Kind, Task, example

__all__ = ["Explained", "explained"]

ROWS, CLASSES, WIDTH, EMBEDDED = 4, 3, 16, 2
FILL = {"height": 0.2, "weight": -0.1, "age": 0.3, "colour": 1.0}


class Net(nn.Module):
    """Two layers of rectifiers under a head. A table's last column is a category, which an embedding layer looks up."""

    def __init__(self, inputs: int, outputs: int, categories: int) -> None:
        super().__init__()
        numbers = inputs - 1 if categories else inputs
        self.embedding = nn.Embedding(categories, EMBEDDED) if categories else None
        width = numbers + (EMBEDDED if categories else 0)
        self.body = nn.Sequential(nn.Linear(width, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):  # weights with which outputs change about as much as inputs
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Give the outputs (n, k) for rows (n, ...)."""
        flat = x.flatten(1)
        if self.embedding is not None:
            flat = torch.cat([flat[:, :-1], self.embedding(flat[:, -1].long())], dim=1)
        logits: Tensor = self.head(self.body(flat))
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """A ``subject`` to explain, and rows ``x`` (n, ...) with the output ``target`` (n,) to explain for each row."""

    subject: Subject
    x: Tensor
    target: Tensor


def explained(kind: Kind, task: Task = "classification") -> Explained:
    """Make a model with rows of one kind. Each call gives the same numbers, in new objects.

    The rows are like the rows of :func:`guards.testing.example`. A table's first row has a missing number, its second
    row an unseen category, and its third row a missing category. There are two baselines.
    """
    made = example(kind, task, count=ROWS)
    schema = made.context.schema
    table = kind == "tabular"
    if table:
        filled = tuple(column.model_copy(update={"fill": FILL[column.name]}) for column in schema.columns)
        schema = schema.model_copy(update={"columns": filled})
    x = made.rows.x.clone()
    if table:
        x[0, 0], x[1, -1], x[2, -1] = torch.nan, -1.0, torch.nan
    outputs = CLASSES if task == "classification" else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net(math.prod(schema.shape), outputs, CLASSES if table else 0)
        other = torch.rand((1, *schema.shape))
    imputation = None
    if table:
        fill = torch.tensor([column.fill for column in schema.columns])
        imputation = Imputation(fill, schema.categorical, torch.zeros(len(fill), dtype=torch.bool))
        other[:, -1] = 0.0
    model = TorchModel(net, example=x, outputs=outputs, imputation=imputation)
    neutral = torch.zeros((1, *schema.shape)) if imputation is None else imputation.typical
    subject = Subject(model, schema, baselines=torch.cat([neutral, other]), embeddings=["embedding"] if table else ())
    return Explained(subject, x, torch.arange(len(x)) % outputs)
