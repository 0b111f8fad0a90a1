"""The settings of the run except network, optimizer and dataset: base, precision, memory, files."""

from __future__ import annotations

from typing import Literal

from lorabake.planning.profile import Profile
from lorabake.planning.setting_sources import (
    by_hardware,
    choose,
    default_by_guide,
    default_by_lorabake,
    fixed,
    forced_by,
)
from lorabake_schemas.guide.defaults import (
    FP16_LIMIT,
    changes_images,
    find_needed_precision,
    find_saved_alpha,
    resolve_precision,
    resolve_token_limit,
)
from lorabake_schemas.machine import AttentionProbe, MachineFacts
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import LaunchPlan, Setting, Source, WatchPlan
from lorabake_schemas.recipe import Log, Recipe, Train

DEFAULT_SEED = 42
LARGE_GPU_MIB = 12_000
OUTPUT_DIR, LOGGING_DIR, PROMPTS_FILE = "output", "tensorboard", "prompts.txt"


def base_settings(recipe: Recipe, profile: Profile) -> tuple[Setting, ...]:
    """The model and what kind of model it is."""
    base, family = recipe.base, profile.family
    clip_skip = family.guide.anime_clip_skip if "danbooru" in profile.tags else None
    return (
        *choose("pretrained_model_name_or_path", base.model),
        *choose("vae", base.vae),
        *choose("tokenizer_cache_dir", base.tokenizer_cache_dir),
        *(
            setting
            for option, (value, rule) in family.script_options.items()
            for setting in fixed(option, value, default_by_guide(rule))
        ),
        *(
            choose(
                "v_parameterization",
                base.v_prediction or None,
                True,
                default_by_guide("G4.11", msg("read from the model")),
            )
            if profile.v_prediction
            else ()
        ),
        *(
            choose(
                "zero_terminal_snr",
                base.zero_terminal_snr or None,
                True,
                default_by_guide("G4.89", msg("read from the model")),
            )
            if profile.zero_terminal_snr
            else ()
        ),
        *(
            ()
            if "clip_skip" in family.ignored_options
            else choose("clip_skip", base.clip_skip, clip_skip, default_by_guide("G4.91"))
        ),
        *_token_length_settings(recipe.train),
    )


def _token_length_settings(train: Train) -> tuple[Setting, ...]:
    """75 is what sd-scripts does without the option, and no choice of its parser (TU:3902)."""
    given = train.max_token_length
    return (
        () if given == 75 else choose("max_token_length", given, resolve_token_limit(train), default_by_guide("GC.24"))
    )


def _save_precision_settings(recipe: Recipe, profile: Profile) -> tuple[Setting, ...]:
    """fp16, except where an alpha in the file would not fit it."""
    if find_saved_alpha(recipe.network, profile.network) > FP16_LIMIT:
        why = msg("full-matrix LoKr saves its rank as alpha, and fp16 ends at {limit}", limit=FP16_LIMIT)
        return choose("save_precision", recipe.save.save_precision, "bf16", forced_by("S33", why))
    return choose("save_precision", recipe.save.save_precision, "fp16", default_by_guide("G4.14"))


