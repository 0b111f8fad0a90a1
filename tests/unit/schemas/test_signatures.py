"""What was read from the trainer's source: lookups, kinds, and when a class refuses its arguments."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.util import resources
from lorabake_schemas.signatures import Parameter, Signature, evaluate_condition

SIGNATURES = resources.load_snapshot().signatures


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ("not 0.0 <= weight_decay", {"weight_decay": -1}, True),
        ("not 0.0 <= weight_decay", {"weight_decay": 0}, False),
        ("not 0.0 <= betas[1] < 1.0", {"betas": (0.9, 1.5)}, True),
        ("not 0.0 <= betas[2] < 1.0", {"betas": (0.9, 0.5)}, False),  # it has no third: nothing is known
        ("beta3 is not None and (not 0.0 <= beta3 < 1.0)", {"beta3": None}, False),
        ("mode not in ['min', 'max']", {"mode": "most"}, True),
        ("a and b", {"a": True, "b": False}, False),
        ("a or b", {"a": True, "b": False}, True),
        ("a > -1", {"a": -2}, False),
        ("not 0 <= a", {"a": "text"}, False),
        ("unknown > 1", {}, False),
        ("__import__('os').getpid() > 0", {}, False),
        ("a.b > 1", {"a": 2}, False),
        ("(", {}, False),
    ],
)
def test_a_condition_is_compared_and_never_run(condition: str, values: dict[str, Any], *, holds: bool) -> None:
    assert evaluate_condition(condition, values) is holds


@pytest.mark.parametrize(
    ("path", "given", "argument"),
    [
        ("torch.optim.AdamW", {"weight_decay": -1}, "weight_decay"),
        ("torch.optim.AdamW", {"betas": (0.9, 1.0)}, "betas"),
        ("torch.optim.AdamW", {"weight_decay": 0.1, "betas": (0.9, 0.99)}, None),
        ("prodigyopt.Prodigy", {"d0": 0}, "d0"),
        ("prodigyopt.Prodigy", {"d0": 1e-6}, None),
        ("pytorch_optimizer.CAME", {"weight_decay": -1.0}, "weight_decay"),  # in a method of its base
        ("bitsandbytes.optim.AdamW8bit", {"amsgrad": True}, "amsgrad"),
        ("bitsandbytes.optim.AdamW8bit", {"eps": -1}, "eps"),  # in its base's constructor, called by place
    ],
)
def test_refused_values(path: str, given: dict[str, Any], argument: str | None) -> None:
    signature = SIGNATURES.find_optimizer(path)
    assert signature is not None
    refusal = signature.find_refusal(given)
    assert (refusal and refusal[0]) == argument


@pytest.mark.parametrize(
    ("parameter", "value", "fits"),
    [
        (Parameter(name="a", kinds=("float",)), 1, True),
        (Parameter(name="a", kinds=("float",)), True, False),
        (Parameter(name="a", kinds=("float",)), (1.0, 2.0), False),
        (Parameter(name="a", kinds=("bool",)), 1, False),
        (Parameter(name="a", kinds=("list",), length=2), 0.9, False),
        (Parameter(name="a", kinds=("list",), length=2), (0.9, 0.99), True),
        (Parameter(name="a", kinds=("list",), length=2), (0.9,), False),
        (Parameter(name="a", kinds=("str",), choices=("x", "y")), "z", False),
        (Parameter(name="a"), "anything", True),
    ],
)
def test_kinds(parameter: Parameter, value: object, *, fits: bool) -> None:
    assert (parameter.problem(value) is None) is fits


def test_classes_are_found_by_name_and_by_path() -> None:
    assert SIGNATURES.find_by_class("CAME") == "pytorch_optimizer.CAME"
    assert SIGNATURES.find_by_class("prodigyplusschedulefree") == "prodigyplus.ProdigyPlusScheduleFree"
    assert SIGNATURES.find_by_class("NoSuchThing") is None
    assert SIGNATURES.find_nearest("came_pytorch.CAME") == "pytorch_optimizer.CAME"
    assert SIGNATURES.find_nearest("pytorch_optimizer.Adanx") == "pytorch_optimizer.Adan"
    assert SIGNATURES.find_optimizer("pytorch_optimizer.optimizer.came.CAME") is not None
    assert SIGNATURES.find_optimizer("pytorch_optimizer.CAME") is not None
    assert SIGNATURES.find_scheduler("torch.optim.lr_scheduler.OneCycleLR") is not None
    assert SIGNATURES.find_scheduler("torch.optim.AdamW") is None


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        ("pytorch_optimizer.AdaHessian", ("create_graph",)),
        ("pytorch_optimizer.SAM", ("closure",)),
        ("torch.optim.LBFGS", ("closure",)),
        ("torch.optim.AdamW", ()),
    ],
)
def test_what_a_step_asks_of_its_caller(path: str, needs: tuple[str, ...]) -> None:
    signature = SIGNATURES.find_optimizer(path)
    assert isinstance(signature, Signature)
    assert signature.needs == needs


def test_networks() -> None:
    lora, lycoris = SIGNATURES.networks["networks.lora"], SIGNATURES.networks["lycoris.kohya"]
    assert lora.arguments["loraplus_lr_ratio"] == ("float",)
    assert lora.arguments["down_lr_weight"] == ("list",)
    assert lycoris.arguments["full_matrix"] == ("bool",)
    assert SIGNATURES.networks["networks.oft"].arguments["enable_conv"] == ("flag",)
    assert not SIGNATURES.networks["networks.lora_flux"].sd
    assert {"full", "boft", "lokr"} <= SIGNATURES.algorithms.keys()
    assert "full_matrix" in SIGNATURES.algorithms["lokr"]
    assert "full_matrix" not in SIGNATURES.algorithms["loha"]
    assert "networks.oft" in SIGNATURES.iter_network_types()
