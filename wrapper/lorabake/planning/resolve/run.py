"""Everything about the run that is neither network, optimizer nor dataset: base, precision, memory, files."""

from __future__ import annotations

from lorabake.planning.resolve.profile import Profile
from lorabake.planning.resolve.sources import always, forced, guide, machine, ours, pick
from lorabake_schemas.defaults import default_precision, token_limit_of
from lorabake_schemas.machine import AttentionProbe, MachineFacts
from lorabake_schemas.plan import LaunchPlan, Setting, Source
from lorabake_schemas.recipe import Recipe, Train
from lorabake_schemas.words import say

DEFAULT_SEED = 42
ROOMY_GPU_MIB = 12_000
OUTPUT_DIR, LOGGING_DIR, PROMPTS_FILE = "output", "tensorboard", "prompts.txt"


def base_settings(recipe: Recipe, profile: Profile) -> tuple[Setting, ...]:
    """The model and what kind of model it is. clip_skip means nothing to SDXL (S23)."""
    base = recipe.base
    clip_skip = 2 if profile.family == "sd15" and profile.tags == "danbooru" else None
    return (
        *pick("pretrained_model_name_or_path", base.model),
        *pick("vae", base.vae),
        *pick("tokenizer_cache_dir", base.tokenizer_cache_dir),
        *(always("v2", True, guide("G4.10")) if profile.family == "sd2" else ()),
        *(
            pick("v_parameterization", base.v_prediction or None, True, guide("G4.11", say("read from the model")))
            if profile.v_prediction
            else ()
        ),
        *(
            pick("zero_terminal_snr", base.zero_terminal_snr or None, True, guide("G4.89", say("read from the model")))
            if profile.zero_terminal_snr
            else ()
        ),
        *(() if profile.sdxl else pick("clip_skip", base.clip_skip, clip_skip, guide("G4.91"))),
        *_token_length(recipe.train),
    )


def _token_length(train: Train) -> tuple[Setting, ...]:
    """75 is what sd-scripts does without the option, and no choice of its parser (TU:3902)."""
    given = train.max_token_length
    return () if given == 75 else pick("max_token_length", given, token_limit_of(train), guide("GC.24"))


def memory_settings(recipe: Recipe, profile: Profile, attention: AttentionProbe) -> tuple[Setting, ...]:
    """Precision, attention, latents and the data loader."""
    train = recipe.train
    precision = default_precision("cuda" if profile.cuda else "cpu")
    why = guide("G4.14") if profile.cuda else machine(say("no NVIDIA GPU: float32 on the CPU"))
    checkpoint = True if profile.sdxl or 0 < profile.gpu_memory_mib < ROOMY_GPU_MIB else None
    chosen = train.mixed_precision or precision
    return (
        *pick("mixed_precision", train.mixed_precision, precision, why),
        *pick("save_precision", recipe.save.save_precision, "fp16", guide("G4.14")),
        *_attention(train.attention, attention, deterministic=bool(recipe.launch.deterministic)),
        *_off_or(train.gradient_checkpointing, "gradient_checkpointing", checkpoint, guide("G4.92")),
        *_off_or(train.no_half_vae, "no_half_vae", (profile.sdxl and chosen == "fp16") or None, forced("S21")),
        *_off_or(train.cache_latents, "cache_latents", True, guide("G4.39", say("in main memory, and it saves VRAM"))),
        *_off_or(train.cache_latents_to_disk, "cache_latents_to_disk", None, guide("G4.40")),
        *pick(
            "max_data_loader_n_workers",
            train.max_data_loader_n_workers,
            1,
            ours(say("results depend on it; one worker gives the same on any machine")),
        ),
        *_persistent(recipe),
        *pick("seed", train.seed, DEFAULT_SEED, ours(say("a fixed seed makes the run repeatable (G4.94, S40)"))),
    )


def _attention(wanted: str | None, probe: AttentionProbe, *, deterministic: bool) -> tuple[Setting, ...]:
    """xformers as the guide wants (G4.96) where it really works here, else PyTorch's own attention.

    PyTorch's switch for repeatable results makes its own attention choose kernels that are (pytorch pull 101847); of
    xformers' kernels not every one asks for it.
    """
    if wanted in {"xformers", "sdpa"}:
        return pick(wanted, True)
    if deterministic:
        return always(
            "sdpa", True, forced("S40", say("deterministic: PyTorch's own attention can be repeated exactly"))
        )
    if probe.xformers:
        return always("xformers", True, guide("G4.96", probe.reason))
    return always("sdpa", True, machine(probe.reason))


