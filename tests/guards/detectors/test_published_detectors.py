"""The published detectors agree with scikit-learn, scipy and pytorch-ood, and refuse what they are not made for.

The numbers of pytorch-ood were printed by its version 0.4.0 with torch 2.13.0, in an environment of its own, for the
rows of :func:`known_rows`, by ``RMD(None).fit_features(f, y).predict_features(t)``, ``GEN(None).predict_logits(l)``,
``fDBD(None, head).fit_features(f).predict_features(t)`` and ``EnergyBased(None).predict_logits(l)``.
"""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from guards import Batch, InputSchema, ModelOutput, Reference
from guards.detectors.class_gaussians import fit_gaussians
from guards.detectors.energy import Energy, EnergyParams
from guards.detectors.fdbd import Fdbd, FdbdParams
from guards.detectors.gen import Gen, GenParams
from guards.detectors.knn import Knn, KnnParams

WEIGHT = torch.tensor([[1.0, 0.0, 0.5, -0.5], [-0.5, 1.0, 0.0, 0.25], [0.0, -1.0, 1.0, 0.5]], dtype=torch.float64)
BIAS = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
RMD = [0.02528950572, 0.07379317284, 0.08027300239, 0.08962598443, 0.02957884967, 0.09711952507]
GEN = [0.68482208, 0.81346673, 0.76692659, 0.57202429, 0.84931260, 0.81519634]
FDBD = [-0.44665495, -0.52390444, -0.23957987, -0.54720259, -0.12349613, -0.32332513]
ENERGY = [-1.27358913, -1.67038560, -4.80582285, -3.62475276, -1.62930250, -2.16942143]


def known_rows(n: int) -> tuple[Tensor, Tensor]:
    number = torch.arange(n * 4, dtype=torch.float64).reshape(n, 4)
    y = torch.arange(n) % 3
    waves = torch.sin(12.9898 * number + 78.233) + torch.cos(4.1 * number) * torch.tensor([1.0, 0.5, 2.0, 1.0])
    return waves + torch.eye(4, dtype=torch.float64)[y] * 2, y


def head() -> nn.Linear:
    linear = nn.Linear(4, 3)
    linear.weight.data, linear.bias.data = WEIGHT.float(), BIAS.float()
    return linear.requires_grad_(requires_grad=False)


def batch(features: Tensor) -> Batch:
    return Batch(features.float(), output=ModelOutput((features @ WEIGHT.T + BIAS).float(), features.float()))


def reference(output: Batch, last: nn.Linear | None = None) -> Reference:
    return Reference(output, None, InputSchema(kind="tensor", shape=(4,)), last)


TRAIN, Y = known_rows(30)
TEST = known_rows(36)[0][30:] * 1.5


def test_relative_distance_of_pytorch_ood() -> None:
    """Without shrinkage the relative distance is pytorch-ood's, whose covariances are sums and not means."""
    gaussians = fit_gaussians(TRAIN, Y, 0.0, relative=True)
    projected = (TEST - gaussians.centre) @ gaussians.projection + gaussians.offset
    found = projected[:, 4:7].amin(1) + projected[:, 7:].square().sum(1)
    assert (found / len(TRAIN)).tolist() == pytest.approx(RMD, rel=1e-4)


def test_gen_of_pytorch_ood() -> None:
    """The generalised entropy is pytorch-ood's times the number of classes: pytorch-ood averages, the paper sums."""
    found = Gen(GenParams()).fit(reference(batch(TRAIN))).score(batch(TEST))
    assert (found / 3).tolist() == pytest.approx(GEN, rel=1e-4)


def test_gen_of_the_largest_probabilities() -> None:
    """``top`` leaves out small probabilities, worked out by hand."""
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    rows = Batch(logits, output=ModelOutput(logits, logits))
    found = Gen(GenParams(top=2, gamma=0.5)).fit(reference(rows)).score(rows)
    assert found.tolist() == pytest.approx([(0.7 * 0.3) ** 0.5 + (0.2 * 0.8) ** 0.5], rel=1e-5)


