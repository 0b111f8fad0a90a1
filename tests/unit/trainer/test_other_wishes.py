"""In what another commit's requirements.txt differs from the pin's."""

from __future__ import annotations

import pytest

from lorabake.trainer.packages import compare_requirements, parse_requirements

PIN = """accelerate==1.6.0
diffusers[torch]==0.32.1
# a remark
numpy
Pytorch_Optimizer==3.9.0  # another
-e .
"""


def test_each_line_by_its_package() -> None:
    assert parse_requirements(PIN) == {
        "accelerate": "accelerate==1.6.0",
        "diffusers": "diffusers[torch]==0.32.1",
        "numpy": "numpy",
        "pytorch-optimizer": "Pytorch_Optimizer==3.9.0",
        "-e .": "-e .",
    }


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (PIN, []),
        ("".join(reversed(PIN.splitlines(keepends=True))), []),
        (
            PIN.replace("1.6.0", "1.7.0"),
            ["this commit requires accelerate==1.7.0, the pinned commit requires accelerate==1.6.0"],
        ),
        (
            PIN.replace("[torch]", ""),
            ["this commit requires diffusers==0.32.1, the pinned commit requires diffusers[torch]==0.32.1"],
        ),
        (PIN.replace("numpy\n", "#numpy\n"), ["this commit does not require numpy, the pinned commit does"]),
        (PIN + "easygui==0.98.3\n", ["this commit requires easygui==0.98.3, the pinned commit does not"]),
    ],
)
def test_every_line_that_differs_is_named(theirs: str, said: list[str]) -> None:
    assert list(compare_requirements(theirs, PIN)) == said
