"""What keeps the loss finite. Such a failure is seen in the numbers, not in the log."""

from __future__ import annotations

from lorabake.runs.causes.cause import Advice, matching, off, on
from lorabake_schemas.messages import template

ADAPTIVE = r"(?i)^(?:prodigy|dadapt)"
OTHERS = r"(?i)^(?!prodigy|dadapt)"

FINITE_LOSS = (
    Advice(template('set train.mixed_precision = "bf16"'), (on("mixed_precision", "fp16"),)),
    Advice(template("set train.no_half_vae = true"), (on("mixed_precision", "fp16"), off("no_half_vae"))),
    Advice(template("set train.max_grad_norm = 1, because gradients are not clipped now"), (on("run.unclipped"),)),
    Advice(template("set d_coef = 1 or less in train.optimizer_args"), (matching("optimizer_type", ADAPTIVE),)),
    Advice(template("lower train.learning_rate"), (matching("optimizer_type", OTHERS),)),
)
