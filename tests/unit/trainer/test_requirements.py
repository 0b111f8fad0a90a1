"""Locks as text, pip's lines as progress, pip's failures as messages."""

from __future__ import annotations

import pytest

from lorabake.trainer import packages
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin, Setting, Source
from situations import XFORMERS, plan_of, recipe

LOCK = """\
# build-first: hatchling wheel
alpha==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
hatchling==2.0 ; python_version >= '3' \\
    --hash=sha256:cc
torch==2.13.0 --hash=sha256:dd
wheel==0.1 \\
    --hash=sha256:ee
"""


def test_packages_and_build_tools_of_a_lock() -> None:
    assert packages.parse_lock(LOCK) == {"alpha": "1.0", "hatchling": "2.0", "torch": "2.13.0", "wheel": "0.1"}
    first = packages.select_build_first(LOCK)
    assert packages.parse_lock(first) == {"hatchling": "2.0", "wheel": "0.1"}
    assert "; python_version >= '3' \\\n    --hash=sha256:cc\n" in first
    assert packages.select_build_first("alpha==1.0 --hash=sha256:aa\n") == ""


def test_progress_counts_what_is_for_this_machine() -> None:
    progress = packages.PipProgress.of(LOCK + "numpy==1 --hash=sha256:aa\nnumpy==2 --hash=sha256:aa\n")
    said = [
        "Looking in links: /wheels",
        "Ignoring numpy: markers 'python_full_version >= \"3.12\"' don't match your environment",
        "Collecting alpha==1.0 (from -r lock.txt (line 1))",
        "  Downloading alpha-1.0-py3-none-any.whl (10 kB)",
        "",
        "Requirement already satisfied: wheel==0.1 in ./venv (from -r lock.txt (line 9)) (0.1)",
        "Processing /a/wheel-house/hatch_ling-2.0-py3-none-any.whl (from -r lock.txt (line 4))",
        "Processing ./py-thing/numpy-1.tar.gz (from -r lock.txt (line 5))",
        "Collecting torch==2.13.0 (from -r lock.txt (line 6))",
        "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (526.6 MB)",
        "Installing collected packages: alpha",
    ]
    assert [line for line in map(progress.line, said) if line] == [
        "installing 1/5 alpha 1.0",
        "installing 2/5 wheel 0.1",
        "installing 3/5 hatch-ling 2.0",
        "installing 4/5 numpy 1",
        "installing 5/5 torch 2.13.0",
        "downloading torch (526.6 MB)",
        "unpacking 5 packages",
    ]


@pytest.mark.parametrize(
    ("said", "message", "hint", "exit_code"),
    [
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
            "LORABAKE_HOME",
            6,
        ),
        (
            [
                "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated",
                "    tiny==1.0 from file:///wheels/tiny-1.0-py3-none-any.whl (from -r lock.txt (line 1)):",
                "        Expected sha256 aa",
                "             Got        bb",
            ],
            "pip downloaded tiny==1.0 from file:///wheels/tiny-1.0-py3-none-any.whl, but its hash does not match the lock file",  # noqa: E501
            "another index",
            4,
        ),
        (
            [
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('...')': /tiny/",
                "ERROR: Could not find a version that satisfies the requirement tiny==1.0 (from versions: none)",
                "ERROR: No matching distribution found for tiny==1.0",
            ],
            "pip cannot reach its package index to get tiny==1.0",
            "check the network",
            4,
        ),
        (
            ["ERROR: No matching distribution found for tiny==1.0"],
            "pip found no tiny==1.0 for this Python and machine",
            "pip config list",
            4,
        ),
        (
            ["Traceback", "ValueError: something new"],
            "pip could not install the trainer's packages",
            "something new",
            4,
        ),
        ([], "pip could not install the trainer's packages", "pip reported: ", 4),
    ],
)
def test_why_pip_failed(said: list[str], message: str, hint: str, exit_code: int) -> None:
    error = packages.explain_pip_failure(said)
    assert error.message == message
    assert hint in (error.hint or "")
    assert error.exit_code == exit_code


