"""A multilayer perceptron with embedded categories for the census table of UCI Adult."""

import torch
from torch import Tensor, nn

COLUMNS: dict[str, tuple[str, ...]] = {
    "age": (),
    "workclass": (
        *("Federal-gov", "Local-gov", "Never-worked", "Private", "Self-emp-inc", "Self-emp-not-inc", "State-gov"),
        "Without-pay",
    ),
    "fnlwgt": (),
    "education": (
        *("10th", "11th", "12th", "1st-4th", "5th-6th", "7th-8th", "9th", "Assoc-acdm", "Assoc-voc", "Bachelors"),
        *("Doctorate", "HS-grad", "Masters", "Preschool", "Prof-school", "Some-college"),
    ),
    "education-num": (),
    "marital-status": (
        *("Divorced", "Married-AF-spouse", "Married-civ-spouse", "Married-spouse-absent", "Never-married"),
        *("Separated", "Widowed"),
    ),
    "occupation": (
        *("Adm-clerical", "Armed-Forces", "Craft-repair", "Exec-managerial", "Farming-fishing", "Handlers-cleaners"),
        *("Machine-op-inspct", "Other-service", "Priv-house-serv", "Prof-specialty", "Protective-serv", "Sales"),
        *("Tech-support", "Transport-moving"),
    ),
    "relationship": ("Husband", "Not-in-family", "Other-relative", "Own-child", "Unmarried", "Wife"),
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
    "sex": ("Female", "Male"),
    "capital-gain": (),
    "capital-loss": (),
    "hours-per-week": (),
    "native-country": (
        *("Cambodia", "Canada", "China", "Columbia", "Cuba", "Dominican-Republic", "Ecuador", "El-Salvador"),
        *("England", "France", "Germany", "Greece", "Guatemala", "Haiti", "Holand-Netherlands", "Honduras", "Hong"),
        *("Hungary", "India", "Iran", "Ireland", "Italy", "Jamaica", "Japan", "Laos", "Mexico", "Nicaragua"),
        *("Outlying-US(Guam-USVI-etc)", "Peru", "Philippines", "Poland", "Portugal", "Puerto-Rico", "Scotland"),
        *("South", "Taiwan", "Thailand", "Trinadad&Tobago", "United-States", "Vietnam", "Yugoslavia"),
    ),
}
"""The columns in order, each with its categories in order; none for a number."""

CLASSES = ("<=50K", ">50K")


class Network(nn.Module):
    """Numbers enter as their position in each of `bins` bins, categories as embeddings; two hidden layers follow.

    The bins make it piecewise linear in each number (https://arxiv.org/abs/2203.05556), which suits capital gains: most
    are zero, the others heaped. The outer bins are open, so that a value beyond the reference shows in the features.
    The bins' edges are kept with the weights.
    """

    edges: Tensor
    lowest: Tensor
    highest: Tensor
    offset: Tensor

    def __init__(self, *, bins: int, embedding: int, hidden: int, features: int) -> None:
        super().__init__()
        sizes = [len(categories) for categories in COLUMNS.values() if categories]
        self.numeric = [i for i, categories in enumerate(COLUMNS.values()) if not categories]
        self.categorical = [i for i, categories in enumerate(COLUMNS.values()) if categories]
        self.register_buffer("edges", torch.linspace(0, 1, bins + 1).repeat(len(self.numeric), 1))
        self.register_buffer("lowest", torch.tensor([-torch.inf] + [0.0] * (bins - 1)), persistent=False)
        self.register_buffer("highest", torch.tensor([1.0] * (bins - 1) + [torch.inf]), persistent=False)
        self.register_buffer("offset", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)
        self.embedding = nn.Embedding(sum(sizes), embedding)
        self.body = nn.Sequential(
            *(nn.Linear(len(self.numeric) * bins + len(sizes) * embedding, hidden), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Linear(hidden, features), nn.ReLU(), nn.Dropout(0.3)),
        )
        self.head = nn.Linear(features, len(CLASSES))

    def fit_edges(self, x: Tensor) -> None:
        """Put the edges at equally spaced ranks of each column's distinct values in rows `x` (n, 14)."""
        ranks = torch.linspace(0, 1, self.edges.shape[1])
        self.edges.copy_(torch.stack([x[:, i].unique().quantile(ranks) for i in self.numeric]))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, 14), categories as their index in `COLUMNS`, to logits (n, 2)."""
        positions = (x[:, self.numeric, None] - self.edges[:, :-1]) / self.edges.diff()
        positions = positions.clamp(self.lowest, self.highest).flatten(1)
        embedded = self.embedding(x[:, self.categorical].long() + self.offset).flatten(1)
        return self.head(self.body(torch.cat([positions, embedded], dim=1)))


def build() -> nn.Module:
    """Return the untrained network."""
    return Network(bins=16, embedding=4, hidden=128, features=64)
