"""What the names of image folders say: repeats, token, class; sizes, versions and dates are none of them."""

from __future__ import annotations

import pytest

from lorabake_schemas.guide.folder_names import FolderName, read_folder_names

READ = {
    "10_ohwx woman 512": FolderName("concept", 10, "ohwx", None, "woman"),
    "10_ohwx woman 512x768": FolderName("concept", 10, "ohwx", None, "woman"),
    "10_ohwx man v1.5 (2)": FolderName("concept", 10, "ohwx", None, "man"),
    "5_ohwx woman 2023-05-01": FolderName("concept", 5, "ohwx", None, "woman"),
    "10_ohwx 1girl": FolderName("concept", 10, "ohwx", None, "1girl"),
    "10_ohwx, armor v2": FolderName("concept", 10, "ohwx", "armor"),
    "5_style_v2": FolderName("concept", 5, "style_v2"),
    "10_images": FolderName("concept", 10),
    "10_512": FolderName(),
    "2024_01_02": FolderName(),
    "2024_vacation": FolderName(),
    "123456_training_data": FolderName(),
    "reg_woman": FolderName("regularization", class_="woman"),
    "class_images_woman": FolderName("regularization", class_="woman"),
    "1_regularization images man 512": FolderName("regularization", 1, class_="man"),
    "class_images": FolderName("regularization"),
    "reg/1_Woman": FolderName("regularization", 1, class_="Woman"),
}


@pytest.mark.parametrize("name", READ)
def test_what_a_name_says(name: str) -> None:
    assert read_folder_names([name]) == (READ[name],)
