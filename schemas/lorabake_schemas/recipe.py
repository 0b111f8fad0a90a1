"""What a user may write in a recipe: shape, types and ranges only.

A field that is left out stays None. The guide's values are defaults of the resolve step, never of this schema, so that
a value of the user and a default of the guide can be distinguished. Options keep sd-scripts' own spelling.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, StringConstraints, model_validator

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.machine import Family, Precision
from lorabake_schemas.unjudged import InvalidKeyError
from lorabake_schemas.values import (
    MAX_CYCLES,
    MAX_RANK,
    BucketStep,
    CaptionText,
    ClassArguments,
    Comment,
    Epochs,
    EpochsOrZero,
    Extension,
    FilePath,
    Fraction,
    GpuIds,
    KeepTokens,
    KohyaValue,
    NetworkArgument,
    NetworkType,
    NonNegativeNumber,
    OptimizerName,
    PerStep,
    PositiveNumber,
    Processes,
    Prompt,
    Rank,
    RankOrZero,
    Repeats,
    Resolution,
    RunName,
    SchedulerClass,
    SchedulerName,
    Seed,
    Side,
    Steps,
    StepsOrZero,
    Tag,
    Text,
    TextEncoderRate,
    Warmup,
    Workers,
    or_text,
)  # fmt: skip

# What is trained, in one word (G1.17). outfits: several outfits of one character (part 6).
RecipeKind = Literal["character", "style", "object", "clothing", "concept", "outfits"]
TagStyle = Literal["e621", "danbooru", "natural"]
TagStyles = Annotated[tuple[TagStyle, ...], Field(strict=False, min_length=1)]
TaggingStyle = Literal["flexible", "baked"]
Sampler = Literal[
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver",
    "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
]  # fmt: skip


def optional(description: str) -> Any:
    """A key that may be left out; the resolve step has its default."""
    return Field(default=None, description=description)


class RecipeTable(StrictModel):
    """A table of a recipe. A wrong key is removed from it, and reading that key raises UnjudgedError."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise InvalidKeyError(name)
            return super().__getattr__(name)


# How captions are read: under [captions] for all images, under a folder's table for that folder.
ExtensionKey = Annotated[Extension | None, Field(description="Extension of the caption files, with its dot.")]
ShuffleKey = Annotated[bool | None, Field(description="Shuffle the tags of each caption every time its image is used.")]
KeepTokensKey = Annotated[
    KeepTokens | None,
    Field(description="How many tags at the start of each caption stay in place when tags are shuffled."),
]
KeepSeparatorKey = Annotated[
    CaptionText | None,
    Field(description="Text in captions that ends the tags that stay in place, such as |||, instead of keep_tokens."),
]
SecondarySeparatorKey = Annotated[
    CaptionText | None, Field(description="Text in captions that joins tags that are shuffled and dropped as one.")
]
WildcardKey = Annotated[
    bool | None,
    Field(description="Every line of a caption file is a caption, and {a|b} is a or b; one is drawn at random."),
]
DropoutKey = Annotated[Fraction | None, Field(description="Probability that an image is trained without its caption.")]
TagDropoutKey = Annotated[Fraction | None, Field(description="Probability that a tag is left out.")]
DropoutEpochsKey = Annotated[
    EpochsOrZero | None, Field(description="Train without captions in every n-th epoch. 0 is never.")
]
PrefixKey = Annotated[CaptionText | None, Field(description="Text that is added in front of every caption.")]
SuffixKey = Annotated[CaptionText | None, Field(description="Text that is added after every caption.")]


