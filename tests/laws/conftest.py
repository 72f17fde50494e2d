"""One thread, so that the laws are drawn alike everywhere and neither wait for one another."""

import torch

torch.set_num_threads(1)
