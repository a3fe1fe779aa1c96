"""A Gaussian for each class, fitted to features instead of trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEAST_VARIANCE = 1e-10  # of the largest; what varies less are rounding errors of features in single precision


class Gaussian(nn.Module):
    """Squared Mahalanobis distances to the means of classes that share one covariance, in double precision.

    Input: features (N, features). Output: distances (N, classes).
    """

    def __init__(self, features: int, classes: int = 10) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(classes, features, dtype=torch.double), requires_grad=False)
        self.precision = nn.Parameter(torch.eye(features, dtype=torch.double), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        away = features.double()[:, None] - self.means
        return ((away @ self.precision) * away).sum(2)

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Take means and covariance from features (N, features) of the classes `labels`, int64 (N,).

        Directions in which the features do not vary within a class do not count. A class without features gets the
        mean of all.
        """
        features = features.double()
        centre = features.mean(0)
        sums = torch.zeros_like(self.means).index_add_(0, labels, features - centre)
        counts = labels.bincount(minlength=len(self.means)).clamp(min=1)
        self.means.copy_(centre + sums / counts[:, None])
        away = features - self.means[labels]
        covariance = away.T @ away / len(away)
        self.precision.copy_(torch.linalg.pinv(covariance, rtol=LEAST_VARIANCE, hermitian=True))