class Base(RecipeTable):
    """The base model to train on. Paths are relative to the recipe."""

    model: FilePath = Field(
        description="The checkpoint to train on: a file, a diffusers folder or a Hugging Face id (owner/name)."
    )
    family: Family | None = optional("Model family. Left out, it is read from the model file.")
    tags: TagStyle | TagStyles | None = optional(
        "The tags or text that the base model was trained with; captions should look the same. Several in a list."
    )
    v_prediction: bool | None = optional(
        "Whether the base model is a v-prediction model. Left out, it is read from the model file."
    )
    zero_terminal_snr: bool | None = optional(
        "Rescale the noise schedule so that the last step is pure noise, as many v-prediction models need."
    )
    native_resolution: Side | None = optional(
        "The resolution in pixels that the base model was trained at, if it differs from its family's."
    )
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = optional(
        "Which layer of the text encoder is used, counted from the last: 1 is the last one, 2 the one before it."
    )
    vae: FilePath | None = optional("Another VAE than the one in the checkpoint.")
    tokenizer_cache_dir: FilePath | None = optional(
        "Folder of the tokenizer's files, for machines without internet access."
    )


class Concept(RecipeTable):
    """A folder of something to learn. Several [[concept]] tables with the same token, outfit and class are one
    concept."""

    token: Tag | None = optional(
        "The trigger word, at the start of each caption. Left out, only the captions' own tags are learned (a style)."
    )
    class_: Annotated[
        Tag | None,
        Field(
            alias="class",
            description="General word for the concept, such as woman or food; in captions right after the token.",
        ),
    ] = None
    outfit: Tag | None = optional('The outfit\'s own trigger word, between token and class (for kind = "outfits").')
    images: FilePath = Field(description="Folder of the training images, each with a caption file next to it.")
    captions: Literal["none"] | None = optional(
        'Write "none" to train these images on token and class alone. Caption files are not read then.'
    )
    num_repeats: Repeats | None = optional("How often each image is used in one epoch.")
    resolution: Resolution | None = optional(
        "Training resolution of these images in pixels, instead of train.resolution or train.resolutions."
    )
    asymmetric: bool | None = optional(
        "Whether the subject has features on one side only, such as an eyepatch. Rules out flip_aug."
    )
    flip_aug: bool | None = optional("Also train on mirrored images. Not for subjects with features on one side only.")
    masks: FilePath | None = optional(
        "Folder with a mask for each image, under the image's name: white is learned, black is not."
    )
    alpha_mask: bool | None = optional("Do not learn the transparent parts of the images.")
    metadata_file: FilePath | None = optional("JSON file that has the captions, instead of caption files.")
    tags: TagStyle | None = optional(
        "What these captions are made of, if it differs from tags under [base]; natural are sentences."
    )
    caption_extension: ExtensionKey = None
    shuffle_caption: ShuffleKey = None
    keep_tokens: KeepTokensKey = None
    keep_tokens_separator: KeepSeparatorKey = None
    secondary_separator: SecondarySeparatorKey = None
    enable_wildcard: WildcardKey = None
    caption_prefix: PrefixKey = None
    caption_suffix: SuffixKey = None
    caption_dropout_rate: DropoutKey = None
    caption_dropout_every_n_epochs: DropoutEpochsKey = None
    caption_tag_dropout_rate: TagDropoutKey = None


class Regularization(RecipeTable):
    """Images of the class in general, to preserve what the base model knows about it."""

    class_: Annotated[Tag, Field(alias="class", description="What the images show, such as woman or food.")]
    images: FilePath = Field(description="Folder of the regularization images.")
    num_repeats: Repeats | None = optional("How often each image is used in one epoch.")
    resolution: Resolution | None = optional(
        "The resolution to use these images at. Left out, they are used at every resolution of the run."
    )
    caption_extension: ExtensionKey = None
    shuffle_caption: ShuffleKey = None
    keep_tokens: KeepTokensKey = None
    enable_wildcard: WildcardKey = None
    caption_prefix: PrefixKey = None
    caption_suffix: SuffixKey = None
    caption_dropout_rate: DropoutKey = None
    caption_tag_dropout_rate: TagDropoutKey = None


