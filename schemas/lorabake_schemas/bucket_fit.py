"""How sd-scripts fits an image into its bucket: how much it is scaled, how much is cropped. Pure.

Plain dataclasses because there can be 100,000; many images of one size share one.
"""

from __future__ import annotations

from typing import NamedTuple

Size = tuple[int, int]


class BucketFit(NamedTuple):
    """One image's bucket and its size after scaling, before the center crop to the bucket; (width, height)."""

    size: Size
    bucket: Size
    resized: Size

    @property
    def scale(self) -> float:
        """How much larger the image becomes; above 1 it is upscaled by Lanczos (library/utils.py:249)."""
        return max(self.resized[0] / self.size[0], self.resized[1] / self.size[1])

    @property
    def cropped_share(self) -> float:
        """The share of the image that is cut away at two opposite sides: 0 nothing, 0.25 a quarter."""
        return 1 - self.bucket[0] * self.bucket[1] / (self.resized[0] * self.resized[1])

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """left, upper, right, lower of the center crop in the scaled image (TU:2965-2993, no random crop)."""
        left = max(0, self.resized[0] - self.bucket[0]) // 2
        upper = max(0, self.resized[1] - self.bucket[1]) // 2
        return left, upper, left + self.bucket[0], upper + self.bucket[1]


# One for each image of a subset, in order; None for one that sd-scripts leaves out (regularization it needs not).
SubsetFits = tuple[BucketFit | None, ...]