def test_energy_of_scipy_and_pytorch_ood() -> None:
    """The energy is minus scipy's logsumexp, and pytorch-ood's."""
    from scipy.special import logsumexp

    rows = batch(TEST)
    assert rows.output is not None
    found = Energy(EnergyParams()).fit(reference(batch(TRAIN))).score(rows)
    assert found.tolist() == pytest.approx((-logsumexp(rows.output.logits.double().numpy(), axis=1)).tolist(), rel=1e-4)
    assert found.tolist() == pytest.approx(ENERGY, rel=1e-4)


def test_fdbd_of_pytorch_ood() -> None:
    """The distance to the decision boundaries is pytorch-ood's."""
    found = Fdbd(FdbdParams()).fit(reference(batch(TRAIN), head())).score(batch(TEST))
    assert found.tolist() == pytest.approx(FDBD, rel=1e-4)


def test_fdbd_of_one_logit() -> None:
    """A model with one logit has one boundary, at the distance |z| / |w|."""
    last = nn.Linear(4, 1).requires_grad_(requires_grad=False)
    train, test = TRAIN.float(), TEST.float()

    def answered(features: Tensor) -> Batch:
        z = last(features)
        return Batch(features, output=ModelOutput(torch.cat([torch.zeros_like(z), z], dim=1), features))

    found = Fdbd(FdbdParams()).fit(reference(answered(train), last)).score(answered(test))
    expected = -last(test)[:, 0].abs() / last.weight.norm() / (test - train.mean(0)).norm(dim=1)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_knn_of_scikit_learn(neighbours: int) -> None:
    """The distance is scikit-learn's to the k-th of the kept rows; if all rows are kept, to the k-th of all."""
    from sklearn.neighbors import NearestNeighbors

    found = Knn(KnnParams(neighbours=neighbours)).fit(reference(batch(TRAIN))).score(batch(TEST))
    train, test = (nn.functional.normalize(part).numpy() for part in (TRAIN, TEST))
    expected = NearestNeighbors(n_neighbors=neighbours).fit(train).kneighbors(test)[0][:, -1]
    assert found.numpy() == pytest.approx(expected.astype(np.float32), rel=1e-4)


def test_knn_keeps_few_rows() -> None:
    """At most ``rows`` rows are kept, the same at every fit, and each kept row has the distance 0."""
    one, two = (Knn(KnnParams(rows=7)).fit(reference(batch(TRAIN))) for _ in range(2))
    assert one.kept.shape == (4, 7)
    assert torch.equal(one.kept, two.kept)
    assert int((one.score(batch(TRAIN)) < 1e-3).sum()) == 7


def test_what_is_refused() -> None:
    """Each detector refuses a model that it is not made for, and says why."""
    rows = batch(TRAIN)
    assert rows.output is not None
    value = Batch(rows.x, output=ModelOutput(rows.output.logits[:, :1], rows.output.features))
    for detector in (Energy(EnergyParams()), Gen(GenParams()), Fdbd(FdbdParams())):
        with pytest.raises(ValueError, match="needs a classifier"):
            detector.fit(reference(value))
    log_p = rows.output.logits.log_softmax(1)
    with pytest.raises(ValueError, match="returns probabilities"):
        Energy(EnergyParams()).fit(reference(Batch(rows.x, output=ModelOutput(log_p, rows.output.features))))
    binary = torch.cat([torch.zeros(30, 1), rows.output.logits[:, :1]], dim=1)
    with pytest.raises(ValueError, match="one for two classes"):
        Energy(EnergyParams()).fit(reference(Batch(rows.x, output=ModelOutput(binary, rows.output.features))))
    with pytest.raises(ValueError, match=r"leave `model\.features` out"):
        Fdbd(FdbdParams()).fit(reference(rows))
    scaled = Batch(rows.x, output=ModelOutput(2 * rows.output.logits, rows.output.features))
    with pytest.raises(ValueError, match="outputs of the last linear layer"):
        Fdbd(FdbdParams()).fit(reference(scaled, head()))
    with pytest.raises(ValueError, match="lower `neighbours`"):
        Knn(KnnParams(neighbours=31)).fit(reference(rows))