class Network(RecipeTable):
    """What is trained: type, rank and alpha of the LoRA or LyCORIS network."""

    type: NetworkType | None = optional(
        "Type of the network: lora, a LyCORIS algorithm, or another module of sd-scripts such as networks.oft."
    )
    network_dim: Rank | None = optional(
        "Rank (dimension) of the network. A higher rank can learn more and makes the file larger."
    )
    network_alpha: PositiveNumber | None = optional(
        "Alpha of the network. What is learned is scaled by alpha divided by rank."
    )
    conv_dim: RankOrZero | None = optional("Rank of the convolution layers. 0 leaves them out.")
    conv_alpha: PositiveNumber | None = optional("Alpha of the convolution layers.")
    network_dropout: Fraction | None = optional("Share of the network's neurons that is dropped at each step.")
    rank_dropout: Fraction | None = optional("Probability that a rank is dropped at each step.")
    module_dropout: Fraction | None = optional("Probability that a whole module is dropped at each step.")
    dora_wd: bool | None = optional(
        "Train a DoRA: magnitude and direction of the weights separately (LoCon, LoHa, LoKr)."
    )
    factor: Annotated[int, Field(ge=-1, le=MAX_RANK)] | None = optional(
        "How LoKr splits the weights; a smaller factor makes a larger file. -1 splits them as evenly as possible."
    )
    block_size: Rank | None = optional(
        "DyLoRA: the steps in which the rank can be reduced later. The rank must be a multiple of it."
    )
    constraint: NonNegativeNumber | None = optional("Diag-OFT: limit for how far the weights may move. 0 is no limit.")
    preset: FilePath | None = optional("Which layers LyCORIS trains: the name of a preset or a TOML file.")
    use_tucker: bool | None = optional("Tucker decomposition for convolution layers.")
    use_scalar: bool | None = optional("Multiply each module by a learned number that starts at zero.")
    rescaled: bool | None = optional("Diag-OFT: also learn a scale for each output.")
    train_norm: bool | None = optional("Also train the normalization layers.")
    network_train_unet_only: bool | None = optional("Train only the UNet and leave the text encoder as it is.")
    network_weights: FilePath | None = optional("A LoRA file to continue training from.")
    scale_weight_norms: NonNegativeNumber | None = optional(
        "Maximum norm of the weights; larger ones are scaled down. 1.0 is a good start."
    )
    args: dict[str, NetworkArgument] | None = optional(
        "Other arguments of the network, such as loraplus_lr_ratio = 16 or full_matrix = true."
    )


