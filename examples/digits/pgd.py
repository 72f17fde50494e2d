"""Projected gradient descent: the worst image near an image, for adversarial training and for robust accuracy.

Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks". Each example is a folder that
stands alone, so `digits` and `fashion` hold the same copy of this file.
"""

from collections.abc import Callable

import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]

STEPS = 40
RESTARTS = 6
"""Robust accuracy is measured with so many steps from each of so many random starts."""


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """Return the sum over rows of the largest other logit minus the true logit.

    Where the model is sure, the gradient of the cross-entropy is zero; the gradient of the lead is not.
    """
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    return (others - logits.gather(1, y[:, None])[:, 0]).sum()


def perturb(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, steps: int, loss: Loss = cross_entropy) -> Tensor:
    """Return images (n, ...) in [0, 1] that raise the loss, no pixel further than `eps` from `x`.

    The start is random. Each step moves every pixel by 2.5 eps / steps along the sign of its gradient. The model is in
    eval mode meanwhile, so that its answers to one image do not depend on other images, nor on dropout.
    """
    training = model.training
    model.eval()
    low, high = (x - eps).clamp_min(0), (x + eps).clamp_max(1)
    images = low + (high - low) * torch.rand_like(x)
    for _ in range(steps):
        images.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(images), y), images)
        images = (images.detach() + 2.5 * eps / steps * gradient.sign()).clamp(low, high)
    model.train(training)
    return images


def withstands(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, seed: int = 0) -> Tensor:
    """Return whether the model answers each image right, and also after every attack on the image (n,).

    The attacks begin at `RESTARTS` random images, and raise the cross-entropy or the lead of another class in turn. So
    the share that withstands them is an upper bound: a better attack may find more.
    """
    torch.manual_seed(seed)
    standing = _right(model, x, y)
    for restart in range(RESTARTS):
        for rows in standing.nonzero()[:, 0].split(500):
            loss = (cross_entropy, lead)[restart % 2]
            images = perturb(model, x[rows], y[rows], eps=eps, steps=STEPS, loss=loss)
            standing[rows] = _right(model, images, y[rows])
    return standing


def robust_accuracy(model: nn.Module, x: Tensor, y: Tensor, *, eps: float) -> str:
    """Return the share of images that withstand the attacks, its 95 % interval (Wilson), and what the attacks were."""
    standing = withstands(model, x, y, eps=eps)
    right, rows = int(standing.sum()), len(standing)
    low, high = binomtest(right, rows).proportion_ci(method="wilson")
    attack = f"Linf eps {eps}, PGD-{STEPS}, {RESTARTS} restarts, {rows} rows"
    return f"robust accuracy {right / rows:.4f} [{low:.3f}, {high:.3f}] ({attack})"


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([model(part).argmax(1) for part in x.split(1000)]) == y
