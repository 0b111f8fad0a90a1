"""Causes in the settings: optimizer, scheduler, network, samples, and what sd-scripts itself refuses."""

from __future__ import annotations

from lorabake.runs.causes import places
from lorabake.runs.causes.cause import Advice, Cause, Sign, matching, on
from lorabake_schemas.messages import template

FIX_ARGUMENTS = Advice(template("correct train.optimizer_args, or remove what it has"))
OTHER_OPTIMIZER = Advice(template('set train.optimizer to another one, such as "AdamW" or "Prodigy"'))
FIX_SCHEDULER = Advice(template("correct train.lr_scheduler_args"))
SD_SCRIPTS_FILES = r"(?:sdxl_)?train_network\.py:|^library/\w+\.py:|^networks/\w+\.py:|sd-scripts/\w+\.py:"
ANY = r"Error|Exception|Invalid|Warning"

SETTING_CAUSES = (
    # optimizer
    Cause(
        id="optimizer-argument-unknown",
        message=template("the optimizer {optimizer} has no argument {name}"),
        signs=(
            Sign(exception=r"unexpected keyword argument '(?P<name>\w+)'", within=places.OPTIMIZER),
            Sign(exception=r"got multiple values for (?:keyword )?argument '(?P<name>\w+)'", within=places.OPTIMIZER),
        ),
        cure=(Advice(template("remove {name} from train.optimizer_args")),),
    ),
    Cause(
        id="optimizer-learning-rate",
        message=template("the optimizer {optimizer} refuses the learning rate {value}"),
        signs=(Sign(exception=r"[Ii]nvalid (?:learning rate|lr)\w*:? *(?P<value>\S*)", within=places.OPTIMIZER),),
        cure=(Advice(template("set train.learning_rate (or unet_lr and text_encoder_lr) to a number above 0")),),
    ),
    Cause(
        id="optimizer-argument-value",
        message=template("the optimizer {optimizer} refuses {name} = {value}"),
        signs=(
            Sign(
                exception=r"[Ii]nvalid (?P<name>weight[_ ]decay|eps(?:ilon)?|momentum|dampening|d0|d_coef|growth_rate"
                r"|\w+_decay|decouple|alpha|rho|beta\d?)(?: value| parameter)?:? *(?P<value>[^ ,]+)",
                within=places.OPTIMIZER,
            ),
            Sign(
                exception=r"[Ii]nvalid (?P<name>beta) parameter at index \d: *(?P<value>\S+)",
                within=places.OPTIMIZER,
            ),
        ),
        cure=(
            Advice(template("give {name} a value of 0 or more in train.optimizer_args (betas: below 1), or remove it")),
        ),
    ),
    Cause(
        id="optimizer-betas",
        message=template("betas of the optimizer {optimizer} has to be several numbers, and one was given"),
        signs=(
            Sign(
                exception=r"is not subscriptable|cannot unpack non-iterable|object is not iterable|has no len\(\)",
                within=places.OPTIMIZER,
                when=(matching("optimizer_args", r"betas=\(?[-+\d.eE]+,?\)?'"),),
            ),
        ),
        cure=(Advice(template("write betas = [0.9, 0.99] in train.optimizer_args, or remove it")),),
    ),
    Cause(
        id="no-parameters",
        message=template("the network has nothing to train: no layer of the model was chosen"),
        signs=(Sign(exception=r"optimizer got an empty parameter list"),),
        cure=(
            Advice(
                template("correct the LyCORIS preset: its unet_target_module and similar match no module"),
                (on("run.preset"),),
            ),
            Advice(template("check network.args (block weights of 0 leave a block out)"), (on("network_args"),)),
            Advice(template("check that unet_lr and text_encoder_lr are not both 0")),
        ),
        first_only=True,
    ),
    Cause(
        id="optimizer-closure",
        message=template("the optimizer {optimizer} needs a closure, which sd-scripts does not give it"),
        signs=(
            Sign(
                exception=r"missing 1 required (?:positional|keyword-only) argument: 'closure'|closure"
                r" (?:is required|function)"
            ),
        ),
        cure=(OTHER_OPTIMIZER,),
    ),
    Cause(
        id="optimizer-groups",
        message=template("the optimizer {optimizer} takes no groups of parameters, which sd-scripts gives it"),
        signs=(Sign(exception=r"doesn't support per-parameter options|does not support param(?:eter)?.groups"),),
        cure=(OTHER_OPTIMIZER,),
    ),
    Cause(
        id="optimizer-second-order",
        message=template("the optimizer {optimizer} needs second derivatives, which sd-scripts does not calculate"),
        signs=(
            Sign(
                exception=r"does not require grad and does not have a grad_fn|create_graph",
                within=r":compute_hutchinson|hessian",
            ),
            Sign(exception=r"does not have a grad_fn|create_graph", within=places.OPTIMIZER_STEP),
        ),
        cure=(OTHER_OPTIMIZER,),
    ),
    Cause(
        id="optimizer-argument-syntax",
        message=template("an entry of train.optimizer_args cannot be read as a value"),
        signs=(
            Sign(
                exception=r"malformed node|SyntaxError|invalid syntax|unterminated|never closed|not enough values",
                within=places.OPTIMIZER,
                innermost=r"ast\.py|train_util\.py:get_optimizer|unknown|^<",
            ),
        ),
        cure=(Advice(template('write each as NAME = VALUE; text needs quotes, such as "True" or [0.9, 0.99]')),),
    ),
    Cause(
        id="optimizer-sparse",
        message=template("the optimizer {optimizer} only takes sparse gradients, which a LoRA does not have"),
        signs=(Sign(exception=r"does not support dense gradients"),),
        cure=(OTHER_OPTIMIZER,),
    ),
    Cause(
        id="optimizer-argument-missing",
        message=template("the optimizer {optimizer} needs the argument {name}"),
        signs=(
            Sign(
                exception=r"missing \d+ required (?:positional|keyword-only) arguments?: '(?P<name>\w+)'",
                within=places.OPTIMIZER,
            ),
        ),
        cure=(Advice(template("give it in train.optimizer_args, or take another optimizer")),),
    ),
    Cause(
        id="optimizer-unknown",
        message=template('train.optimizer = "{optimizer}": sd-scripts does not know this optimizer'),
        signs=(Sign(exception=r"Unknown optimizer type", within=places.OPTIMIZER),),
        cure=(OTHER_OPTIMIZER,),
    ),
    Cause(
        id="optimizer-arguments",
        message=template("the optimizer {optimizer} cannot be made with these arguments: {words}"),
        signs=(
            Sign(
                exception=r"^(?:TypeError|ValueError|AssertionError|IndexError|KeyError|AttributeError|NotImplementedError"
                r"|\w*Parameter\w*)(?!.* / )",  # in sd-scripts' own words: refused-setting
                within=places.OPTIMIZER,
            ),
        ),
        cure=(FIX_ARGUMENTS,),
    ),
    Cause(
        id="optimizer-step",
        message=template("the optimizer {optimizer} failed in a step: {words}"),
        signs=(Sign(exception=ANY, innermost=places.OPTIMIZER_STEP, phases=("training", "saving", "sampling")),),
        cure=(
            FIX_ARGUMENTS,
            Advice(template('or set train.optimizer to another one, such as "AdamW" or "Prodigy"')),
        ),
    ),
    # scheduler
    Cause(
        id="scheduler-too-short",
        message=template("the scheduler {scheduler} was made for {total} steps, and the run has {steps}"),
        signs=(Sign(exception=r"Tried to step \d+ times\. The specified number of total steps is (?P<total>\d+)"),),
        cure=(Advice(template("set total_steps = {steps} in train.lr_scheduler_args")),),
    ),
    Cause(
        id="scheduler-warmup",
        message=template("the scheduler {scheduler} takes no warm-up"),
        signs=(Sign(exception=r"does not require `num_warmup_steps`"),),
        cure=(Advice(template("set train.lr_warmup_steps = 0")),),
    ),
    Cause(
        id="scheduler-unknown",
        message=template("sd-scripts does not know the scheduler {name}"),
        signs=(Sign(exception=r"(?P<name>[\w-]+)'? is not a valid \w*SchedulerType"),),
        cure=(Advice(template('set train.lr_scheduler to one that exists, such as "cosine" or "constant"')),),
    ),
    Cause(
        id="scheduler-argument-unknown",
        message=template("the scheduler {scheduler} has no argument {name}"),
        signs=(
            Sign(exception=r"unexpected keyword argument '(?P<name>\w+)'", within=places.SCHEDULER),
            Sign(exception=r"got multiple values for (?:keyword )?argument '(?P<name>\w+)'", within=places.SCHEDULER),
        ),
        cure=(Advice(template("remove {name} from train.lr_scheduler_args")),),
    ),
    Cause(
        id="scheduler-argument-missing",
        message=template("the scheduler {scheduler} needs the argument {name}"),
        signs=(
            Sign(
                exception=r"missing \d+ required (?:positional|keyword-only) arguments?: '(?P<name>\w+)'",
                within=places.SCHEDULER,
            ),
        ),
        cure=(Advice(template("give it as NAME=VALUE in train.lr_scheduler_args")),),
    ),
    Cause(
        id="scheduler-adafactor",
        message=template("the scheduler adafactor needs the optimizer Adafactor, and this run has {optimizer}"),
        signs=(Sign(exception=r"adafactor scheduler must be used with Adafactor"),),
        cure=(Advice(template('set train.lr_scheduler to another one, such as "cosine" or "constant"')),),
    ),
    Cause(
        id="scheduler-arguments",
        message=template("the scheduler {scheduler} cannot be made with these arguments: {words}"),
        signs=(Sign(exception=r"^(?!ModuleNotFoundError|ImportError)\w*(?:Error|Exception)", within=places.SCHEDULER),),
        cure=(FIX_SCHEDULER, Advice(template("or remove train.lr_scheduler_type"), (on("lr_scheduler_type"),))),
    ),
    Cause(
        id="scheduler-step",
        message=template("the scheduler {scheduler} failed in a step: {words}"),
        signs=(
            Sign(
                exception=ANY,
                innermost=r"^torch/optim/lr_scheduler|accelerate/scheduler|(?:diffusers|transformers)/optimization",
            ),
        ),
        cure=(FIX_SCHEDULER,),
    ),
    # network
    Cause(
        id="preset",
        message=template("the LyCORIS preset cannot be used ({words})"),
        signs=(
            Sign(exception=ANY, within=r":read_preset|lycoris/.*:apply_preset"),
            Sign(exception=r"FileNotFoundError.*\.toml|Unknown preset", within=places.NETWORK),
            Sign(
                exception=r"^AssertionError$",
                innermost=r"^lycoris/.*:create_network",
                when=(matching("network_args", r"preset="),),
            ),
        ),
        cure=(Advice(template("correct network.preset: the name of a preset, or a TOML file")),),
    ),
    Cause(
        id="lycoris-algorithm",
        message=template("LyCORIS has no algorithm {name}"),
        signs=(
            Sign(
                exception=r"^KeyError: '(?P<name>[\w-]+)'",
                within=r"^lycoris/.*:create_network",
                when=(matching("network_args", r"algo="),),
            ),
        ),
        cure=(Advice(template("correct network.type, or algo in network.args")),),
    ),
    Cause(
        id="dylora-unit",
        message=template("network_dim is not a multiple of DyLoRA's unit"),
        signs=(Sign(exception=r"rank must be a multiple of unit"),),
        cure=(Advice(template("set unit in network.args so that it divides network.network_dim")),),
    ),
    Cause(
        id="network-arguments",
        message=template("the network {network} cannot be made with these arguments: {words}"),
        signs=(
            Sign(exception=r"^(?!ModuleNotFoundError|ImportError)\w*(?:Error|Exception)", within=places.NETWORK),
            Sign(
                exception=r"^(?:TypeError|ValueError|AssertionError|KeyError)",
                innermost=r"^lycoris/|networks/\w+\.py:__init__",
                phases=("network",),
            ),
        ),
        cure=(Advice(template("correct [network] and network.args in the recipe")),),
    ),
    # what is trained on
    Cause(
        id="vae-batch-size",
        message=template("vae_batch_size is {value}, and has to be 1 or more"),
        signs=(
            Sign(
                exception=r"max_workers must be greater than 0|arg 3 must not be zero|division (?:or modulo )?by zero",
                within=r":new_cache_latents|:cache_latents",
                when=(matching("vae_batch_size", r"^(?P<value>-\d+|0)$"),),
            ),
        ),
        cure=(Advice(template("set vae_batch_size = 1 in [kohya], or remove it")),),
    ),
    Cause(
        id="face-crop",
        message=template("face_crop_aug_range has to be two numbers, the smaller one first"),
        signs=(Sign(exception=r"face_crop_aug_range must be two floats"),),
        cure=(Advice(template('write it as "1.0,2.0", or remove it from [kohya]')),),
    ),
    Cause(
        id="bucket-sides",
        message=template("the sides of the buckets do not fit the model or the resolution"),
        signs=(
            Sign(exception=r"m(?:in|ax)_bucket_reso must be equal|the max_size should be larger|must be divisible by"),
            Sign(exception=r"[Ss]izes? of tensors? (?:a \(|must match)", within=r"unet\.py:forward"),
        ),
        cure=(
            Advice(template("set train.bucket_reso_steps = 64")),
            Advice(template("keep train.min_bucket_reso below and train.max_bucket_reso above the resolution")),
        ),
    ),
    Cause(
        id="cache-and-augmentation",
        message=template("latents cannot be cached while images are changed at random"),
        signs=(Sign(exception=r"when caching latents, either color_aug or random_crop"),),
        cure=(Advice(template("remove color_aug and random_crop from [kohya], or set train.cache_latents = false")),),
    ),
    Cause(
        id="text-cache-and-captions",
        message=template("text encoder outputs cannot be cached while captions change or the text encoder is trained"),
        signs=(
            Sign(
                exception=r"when caching Text Encoder output, either"
                r"|network for Text Encoder cannot be trained with caching"
            ),
        ),
        cure=(
            Advice(template("remove cache_text_encoder_outputs from [kohya]")),
            Advice(
                template(
                    "or set network.network_train_unet_only = true, and turn off shuffling and dropout of captions"
                )
            ),
        ),
    ),
    # samples
    Cause(
        id="sample-seed",
        message=template("the seed of a sample prompt (--d) is too large"),
        signs=(
            Sign(
                exception=r"Overflow when unpacking|seed.*(?:out of range|between 0 and)|too large to convert",
                within=places.SAMPLING,
            ),
        ),
        cure=(Advice(template("write a seed below 4294967296 after --d in sample.prompts, or remove it")),),
    ),
    Cause(
        id="sample-steps",
        message=template("a sample prompt asks for no steps (--s 0)"),
        signs=(
            Sign(
                exception=r"division by zero|ZeroDivisionError|num_inference_steps|zero-size|negative",
                within=places.SAMPLING,
                innermost=r"^diffusers/schedulers|scheduling_",
            ),
        ),
        cure=(Advice(template("write 1 or more after --s in sample.prompts")),),
    ),
    Cause(
        id="sample-prompt",
        message=template("a sample image could not be made: {words}"),
        signs=(Sign(exception=ANY, within=places.SAMPLING),),
        cure=(
            Advice(template("correct the prompts in [sample] (--w, --h, --s, --d take numbers), or remove [sample]")),
        ),
    ),
    # logging
    Cause(
        id="wandb",
        message=template("Weights & Biases cannot be used ({words})"),
        signs=(
            Sign(
                exception=r"wandb\.errors|api_key not configured|CommError|No API key",
            ),
            Sign(exception=ANY, within=r"^wandb/"),
            Sign(exception=ANY, line=r"wandb: ERROR", within=places.LOGGING),
        ),
        cure=(Advice(template('log in with `wandb login` or WANDB_API_KEY, or set log.log_with = "tensorboard"')),),
    ),
    Cause(
        id="not-a-number",
        message=template("a setting has to be a number, and is {value}"),
        signs=(
            Sign(
                exception=r"could not convert string to float: (?P<value>'[^']*')"
                r"|invalid literal for int\(\) with base 10: (?P<other>'[^']*')",
                innermost=SD_SCRIPTS_FILES,
            ),
        ),
        cure=(Advice(template("look for {value} in the recipe and under [kohya], and write a number")),),
    ),
    # everything that sd-scripts refuses in its own words: "English / Japanese"
    Cause(
        id="refused-setting",
        message=template("sd-scripts refuses a setting: {reason}"),
        signs=(
            Sign(
                exception=r"^(?:AssertionError|ValueError|NotImplementedError): (?P<reason>[^/]+?) / ",
                innermost=SD_SCRIPTS_FILES,
            ),
            Sign(
                exception=r"^(?:AssertionError|ValueError|NotImplementedError): "
                r"(?P<reason>.*(?:not a valid interpolation|[Hh]uber|Loss Type|requires `num_|lr_weight length).*)",
                innermost=SD_SCRIPTS_FILES,
            ),
        ),
        cure=(Advice(template("change what it names in the recipe, or under [kohya]")),),
    ),
    Cause(
        id="refused-value",
        message=template("sd-scripts refuses the value of {name}: {why}"),
        signs=(Sign(silent=True, line=r"train_network\.py: error: argument --(?P<name>\w+): (?P<why>.+)"),),
        cure=(Advice(template("correct {name} in the recipe, or under [kohya]")),),
    ),
    Cause(
        id="unknown-option",
        message=template("this sd-scripts does not know an option of the recipe: {name}"),
        signs=(
            Sign(silent=True, line=r"error: unrecognized arguments: (?P<name>.+)"),
            Sign(exception=r"extra keys not allowed @ data(?P<name>\S+)"),
        ),
        cure=(
            Advice(template("remove it, or use an sd-scripts that has it"), (on("run.own_trainer"),)),
            Advice(template("remove it from [kohya]")),
        ),
        first_only=True,
    ),
    Cause(
        id="dataset-file",
        message=template("sd-scripts refuses the dataset file ({words})"),
        signs=(Sign(exception=r"^voluptuous|MultipleInvalid"),),
        cure=(Advice(template("check the values that the recipe has under [kohya] and in [[concept]]")),),
    ),
)