class Train(RecipeTable):
    """How it is trained: optimizer, learning rates, length, resolution, memory."""

    optimizer: OptimizerName | None = optional(
        "Optimizer: a name from sd-scripts, torch.optim or a package of the trainer, or a class path (package.Class)."
    )
    optimizer_args: ClassArguments | None = optional(
        'Arguments of the optimizer: { weight_decay = 0.01 }, ["weight_decay=0.01"] or "weight_decay=0.01".'
    )
    learning_rate: PositiveNumber | None = optional(
        "Learning rate of UNet and text encoder. 1.0 for adaptive optimizers such as Prodigy."
    )
    unet_lr: NonNegativeNumber | None = optional("Learning rate of the UNet, if it differs from learning_rate.")
    text_encoder_lr: TextEncoderRate | None = optional(
        "Learning rate of the text encoder, if it differs from learning_rate."
    )
    lr_scheduler: SchedulerName | None = optional("How the learning rate changes over the run.")
    lr_scheduler_type: SchedulerClass | None = optional(
        "Class of the scheduler, instead of lr_scheduler: one of torch.optim.lr_scheduler, or a class path."
    )
    lr_scheduler_args: ClassArguments | None = optional(
        'Arguments of the scheduler, in the same three forms: { T_max = 1000 }, ["T_max=1000"] or "T_max=1000".'
    )
    lr_warmup_steps: Warmup | None = optional(
        "Steps in which the learning rate rises from 0: a whole number (100), or a share of all steps (0.1)."
    )
    lr_scheduler_num_cycles: Annotated[int, Field(ge=1, le=MAX_CYCLES)] | None = optional(
        "Number of cycles of cosine_with_restarts."
    )
    max_train_epochs: Epochs | None = optional("Length of the run in epochs.")
    max_train_steps: Steps | None = optional("Length of the run in steps, instead of epochs.")
    exposures: Steps | None = optional(
        "Length of the run in looks at each image (epochs times repeats), instead of epochs."
    )
    train_batch_size: PerStep | Annotated[TupleOf[PerStep], Field(min_length=1)] | None = optional(
        "Images per step on each GPU. A list has one number for each of train.resolutions."
    )
    gradient_accumulation_steps: PerStep | None = optional(
        "Batches that are added up for one step, for a larger batch without more VRAM."
    )
    bucket_reso_steps: BucketStep | Annotated[TupleOf[BucketStep], Field(min_length=1)] | None = optional(
        "Bucket sides are multiples of this many pixels. A list has one number for each of train.resolutions."
    )
    resolution: Resolution | None = optional(
        "Training resolution in pixels: one number for a square, or [width, height]."
    )
    resolutions: Annotated[TupleOf[Resolution], Field(min_length=1)] | None = optional(
        "Several resolutions to train all images at, such as [512, 768, 1024], instead of one resolution."
    )
    enable_bucket: bool | None = optional(
        "Keep each image's shape by sorting images into buckets of similar sizes. Off crops all to one size."
    )
    min_bucket_reso: Side | Annotated[TupleOf[Side], Field(min_length=1)] | None = optional(
        "Shortest side of a bucket in pixels. A list has one number for each of train.resolutions."
    )
    max_bucket_reso: Side | Annotated[TupleOf[Side], Field(min_length=1)] | None = optional(
        "Longest side of a bucket in pixels. A list has one number for each of train.resolutions."
    )
    bucket_no_upscale: bool | None = optional("Do not enlarge small images. The bucket limits have no effect then.")
    mixed_precision: Precision | None = optional(
        "Number format for training: fp16, bf16 (RTX 30 series or newer) or no for float32."
    )
    attention: Literal["auto", "xformers", "sdpa"] | None = optional(
        "Attention implementation. auto takes xformers if it works on this GPU, else sdpa."
    )
    gradient_checkpointing: bool | None = optional("Save VRAM by calculating parts of each step twice. Slower.")
    cache_latents: bool | None = optional("Encode each image with the VAE once and keep the result in memory.")
    cache_latents_to_disk: bool | None = optional("Keep the latents in files next to the images.")
    seed: Seed | None = optional("Start of all random numbers. The same seed repeats the run.")
    max_data_loader_n_workers: Workers | None = optional("Processes that load images.")
    persistent_data_loader_workers: bool | None = optional("Keep these processes running between epochs.")
    min_snr_gamma: NonNegativeNumber | None = optional(
        "Weigh timesteps by their noise (Min-SNR); 5 is the usual value, 0 is off."
    )
    debiased_estimation_loss: bool | None = optional(
        "Weigh timesteps by debiased estimation, instead of min_snr_gamma."
    )
    noise_offset: NonNegativeNumber | None = optional(
        "Brightness offset of the noise, for very dark or very bright images. 0 is off."
    )
    prior_loss_weight: NonNegativeNumber | None = optional(
        "Weight of the regularization images. 1.0 counts them as much as the training images."
    )
    max_grad_norm: NonNegativeNumber | None = optional("Clip gradients to this norm. 0 is off.")
    max_token_length: Literal[75, 150, 225] | None = optional("How many tokens of a caption the text encoder sees.")
    no_half_vae: bool | None = optional("Run the VAE in float32, against NaN latents (SDXL).")


class Captions(RecipeTable):
    """How captions are read. All but tagging can also be set for one folder, under its [[concept]]."""

    caption_extension: ExtensionKey = None
    shuffle_caption: ShuffleKey = None
    keep_tokens: KeepTokensKey = None
    keep_tokens_separator: KeepSeparatorKey = None
    secondary_separator: SecondarySeparatorKey = None
    enable_wildcard: WildcardKey = None
    caption_prefix: Text | None = optional("Text that is added in front of every caption.")
    caption_suffix: Text | None = optional("Text that is added after every caption.")
    caption_dropout_rate: DropoutKey = None
    caption_dropout_every_n_epochs: DropoutEpochsKey = None
    caption_tag_dropout_rate: TagDropoutKey = None
    tagging: TaggingStyle | None = optional(
        "How captions were written: flexible tags what the subject looks like, baked leaves that to the token."
    )


