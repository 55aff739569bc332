"""A data set whose decoder writes to standard error, as C libraries do."""

import os

import torch
from torch.utils.data import Dataset

from workers.errors import DataError


class Loud(Dataset[torch.Tensor | DataError]):
    def __getitem__(self, index: int) -> torch.Tensor:
        os.write(2, b"a decoder's warning\n")
        return torch.zeros(3, 2, 2, dtype=torch.uint8)