def memory_settings(recipe: Recipe, profile: Profile, attention: AttentionProbe) -> tuple[Setting, ...]:
    """Precision, attention, latents and the data loader."""
    train = recipe.train
    family = profile.family
    device: Literal["cuda", "cpu"] = "cuda" if profile.cuda else "cpu"
    precision = resolve_precision(recipe, device)
    overflows = family.vae_needs_float32 and precision == "fp16"
    why = default_by_guide("G4.14") if profile.cuda else by_hardware(msg("no NVIDIA GPU, so float32 on the CPU"))
    if find_needed_precision(recipe, device):
        why = forced_by("S39")
    checkpoint = True if family.guide.gradient_checkpointing or 0 < profile.gpu_memory_mib < LARGE_GPU_MIB else None
    return (
        *choose("mixed_precision", train.mixed_precision, precision, why),
        *_save_precision_settings(recipe, profile),
        *_attention_settings(train.attention, attention, deterministic=bool(recipe.launch.deterministic)),
        *_flag_settings(train.gradient_checkpointing, "gradient_checkpointing", checkpoint, default_by_guide("G4.92")),
        *_flag_settings(
            train.no_half_vae,
            "no_half_vae",
            overflows or None,
            forced_by("S21"),
        ),
        *_latent_settings(recipe),
        *_flag_settings(train.cache_latents_to_disk, "cache_latents_to_disk", None, default_by_guide("G4.40")),
        *choose(
            "max_data_loader_n_workers",
            train.max_data_loader_n_workers,
            1,
            default_by_lorabake(msg("results depend on it; one worker gives the same results on any machine")),
        ),
        *_persistent_worker_settings(recipe),
        *choose(
            "seed",
            train.seed,
            DEFAULT_SEED,
            default_by_lorabake(msg("a fixed seed makes the run reproducible (G4.94, S40)")),
        ),
    )


def _latent_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Latents are kept unless images have to change at every use."""
    given = recipe.train.cache_latents
    if changes_images(recipe) and not recipe.train.cache_latents_to_disk:
        return _flag_settings(given, "cache_latents", None, forced_by("S20"))
    return _flag_settings(given, "cache_latents", True, default_by_guide("G4.39", msg("kept in RAM, saves VRAM")))


def _attention_settings(wanted: str | None, probe: AttentionProbe, *, deterministic: bool) -> tuple[Setting, ...]:
    """xformers as the guide wants (G4.96) where it really works here, else PyTorch's own attention.

    PyTorch's switch for repeatable results makes its own attention choose kernels that are (pytorch pull 101847); of
    xformers' kernels not every one asks for it.
    """
    if wanted in {"xformers", "sdpa"}:
        return choose(wanted, True)
    if deterministic:
        return fixed(
            "sdpa",
            True,
            forced_by("S40", msg("PyTorch's own attention is exactly reproducible (launch.deterministic)")),
        )
    if probe.xformers:
        return fixed("xformers", True, default_by_guide("G4.96", probe.reason))
    return fixed("sdpa", True, by_hardware(probe.reason))


def _flag_settings(given: bool | None, option: str, default: bool | None, source: Source) -> tuple[Setting, ...]:
    """A store_true flag: written when on, left out when off (a false in the TOML would do no more)."""
    return () if given is False else choose(option, given, default, source)


def _persistent_worker_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Crashes with 0 workers (S38). With workers it only avoids starting them again at every epoch."""
    workers = recipe.train.max_data_loader_n_workers
    default = None if workers == 0 else True
    return _flag_settings(
        recipe.train.persistent_data_loader_workers,
        "persistent_data_loader_workers",
        default,
        default_by_lorabake(msg("uses RAM, not VRAM (G4.95)")),
    )


def file_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Names and folders, relative to the run folder, in which the trainer starts."""
    save = recipe.save
    return (
        *fixed("output_name", recipe.name, default_by_guide("G4.8")),
        *fixed("output_dir", OUTPUT_DIR, default_by_guide("G4.17")),
        *fixed("logging_dir", LOGGING_DIR, default_by_guide("G4.17")),
        *_log_settings(recipe.log),
        *choose("save_model_as", save.save_model_as, "safetensors", default_by_guide("G4.13")),
        *choose("save_every_n_steps", save.save_every_n_steps),
        *choose("save_last_n_epochs", save.save_last_n_epochs),
        *choose("save_last_n_steps", save.save_last_n_steps),
        *choose("save_state", save.save_state or None),
        *choose("save_state_on_train_end", save.save_state_on_train_end or None),
    )


def _log_settings(log: Log) -> tuple[Setting, ...]:
    """TensorBoard always, from whose logs lorabake reads a run's losses: with wandb, both (TU:5437-5464)."""
    both = log.log_with in {"wandb", "all"}
    why = default_by_lorabake(msg("wandb and TensorBoard, which lorabake needs"))
    return (
        *fixed("log_with", "all" if both else "tensorboard", why if both else default_by_guide("G4.17")),
        *choose("log_tracker_name", log.log_tracker_name),
        *choose("wandb_run_name", log.wandb_run_name),
    )