class Save(RecipeTable):
    """What is saved during the run, and where."""

    runs: FilePath | None = optional("Folder for run folders, relative to the recipe.")
    save_every_n_epochs: Epochs | None = optional("Save a LoRA after every n epochs.")
    save_every_n_steps: Steps | None = optional("Save a LoRA after every n steps.")
    save_last_n_epochs: Epochs | None = optional("Keep only the LoRAs of the last n epochs; older ones are deleted.")
    save_last_n_steps: Steps | None = optional("Keep only the LoRAs of the last n steps; older ones are deleted.")
    save_precision: Literal["float", "fp16", "bf16"] | None = optional("Number format of the saved LoRA.")
    save_model_as: Literal["safetensors", "ckpt", "pt"] | None = optional("File format of the saved LoRA.")
    save_state: bool | None = optional(
        "Also save the optimizer's state with each LoRA, so that the run can be resumed from there."
    )
    save_state_on_train_end: bool | None = optional("Save the state at the end of the run only.")


class Sample(RecipeTable):
    """Sample images made during training."""

    prompts: Annotated[
        tuple[Prompt, ...],
        Field(
            strict=False,
            min_length=1,
            description="Prompts of the sample images with flags such as --n blurry --w 512; or the file they are in.",
            json_schema_extra=or_text(r"\.(txt|toml|json)$"),
        ),
    ]
    sample_every_n_epochs: Epochs | None = optional("Make samples after every n epochs.")
    sample_every_n_steps: Steps | None = optional("Make samples after every n steps.")
    sample_at_first: bool | None = optional("Also make samples before the first step.")
    sample_sampler: Sampler | None = optional("Sampler of the sample images.")


class Validation(RecipeTable):
    """Images that are excluded from training, to see whether the LoRA also fits images that it has not seen."""

    validation_split: Fraction | None = optional("Share of each concept's images that is held out, such as 0.1.")
    validation_seed: Seed | None = optional("Which images are held out, and the noise they are tested with.")
    validate_every_n_epochs: Epochs | None = optional("Test after every n epochs.")
    validate_every_n_steps: Steps | None = optional("Also test after every n steps.")
    max_validation_steps: Steps | None = optional("Use at most n batches of the held-out images for each test.")


class Log(RecipeTable):
    """Where losses and learning rates are logged. TensorBoard logs are always in the run folder."""

    log_with: Literal["tensorboard", "wandb", "all"] | None = optional(
        "TensorBoard, or wandb as well. Weights & Biases takes its key from WANDB_API_KEY in the environment."
    )
    log_tracker_name: Text | None = optional("Project at Weights & Biases.")
    wandb_run_name: Text | None = optional("Name of the run at Weights & Biases.")


class Metadata(RecipeTable):
    """Information that is written into the LoRA file for others."""

    author: Text | None = optional("Author of the LoRA.")
    title: Text | None = optional("Title of the LoRA.")
    description: Text | None = optional("What the LoRA is for.")
    license: Text | None = optional("License of the LoRA.")
    tags: Text | None = optional("Tags for model sites, separated by commas.")
    usage_hint: Text | None = optional("How to use the LoRA, such as a recommended weight.")
    trigger_phrase: Text | None = optional("What to write in a prompt to use the LoRA.")
    comment: Comment | None = optional("Any other text.")


class Launch(RecipeTable):
    """How the trainer is started. Left out: one process on one GPU."""

    num_processes: Processes | None = optional(
        "Processes to train with, one for each GPU. The batch is multiplied by their number."
    )
    gpu_ids: GpuIds | None = optional('Which GPUs to use: "0", "0,1" or "all". Counts the visible ones only.')
    num_cpu_threads_per_process: Processes | None = optional("CPU threads of each process.")
    main_process_port: Annotated[int, Field(ge=1024, le=65535)] | None = optional(
        "Port that the processes of one run use; another one for each run on the same machine."
    )
    deterministic: bool | None = optional("Get exactly the same file from the same run. Slower.")


