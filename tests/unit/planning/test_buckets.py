"""Bucket arithmetic against numbers taken from sd-scripts itself (T17, S15, S16)."""

from __future__ import annotations

import pytest

from lorabake.errors import RecipeError
from lorabake.planning.buckets import BucketRules, adjusted_limits, bucket_assigner, bucket_sizes
from lorabake_schemas.bucket_fit import BucketFit, Size


def rules(side: int, top: int, *, low: int = 256, step: int = 64, no_upscale: bool = False) -> BucketRules:
    return BucketRules((side, side), True, no_upscale, low, top, step)


@pytest.mark.parametrize(("side", "top", "count"), [(768, 960, 17), (1024, 2048, 41)])
def test_t17_number_of_buckets(side: int, top: int, count: int) -> None:
    assert len(bucket_sizes(rules(side, top))) == count


def test_t17_the_square_bucket_is_floored() -> None:
    squares = [size for size in bucket_sizes(rules(700, 1024)) if size[0] == size[1]]
    assert squares == [(640, 640)]


def test_t17_limits_are_rounded_outwards() -> None:
    assert adjusted_limits(rules(768, 900, low=300)) == (256, 960)


@pytest.mark.parametrize(("side", "top", "low", "words"), [(1024, 960, 256, "above"), (128, 1024, 256, "below")])
def test_a_resolution_outside_the_limits_is_refused(side: int, top: int, low: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        bucket_sizes(rules(side, top, low=low))
    assert "bucket_reso" in (caught.value.hint or "")


def test_a_least_side_below_one_step_is_refused() -> None:
    with pytest.raises(RecipeError, match="below bucket_reso_steps"):
        bucket_sizes(rules(512, 1024, low=32))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((600, 900), BucketFit((600, 900), (640, 896), (640, 960))),
        ((300, 300), BucketFit((300, 300), (768, 768), (768, 768))),
        ((896, 640), BucketFit((896, 640), (896, 640), (896, 640))),  # exactly a bucket
        ((2000, 2000), BucketFit((2000, 2000), (768, 768), (768, 768))),
    ],
)
def test_placing_at_768(image: Size, expected: BucketFit) -> None:
    place = bucket_assigner(rules(768, 960))
    assert place(image) == expected
    assert place(image) is place(image)


def test_ties_go_to_the_first_bucket() -> None:
    # 9:16 lies exactly between 256 x 512 (0.5) and 320 x 512 (0.625)
    assert bucket_assigner(rules(512, 512))((900, 1600)).bucket == (256, 512)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ((300, 300), BucketFit((300, 300), (256, 256), (300, 300))),
        ((768, 768), BucketFit((768, 768), (768, 768), (768, 768))),
        ((1600, 1200), BucketFit((1600, 1200), (832, 640), (853, 640))),
        ((1200, 1600), BucketFit((1200, 1600), (640, 832), (640, 853))),
    ],
)
def test_no_upscale_floors_to_the_step(image: Size, expected: BucketFit) -> None:
    assert bucket_assigner(rules(768, 960, no_upscale=True))(image) == expected


@pytest.mark.parametrize("image", [(200, 50), (50, 200), (100_000, 65)])
def test_no_upscale_without_room_for_a_bucket(image: Size) -> None:
    with pytest.raises(RecipeError, match=f"{image[0]} x {image[1]}"):
        bucket_assigner(rules(512, 1024, no_upscale=True))(image)


def test_an_image_without_a_size_is_refused() -> None:
    with pytest.raises(RecipeError, match="0 x 0"):
        bucket_assigner(rules(512, 1024))((0, 0))


def test_without_buckets_there_is_one() -> None:
    flat = BucketRules((512, 640))
    assert bucket_sizes(flat) == ((512, 640),)
    assert bucket_assigner(flat)((1000, 1000)).bucket == (512, 640)


def test_crop_is_centred() -> None:
    placed = bucket_assigner(rules(768, 960))((600, 900))
    assert placed.crop == (0, 32, 640, 928)


def test_the_nearest_ratio_is_the_one_of_a_search_through_all() -> None:
    """sd-scripts takes the first of all with the smallest error (TU:287-293)."""
    for made in (rules(768, 960), rules(1024, 2048), rules(512, 1024, low=64), rules(640, 832, step=32)):
        place, sizes = bucket_assigner(made), bucket_sizes(made)
        for image in [(width, height) for width in range(50, 3000, 97) for height in range(61, 3000, 89)]:
            ratio = image[0] / image[1]
            first = min(range(len(sizes)), key=lambda at: abs(sizes[at][0] / sizes[at][1] - ratio))
            assert place(image).bucket == (image if image in sizes else sizes[first])