def validation_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Without a separate seed, images that are meant for validation are trained on as well (S44)."""
    given = recipe.validation
    seed = recipe.train.seed if recipe.train.seed is not None else DEFAULT_SEED
    return (
        *choose("validation_split", given.validation_split or None),
        *choose(
            "validation_seed",
            given.validation_seed,
            seed if given.validation_split else None,
            forced_by("S44", msg("else the validation images are also trained on")),
        ),
        *choose("validate_every_n_epochs", given.validate_every_n_epochs),
        *choose("validate_every_n_steps", given.validate_every_n_steps),
        *choose("max_validation_steps", given.max_validation_steps),
    )


def prior_loss_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """Only with regularization; it belongs to the train TOML (G35.11)."""
    default = 1.0 if recipe.regularization else None
    given = recipe.train.prior_loss_weight
    return choose("prior_loss_weight", None if given is None else float(given), default, default_by_guide("G4.88"))


def mask_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """sd-scripts reads masks only with masked_loss (TN:517)."""
    masked = any(concept.masks or concept.alpha_mask for concept in recipe.concept)
    if not masked or "masked_loss" in recipe.kohya:
        return ()
    return fixed("masked_loss", True, forced_by("S49", msg("so that masks are read")))


def sample_settings(recipe: Recipe, every: int | None) -> tuple[Setting, ...]:
    """Sample images: at the recipe's interval, else whenever a file is saved (``every`` epochs)."""
    sample = recipe.sample
    if sample is None:
        return ()
    asked = sample.sample_every_n_epochs or sample.sample_every_n_steps
    return (
        *fixed("sample_prompts", PROMPTS_FILE, default_by_lorabake(msg("the recipe's prompts, one per line"))),
        *choose(
            "sample_every_n_epochs",
            sample.sample_every_n_epochs,
            None if asked else every or 1,
            default_by_lorabake(msg("as often as a LoRA is saved")),
        ),
        *choose("sample_every_n_steps", sample.sample_every_n_steps),
        *choose("sample_at_first", sample.sample_at_first or None),
        *choose("sample_sampler", sample.sample_sampler),
    )


def metadata_settings(recipe: Recipe) -> tuple[Setting, ...]:
    """What is written into the file for whoever gets it (G4.16)."""
    given = recipe.metadata
    tokens = ", ".join(dict.fromkeys(concept.token for concept in recipe.concept if concept.token))
    return (
        *choose("metadata_author", given.author),
        *choose("metadata_title", given.title),
        *choose("metadata_description", given.description),
        *choose("metadata_license", given.license),
        *choose("metadata_tags", given.tags),
        *choose("metadata_usage_hint", given.usage_hint),
        *choose("metadata_trigger_phrase", given.trigger_phrase, tokens or None, default_by_guide("G4.16")),
        *choose("training_comment", given.comment),
    )


def plan_watch(recipe: Recipe) -> WatchPlan:
    """What is watched while the trainer runs; the defaults are lorabake's."""
    return WatchPlan(**recipe.watch.model_dump(exclude_none=True))


def plan_launch(recipe: Recipe, facts: MachineFacts) -> LaunchPlan:
    """accelerate's flags: one process unless asked; on a machine without a GPU the processes share all CPUs.

    Sums of several threads differ from those of one, so a deterministic run uses one thread on every machine unless
    set.
    """
    asked = recipe.launch
    cpu, deterministic, processes = facts.device == "cpu", bool(asked.deterministic), asked.num_processes or 1
    threads = max(facts.cpus // processes, 1) if cpu and not deterministic else 1
    return LaunchPlan(
        num_processes=processes,
        gpu_ids=None if cpu else asked.gpu_ids,
        num_cpu_threads_per_process=asked.num_cpu_threads_per_process or threads,
        main_process_port=asked.main_process_port,
        cpu=cpu,
        deterministic=deterministic,
    )
