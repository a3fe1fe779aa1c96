"""SSIM against its definition written out, and the distances of images that differ in known places."""

import numpy as np
import pytest

from ciad_engine import distances


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_definition(x: np.ndarray, y: np.ndarray, width: int = 11) -> float:
    """Wang et al. 2004, equations 13 to 17, one window after the other, of one channel."""
    offset = np.arange(width) - width // 2
    weights = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - width + 1):
        for left in range(x.shape[1] - width + 1):
            a, b = (image[top : top + width, left : left + width].astype(float) for image in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a = (weights * (a - mean_a) ** 2).sum()
            variance_b = (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )
    return float(np.mean(values))


@pytest.mark.parametrize(("height", "width", "window"), [(32, 32, 11), (12, 20, 11), (8, 8, 7), (5, 5, 5)])
def test_ssim_is_what_its_paper_says(height, width, window):
    before = random_images(3, 3, height, width)
    noise = np.random.default_rng(1).normal(0, (2, 20, 90), (height, width, 3, 3)).transpose(3, 2, 0, 1)
    after = (before + noise).clip(0, 255).astype(np.uint8)
    found = distances.ssim(before, after)
    for k in range(3):
        expected = np.mean([by_definition(before[k, c], after[k, c], window) for c in range(3)])
        assert found[k] == pytest.approx(expected, abs=1e-9)
    assert found[0] > found[1] > found[2]


def test_ssim_of_equal_flat_and_opposite_images():
    images = np.concatenate([random_images(2, 3, 32, 32), np.zeros((1, 3, 32, 32), np.uint8)])
    np.testing.assert_allclose(distances.ssim(images, images), 1, atol=1e-12)
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)[None, None].repeat(3, 1)
    assert -1 <= distances.ssim(board, 255 - board)[0] < -0.9


def test_an_image_of_one_pixel_has_distances_too():
    found = distances.measure(np.zeros((1, 3, 1, 1), np.uint8), np.full((1, 3, 1, 1), 51, np.uint8))
    assert found["l2"][0] == pytest.approx(0.2 * 3**0.5)
    assert 0 < found["ssim"][0] < 1


def test_distances_count_values_pixels_and_levels():
    before = random_images(2, 3, 32, 32) // 2
    after = before.copy()
    after[1, :2, 4, 5] += np.array([3, 4], np.uint8)
    after[1, 2, 0, 0] += 12
    found = distances.measure(before, after)
    assert found["l0_values"].tolist() == [0, 3]
    assert found["l0_pixels"].tolist() == [0, 2]
    assert found["linf"].tolist() == [0, 12]
    assert found["l2"].tolist() == pytest.approx([0, 13 / 255])
    assert found["ssim"][0] == pytest.approx(1, abs=1e-12)
    assert 0.9 < found["ssim"][1] < 1
