"""Sets torch to one thread, so that the laws are drawn alike on every machine."""

import torch

torch.set_num_threads(1)
