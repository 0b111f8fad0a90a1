"""Rules about [launch] deterministic: what would still make two runs of one recipe differ (S40)."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.hardware import suggest_no_workers
from lorabake_schemas.messages import msg, nmsg
from lorabake_schemas.sd_scripts import needs_bitsandbytes


def is_deterministic(situation: RuleContext) -> bool:
    return bool(situation.recipe.launch.deterministic)


@rule("S40.xformers", ERROR, "PyTorch's switch for repeatable results does not cover every kernel of xformers.")
def nondeterministic_attention(situation: RuleContext) -> Iterator[RuleHit]:
    if is_deterministic(situation) and situation.recipe.train.attention == "xformers":
        yield RuleHit(
            ("train", "attention"),
            msg("launch.deterministic does not cover xformers: its gradients are not guaranteed to be reproducible"),
            msg('write attention = "sdpa", or remove it'),
        )


@rule(
    "S40.caches",
    ERROR,
    "The first run makes the latents on disk and draws noise for them; the next one only reads them.",
)
def nondeterministic_latent_cache(situation: RuleContext) -> Iterator[RuleHit]:
    if is_deterministic(situation) and situation.recipe.train.cache_latents_to_disk:
        yield RuleHit(
            ("train", "cache_latents_to_disk"),
            msg(
                "launch.deterministic conflicts with latents cached on disk: the second run reads them and "
                "then draws different noise"
            ),
            msg("remove it; cache_latents keeps them in memory and gives the same result in every run"),
        )


@rule(
    "S40.token_warmup",
    ERROR,
    "Workers that fetch ahead read whatever step the training has reached (TU:6664).",
)
def nondeterministic_token_warmup(situation: RuleContext) -> Iterator[RuleHit]:
    warm_up = situation.recipe.kohya.get("token_warmup_step")
    if is_deterministic(situation) and warm_up and situation.recipe.train.max_data_loader_n_workers != 0:
        yield RuleHit(
            ("kohya", "token_warmup_step"),
            msg(
                "launch.deterministic conflicts with token_warmup_step: the number of tags used depends on worker speed"
            ),
            msg("{change}, or remove token_warmup_step", change=suggest_no_workers(situation)),
        )


@rule(
    "S40.workers",
    WARNING,
    "sd-scripts uses no more workers than the machine has CPUs, and results depend on their number.",
)
def machine_dependent_workers(situation: RuleContext) -> Iterator[RuleHit]:
    workers, cpus = situation.recipe.train.max_data_loader_n_workers, situation.machine.cpus
    if is_deterministic(situation) and workers is not None and workers > max(cpus, 1):
        yield RuleHit(
            ("train", "max_data_loader_n_workers"),
            msg(
                "{workers} workers are set, but this machine has only {there}",
                workers=workers,
                there=nmsg(cpus, "{n} CPU", "{n} CPUs"),
            ),
            msg("write 1; with more workers than CPUs, results differ on another machine"),
        )


@rule(
    "S40.processes",
    WARNING,
    "NCCL or gloo adds up what several processes have, and PyTorch guarantees nothing about that.",
)
def nondeterministic_processes(situation: RuleContext) -> Iterator[RuleHit]:
    if is_deterministic(situation) and (situation.recipe.launch.num_processes or 1) > 1:
        yield RuleHit(
            ("launch", "num_processes"),
            msg(
                "launch.deterministic does not cover several processes: the order in which their gradients are added "
                "up is not guaranteed"
            ),
            msg("write num_processes = 1, or compare two runs before you rely on it"),
        )


@rule("S40.bitsandbytes", HINT, "PyTorch's switch for repeatable results does not cover bitsandbytes' own kernels.")
def nondeterministic_optimizer(situation: RuleContext) -> Iterator[RuleHit]:
    if is_deterministic(situation) and needs_bitsandbytes(situation.optimizer):
        yield RuleHit(
            ("train", "optimizer"),
            msg(
                "launch.deterministic does not cover {name}: its kernels are outside the control of PyTorch",
                name=situation.optimizer,
            ),
            msg("compare two runs before you rely on it, or use AdamW"),
        )


__all__: list[str] = []