class Watch(RecipeTable):
    """What is watched while the trainer runs. Everything is reported; only a loss that stays NaN stops the run."""

    nan_steps: StepsOrZero | None = optional(
        "Stop the run after n steps in a row whose loss is NaN or infinite. 0 is never."
    )
    stall_seconds: NonNegativeNumber | None = optional(
        "Report a trainer that stands still for so many seconds, if that is far longer than usual. 0 is never."
    )
    loss_jump: bool | None = optional("Report an average loss that changed suddenly and stays there.")
    disk_space: bool | None = optional("Report a disk that will be full before the next save.")


class Ignore(RecipeTable):
    """A warning or hint that is known and can be ignored."""

    rule: Text = Field(description="Id of the finding, such as G1.2.")
    reason: Annotated[str, StringConstraints(min_length=3)] = Field(description="Why it can be ignored.")


class Recipe(RecipeTable):
    """What to train: one recipe for lorabake."""

    # model_construct: a table that is left out needs no validator, which would be built at every import
    name: RunName = Field(description="Name of the LoRA file and its run folders.")
    kind: RecipeKind = Field(description="What is trained. Decides most default values.")
    base: Base
    concept: Annotated[tuple[Concept, ...], Field(strict=False, min_length=1)]
    regularization: TupleOf[Regularization] = ()
    network: Network = Network.model_construct()
    train: Train = Train.model_construct()
    captions: Captions = Captions.model_construct()
    save: Save = Save.model_construct()
    sample: Sample | None = None
    validation: Validation = Validation.model_construct()
    log: Log = Log.model_construct()
    metadata: Metadata = Metadata.model_construct()
    launch: Launch = Launch.model_construct()
    watch: Watch = Watch.model_construct()
    ignore: TupleOf[Ignore] = ()
    kohya: dict[str, KohyaValue] = Field(
        default_factory=dict, description="Any other option of sd-scripts, under its own name."
    )

    @model_validator(mode="before")
    @classmethod
    def _lift_keys(cls, raw: Any) -> Any:
        return lift_keys(cast("dict[str, Any]", raw)) if isinstance(raw, dict) else cast("object", raw)


KeyPath = tuple[str | int, ...]
_ARGUMENT_BY_KEY = {"type": "algo", "network_dropout": "dropout"}  # others have the argument's own name
# Where a key may also be: an argument of the network under [network.args], sd-scripts' own options under [kohya].
_OWN_OPTIONS = ("lr_scheduler_type", "lr_scheduler_args")
OTHER_PLACES: dict[KeyPath, KeyPath] = {
    ("network", key): ("network", "args", _ARGUMENT_BY_KEY.get(key, key))
    for key in Network.model_fields
    if key != "args"
}
OTHER_PLACES.update({("train", key): ("kohya", key) for key in _OWN_OPTIONS})


def find_written_place(where: Sequence[str | int], written: Collection[KeyPath]) -> KeyPath:
    """Where a recipe with these keys has the key at ``where``, which may be a part of its value."""
    own = tuple(where)
    other = OTHER_PLACES.get(own[:2])
    return own if other is None or own[:2] in written or other not in written else (*other, *own[2:])


def lift_keys(raw: dict[str, Any]) -> dict[str, Any]:
    """The recipe with these keys in their own tables. One that is set in both places is reported by a rule."""
    for (table, key), (*owner, name) in OTHER_PLACES.items():
        holder: Any = raw
        for part in owner:
            holder = cast("dict[object, object]", holder).get(part) if isinstance(holder, dict) else None
        own = raw.get(str(table), {})
        if not isinstance(holder, dict) or name not in holder or not isinstance(own, dict) or key in own:
            continue
        raw = _without_key(raw, owner, name)
        raw = raw | {str(table): raw.get(str(table), {}) | {key: cast("dict[object, object]", holder)[name]}}
    return raw


def _without_key(table: dict[str, Any], owner: Sequence[str | int], name: str | int) -> dict[str, Any]:
    """``table`` without this key, and without the table that it was alone in."""
    if not owner:
        return {key: value for key, value in table.items() if key != name}
    head = str(owner[0])
    inner = _without_key(table[head], owner[1:], name)
    return table | {head: inner} if inner else {key: value for key, value in table.items() if key != head}