def _off_or(given: bool | None, option: str, default: bool | None, source: Source) -> tuple[Setting, ...]:
    """A store_true flag: written when on, left out when off (a false in the TOML would do no more)."""
    return () if given is False else pick(option, given, default, source)


def _persistent(recipe: Recipe) -> tuple[Setting, ...]:
    """Crashes with 0 workers (S38); otherwise it only saves starting the worker again at every epoch."""
    workers = recipe.train.max_data_loader_n_workers
    default = None if workers == 0 else True
    return _off_or(
        recipe.train.persistent_data_loader_workers,
        "persistent_data_loader_workers",
        default,
        ours(say("main memory, not VRAM (G4.95)")),
    )


def file_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Names and folders, relative to the run folder, in which the trainer starts."""
    save = recipe.save
    return (
        *always("output_name", recipe.name, guide("G4.8")),
        *always("output_dir", OUTPUT_DIR, guide("G4.17")),
        *always("logging_dir", LOGGING_DIR, guide("G4.17")),
        *always("log_with", "tensorboard", guide("G4.17")),
        *pick("save_model_as", save.save_model_as, "safetensors", guide("G4.13")),
        *pick("save_every_n_steps", save.save_every_n_steps),
        *pick("save_last_n_epochs", save.save_last_n_epochs),
        *pick("save_last_n_steps", save.save_last_n_steps),
        *pick("save_state", save.save_state or None),
        *pick("save_state_on_train_end", save.save_state_on_train_end or None),
    )


def prior_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Only with regularisation; it belongs to the train TOML (G35.11)."""
    default = 1.0 if recipe.regularisation else None
    given = recipe.train.prior_loss_weight
    return pick("prior_loss_weight", None if given is None else float(given), default, guide("G4.88"))


def sample_settings(recipe: Recipe, every: int | None) -> tuple[Setting, ...]:
    """Sample pictures: at the recipe's interval, else whenever a file is saved (``every`` epochs)."""
    sample = recipe.sample
    if sample is None:
        return ()
    asked = sample.sample_every_n_epochs or sample.sample_every_n_steps
    return (
        *always("sample_prompts", PROMPTS_FILE, ours(say("the recipe's prompts, one a line"))),
        *pick(
            "sample_every_n_epochs",
            sample.sample_every_n_epochs,
            None if asked else every or 1,
            ours(say("as often as a file is saved")),
        ),
        *pick("sample_every_n_steps", sample.sample_every_n_steps),
        *pick("sample_at_first", sample.sample_at_first or None),
        *pick("sample_sampler", sample.sample_sampler),
    )


def metadata_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """What is written into the file for whoever gets it (G4.16)."""
    given = recipe.metadata
    tokens = ", ".join(dict.fromkeys(concept.token for concept in recipe.concept))
    return (
        *pick("metadata_author", given.author),
        *pick("metadata_title", given.title),
        *pick("metadata_description", given.description),
        *pick("metadata_license", given.license),
        *pick("metadata_tags", given.tags),
        *pick("metadata_usage_hint", given.usage_hint),
        *pick("metadata_trigger_phrase", given.trigger_phrase, tokens, guide("G4.16")),
        *pick("training_comment", given.comment),
    )


def launch_plan(recipe: Recipe, facts: MachineFacts) -> LaunchPlan:
    """accelerate's flags: one process unless asked; all CPUs to one process when there is no GPU.

    Sums of several threads come out otherwise than those of one, so that a deterministic run takes one thread on every
    machine unless told.
    """
    asked = recipe.launch
    cpu, deterministic = facts.device == "cpu", bool(asked.deterministic)
    threads = facts.cpus if cpu and not deterministic else 1
    return LaunchPlan(
        num_processes=asked.num_processes or 1,
        gpu_ids=None if cpu else asked.gpu_ids,
        num_cpu_threads_per_process=asked.num_cpu_threads_per_process or threads,
        main_process_port=asked.main_process_port,
        cpu=cpu,
        deterministic=deterministic,
    )


__all__ = [
    "base_settings",
    "default_precision",
    "file_settings",
    "launch_plan",
    "memory_settings",
    "metadata_settings",
    "prior_settings",
    "sample_settings",
]