def test_the_trainers_python_sees_no_other_python() -> None:
    env = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "PYTHONPATH": "/x",
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/x",
        "PIP_TARGET": "/x",
        "PIP_USER": "1",
        "PIP_REQUIREMENT": "x.txt",
        "CONDA_PREFIX": "/x",
        "PIP_INDEX_URL": "mine",
        "PIP_FIND_LINKS": "mine",
        "PIP_CERT": "mine",
        "HTTPS_PROXY": "mine",
    }
    child = packages.python_environment(env, TMPDIR="/scratch")
    assert {name for name in env if name in child} == {"PATH", "HOME", "HTTPS_PROXY"}
    assert child["TMPDIR"] == "/scratch"
    assert child["PYTHONNOUSERSITE"] == "1"


def needs(**options: OptionValue) -> tuple[str, ...]:
    """What a plan needs whose train options are these."""
    settings = [
        Setting(option=name, value=value, source=Source(origin=Origin.RECIPE)) for name, value in options.items()
    ]
    return packages.list_required_modules(plan_of(recipe()).model_copy(update={"train": tuple(settings)}))


@pytest.mark.parametrize(
    ("optimizer", "modules"),
    [
        ("AdamW", ()),
        ("Adafactor", ()),
        ("RAdam", ()),
        ("AdamW8bit", ("bitsandbytes",)),
        ("PagedAdamW", ("bitsandbytes",)),
        ("PagedAdamW32bit", ("bitsandbytes",)),
        ("bitsandbytes.optim.AdEMAMix8bit", ("bitsandbytes", "bitsandbytes.optim")),
        ("Lion", ("lion_pytorch",)),
        ("Prodigy", ("prodigyopt",)),
        ("DAdaptation", ("dadaptation",)),
        ("DAdaptLion", ("dadaptation",)),
        ("RAdamScheduleFree", ("schedulefree",)),
        ("prodigyplus.ProdigyPlusScheduleFree", ("prodigyplus", "schedulefree")),
        ("pytorch_optimizer.CAME", ("pytorch_optimizer",)),
    ],
)
def test_the_package_an_optimizer_comes_from(optimizer: str, modules: tuple[str, ...]) -> None:
    assert needs(optimizer_type=optimizer) == modules


@pytest.mark.parametrize(
    ("options", "modules"),
    [
        ({}, ()),
        ({"network_module": "networks.lora"}, ()),
        ({"network_module": "lycoris.kohya"}, ("lycoris.kohya",)),
        ({"xformers": True}, ("xformers.ops",)),
        ({"sdpa": True, "xformers": False}, ()),
        ({"lr_scheduler_type": "CosineAnnealingLR"}, ()),
        ({"lr_scheduler_type": "pytorch_optimizer.lr_scheduler.REXScheduler"}, ("pytorch_optimizer.lr_scheduler",)),
        ({"optimizer_schedulefree_wrapper": True}, ("schedulefree",)),
        ({"logging_dir": "logs"}, ("tensorboard",)),
        ({"logging_dir": "logs", "log_with": "all"}, ("tensorboard", "wandb")),
        ({"logging_dir": "logs", "log_with": "wandb"}, ("wandb",)),
    ],
)
def test_the_packages_that_other_options_need(options: dict[str, OptionValue], modules: tuple[str, ...]) -> None:
    assert needs(**options) == modules


def test_a_real_plan_says_what_it_needs() -> None:
    wants_much = recipe(train={"optimizer": "Prodigy"}, network={"type": "loha"})
    needed = packages.list_required_modules(plan_of(wants_much, attention=XFORMERS))
    assert {"lycoris.kohya", "prodigyopt", "xformers.ops"} <= set(needed)
    plain = recipe(train={"optimizer": "AdamW", "attention": "sdpa"}, network={"type": "lora"})
    assert packages.list_required_modules(plan_of(plain, attention=XFORMERS)) == ("tensorboard",)


def test_what_to_ask_pip_for() -> None:
    modules = ("lycoris.kohya", "cv2", "lycoris", "prodigyplus", "lion_pytorch", "xformers.ops", "PIL")
    assert packages.find_distributions(modules) == (
        "lycoris-lora",
        "opencv-python",
        "prodigy-plus-schedule-free",
        "lion-pytorch",
        "xformers",
        "pillow",
    )
