"""Rules about [launch] deterministic: what would make two runs of one recipe differ all the same (S40)."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.vocabulary import needs_bitsandbytes
from lorabake_schemas.words import say, told


def deterministic(situation: Situation) -> bool:
    return bool(situation.recipe.launch.deterministic)


@rule("S40.xformers", ERROR, "PyTorch's switch for repeatable results does not reach every kernel of xformers.")
def attention_can_be_repeated(situation: Situation) -> Iterator[Remark]:
    if deterministic(situation) and situation.recipe.train.attention == "xformers":
        yield Remark(
            ("train", "attention"),
            say("launch.deterministic and xformers: nobody promises that its gradients come out the same twice"),
            say('write attention = "sdpa", or leave it out'),
        )


@rule("S40.caches", ERROR, "The first run makes the latents on disk and draws noise for them, the next one only reads.")
def latents_are_made_every_time(situation: Situation) -> Iterator[Remark]:
    if deterministic(situation) and situation.recipe.train.cache_latents_to_disk:
        yield Remark(
            ("train", "cache_latents_to_disk"),
            say("launch.deterministic and latents kept on disk: the second run reads them and then draws other noise"),
            say("leave it out: cache_latents in main memory gives the same in every run"),
        )


@rule(
    "S40.token_warmup",
    ERROR,
    "Workers read the step at which the training happens to be while they fetch ahead (TU:6664).",
)
def tags_do_not_depend_on_timing(situation: Situation) -> Iterator[Remark]:
    warm_up = situation.recipe.kohya.get("token_warmup_step")
    if deterministic(situation) and warm_up and situation.recipe.train.max_data_loader_n_workers != 0:
        yield Remark(
            ("kohya", "token_warmup_step"),
            say("launch.deterministic and token_warmup_step: how many tags are used depends on how fast a worker is"),
            say("write max_data_loader_n_workers = 0 under [train], or take token_warmup_step out"),
        )


@rule("S40.workers", WARNING, "sd-scripts takes no more workers than the machine has CPUs, and results depend on them.")
def workers_are_the_same_everywhere(situation: Situation) -> Iterator[Remark]:
    workers, cpus = situation.recipe.train.max_data_loader_n_workers, situation.machine.cpus
    if deterministic(situation) and workers is not None and workers > max(cpus, 1):
        yield Remark(
            ("train", "max_data_loader_n_workers"),
            say(
                "{workers} workers, and this machine has {there}",
                workers=workers,
                there=told(cpus, "{n} CPU", "{n} CPUs"),
            ),
            say("write 1: more of them than CPUs give another result on another machine"),
        )


@rule("S40.processes", WARNING, "What several GPUs add up is added by NCCL, of which PyTorch promises nothing.")
def one_process_adds_up(situation: Situation) -> Iterator[Remark]:
    if deterministic(situation) and (situation.recipe.launch.num_processes or 1) > 1:
        yield Remark(
            ("launch", "num_processes"),
            say("launch.deterministic and several processes: nobody promises the order in which GPUs add up gradients"),
            say("write num_processes = 1, or compare two runs before you rely on it"),
        )


@rule("S40.bitsandbytes", HINT, "PyTorch's switch for repeatable results does not reach bitsandbytes' own kernels.")
def optimizer_can_be_repeated(situation: Situation) -> Iterator[Remark]:
    if deterministic(situation) and needs_bitsandbytes(situation.optimizer):
        yield Remark(
            ("train", "optimizer"),
            say("launch.deterministic and {name}: PyTorch cannot speak for its kernels", name=situation.optimizer),
            say("compare two runs before you rely on it, or take AdamW"),
        )


__all__: list[str] = []
