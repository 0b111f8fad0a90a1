"""Causes with the user's files: base model, VAE, LoRA to continue, tokenizer, images, captions, caches, states."""

from __future__ import annotations

from lorabake.runs.causes import places
from lorabake.runs.causes.cause import Advice, Cause, Sign, When, matching, off, on
from lorabake_schemas.messages import template

DOWNLOAD_MODEL = Advice(template("download base.model again (or restore it), and take a .safetensors file"))
REFRESH = Advice(template("run it again with --refresh-cache, which deletes and makes the caches again"))
PUT_LOCAL_MODEL = Advice(template("download the model once, and set base.model to its path"))
PUT_LOCAL_VAE = Advice(template("set base.vae to a file or folder on this machine, or remove it"))
TOKENIZERS = Advice(
    template("go online once, or set base.tokenizer_cache_dir to a folder that contains {tokenizers}"),
)
ONLINE = Advice(template("HF_HUB_OFFLINE is set: unset it to allow downloads"), (on("run.offline"),))
LORA_STATE = "lost-state"  # verdict.LOST_STATE: this state is not tried again
BAD_IMAGE = (
    r"image file is truncated|cannot identify image file|UnidentifiedImageError|broken PNG|struct\.error"
    r"|Truncated File Read|zlib\.error|broken data stream|unrecognized data stream|SyntaxError: (?:broken|not a)"
    r"|Not enough image data|bad (?:header|magic)|decoder error|buffer is not large enough|OSError: -2"
)
LOCAL_PATH = r"^(?:\.{0,2}/|~|[A-Za-z]:[\\/])"
WRONG_MODEL = (
    r"size mismatch for|[Mm]issing key\(s\)|[Uu]nexpected key|KeyError|cross_attention_dim|Error\(s\) in loading"
    r"|shape mismatch|channels"
)

FILE_CAUSES = (
    # States come first: loading one fails with the same words as loading a LoRA. Whether the run can be resumed from
    # another one, or has to be started again, is found out when its end is shown (finalize.resume_command_hint).
    Cause(
        id="state-other-rank",
        code=LORA_STATE,
        message=template("the state {state} is of a network of rank {found}, and this run trains rank {wanted}"),
        signs=(
            Sign(
                exception=r"lora_down\.weight: copying a param with shape torch\.Size\(\[(?P<found>\d+), .*?"
                r"current model is torch\.Size\(\[(?P<wanted>\d+),",
                within=places.STATE,
            ),
        ),
    ),
    Cause(
        id="state-other-network",
        code=LORA_STATE,
        message=template("the state {state} does not fit this run's network"),
        signs=(
            Sign(
                exception=r"size mismatch|[Mm]issing key|[Uu]nexpected key|Error\(s\) in loading", within=places.STATE
            ),
        ),
    ),
    Cause(
        id="state-other-optimizer",
        code=LORA_STATE,
        message=template("the state {state} was saved by another optimizer than {optimizer}, or for other parts"),
        signs=(
            Sign(exception=r"loaded state dict (?:has|contains)|parameter group", within=places.STATE),
            Sign(exception=r"KeyError|has no attribute", within=places.STATE, innermost=r":load_state_dict"),
        ),
    ),
    Cause(
        id="state-damaged",
        code=LORA_STATE,
        message=template("the state {state} is incomplete or damaged"),
        signs=(
            Sign(exception=places.DAMAGED, within=places.STATE),
            Sign(exception=r"FileNotFoundError|No such file|JSONDecodeError|EOFError|IndexError", within=places.STATE),
        ),
    ),
    Cause(
        id="beyond-the-end",
        message=template("the state is from step {step}, and the run has only {last} steps"),
        signs=(
            Sign(exception=r"max_train_steps should be greater than initial step.*: (?P<last>\d+) vs (?P<step>\d+)"),
        ),
        cure=(Advice(template("nothing is left to train; raise train.max_train_steps in a new run for a longer one")),),
    ),
    Cause(
        id="lora-other-rank",
        message=template("network.network_weights is a LoRA of rank {found}, and this run trains rank {wanted}"),
        signs=(
            Sign(
                exception=r"lora_down\.weight: copying a param with shape torch\.Size\(\[(?P<found>\d+), .*?"
                r"current model is torch\.Size\(\[(?P<wanted>\d+),",
                within=places.NETWORK_WEIGHTS,
            ),
        ),
        cure=(
            Advice(template("set network.network_dim = {found} (its network_alpha has to fit, too)")),
            Advice(template("or name a LoRA of rank {wanted}")),
        ),
    ),
    Cause(
        id="base-weights",
        message=template("base_weights: {file} cannot be merged: it is missing, damaged or not a LoRA for this model"),
        signs=(
            Sign(  # TN:655
                exception=r"Error",
                within=places.NETWORK_WEIGHTS,
                line=r"merging module: (?P<file>.+?) with multiplier",
                when=(off("network_weights"),),
            ),
        ),
        cure=(Advice(template("restore the file, or correct or remove base_weights")),),
    ),
    Cause(
        id="lora-damaged",
        message=template("network.network_weights cannot be read: the file is missing, damaged or not a LoRA"),
        signs=(
            Sign(exception=places.DAMAGED, within=places.NETWORK_WEIGHTS),
            Sign(
                exception=r"Error", within=places.NETWORK_WEIGHTS, innermost=r"^torch/(?:serialization|_weights_only)"
            ),
            Sign(exception=r"FileNotFoundError|No such file|UnicodeDecodeError", within=places.NETWORK_WEIGHTS),
        ),
        cure=(Advice(template("restore the file, or remove network.network_weights")),),
    ),
    Cause(
        id="lora-other-network",
        message=template("network.network_weights does not fit the network or the base model of this run"),
        signs=(Sign(exception=WRONG_MODEL, within=places.NETWORK_WEIGHTS),),
        cure=(
            Advice(template("set network.type to what the LoRA is (`lorabake inspect` shows it)")),
            Advice(template("or remove network.network_weights")),
        ),
    ),
    # the network and its files
    Cause(
        id="proxy",
        message=template("the proxy did not answer when the trainer used the network"),
        signs=(Sign(chain=r"ProxyError|Cannot connect to proxy|Tunnel connection failed|Unable to connect to proxy"),),
        cure=(
            Advice(template("check HTTP_PROXY, HTTPS_PROXY and NO_PROXY in the environment")),
            Advice(template("or set base.tokenizer_cache_dir and local paths, so that nothing is downloaded")),
        ),
    ),
    Cause(
        id="certificate",
        message=template("the certificate of a server was not accepted when the trainer used the network"),
        signs=(Sign(chain=r"SSLError|SSLCertVerificationError|CERTIFICATE_VERIFY_FAILED"),),
        cure=(
            Advice(template("check the date of this machine")),
            Advice(template("behind a company's proxy, set REQUESTS_CA_BUNDLE to its certificate")),
        ),
    ),
    Cause(
        id="model-gated",
        message=template("the Hugging Face Hub does not give out this model without a login"),
        signs=(
            Sign(chain=r"GatedRepoError|Access to model .* is restricted|gated repo|awaiting a review"),
            Sign(chain=r"40[13] Client Error", within=f"{places.BASE_MODEL}|{places.VAE}"),
        ),
        cure=(
            Advice(template("accept its license on its page there, and set HF_TOKEN")),
            Advice(template("or set base.model or base.vae to a file on this machine")),
        ),
    ),
    Cause(
        id="vae-missing",
        message=template("base.vae ({vae}) was moved or deleted before the trainer read it"),
        signs=(
            Sign(
                chain=f"is not the path to a directory|HFValidationError|Repository Not Found|{places.HUB_TROUBLE}",
                within=places.VAE,
                when=(matching("vae", LOCAL_PATH),),
            ),
        ),
        cure=(Advice(template("restore it, or correct or remove base.vae")),),
    ),
    Cause(
        id="vae-unreachable",
        message=template("base.vae ({vae}) is not on this machine, and could not be downloaded"),
        signs=(
            Sign(chain=places.HUB_TROUBLE, within=places.VAE),
            Sign(chain=r"RepositoryNotFoundError|Repository Not Found|404 Client Error", within=places.VAE),
        ),
        cure=(ONLINE, PUT_LOCAL_VAE),
    ),
    Cause(
        id="model-missing",
        message=template("base.model ({model}) was moved or deleted before the trainer read it"),
        signs=(
            Sign(
                exception=r"FileNotFoundError|No such file",
                within=r":load_models_from_\w+_checkpoint|:load_checkpoint_with",
            ),
            Sign(  # `check` has seen it
                chain="neither a valid local path nor|HFValidationError|is not a valid model identifier"
                f"|{places.HUB_TROUBLE}",
                within=places.BASE_MODEL,
                when=(matching("pretrained_model_name_or_path", LOCAL_PATH),),
            ),
        ),
        cure=(Advice(template("restore it, or correct base.model")),),
    ),
    Cause(
        id="model-unreachable",
        message=template("base.model ({model}) is not on this machine, and the Hugging Face Hub cannot be reached"),
        signs=(Sign(chain=places.HUB_TROUBLE, within=places.BASE_MODEL),),
        cure=(ONLINE, PUT_LOCAL_MODEL),
    ),
    Cause(
        id="model-unknown",
        message=template("there is no model {model}, neither on this machine nor on the Hugging Face Hub"),
        signs=(
            Sign(chain=r"RepositoryNotFoundError|Repository Not Found|404 Client Error", within=places.BASE_MODEL),
            Sign(
                chain=r"HFValidationError|is not a valid model identifier|neither a valid local path nor",
                within=places.BASE_MODEL,
                when=(When("pretrained_model_name_or_path", matching=LOCAL_PATH, negated=True),),
            ),
        ),
        cure=(Advice(template("correct base.model: a file, a diffusers folder, or a hub id such as owner/name")),),
    ),
    Cause(
        id="tokenizer-damaged",
        message=template("the tokenizer in base.tokenizer_cache_dir is damaged"),
        signs=(
            Sign(
                exception=r"JSONDecodeError|UnicodeDecodeError|not enough values to unpack|too many values to unpack"
                r"|KeyError|IndexError|expected value at line",
                within=places.TOKENIZER,
            ),
            Sign(exception=r"Exception: .*(?:vocab|merges|tokenizer)", within=places.TOKENIZER),
        ),
        cure=(
            Advice(
                template(
                    "delete {tokenizers} in base.tokenizer_cache_dir, and go online once so that it is downloaded"
                ),
                (on("tokenizer_cache_dir"),),
            ),
            Advice(
                template(
                    "delete {tokenizer_ids} from the Hugging Face cache, and go online once so that it is downloaded"
                ),
                (off("tokenizer_cache_dir"),),
            ),
        ),
    ),
    Cause(
        id="tokenizer-missing",
        message=template("the tokenizer is not on this machine, and could not be downloaded"),
        signs=(
            Sign(chain=places.HUB_TROUBLE, within=places.TOKENIZER),
            Sign(
                exception=r"Can't load tokenizer|not NoneType|NoneType' object|FileNotFoundError|No such file|OSError",
                within=places.TOKENIZER,
            ),
        ),
        cure=(ONLINE, TOKENIZERS),
    ),
    Cause(
        id="hub-unreachable",
        message=template("a file from the Hugging Face Hub is not on this machine and could not be downloaded"),
        signs=(
            Sign(chain=places.HUB),
            Sign(exception=r"Can't load tokenizer"),
        ),
        cure=(
            ONLINE,
            Advice(template("go online once, or set base.tokenizer_cache_dir and local paths for the models")),
        ),
    ),
    # the base model
    Cause(
        id="vae-damaged",
        message=template("base.vae ({vae}) is damaged or incomplete"),
        signs=(
            Sign(chain=places.DAMAGED, within=places.VAE),
            Sign(exception=r"no file named|FileNotFoundError|Unable to load weights", within=places.VAE),
            Sign(exception=places.DAMAGED_TEXT, within=places.VAE),
        ),
        cure=(Advice(template("download the VAE again, or remove base.vae")),),
    ),
    Cause(
        id="vae-wrong",
        message=template("base.vae ({vae}) is not a VAE that fits this model"),
        signs=(Sign(exception=r"Error|Exception", within=places.VAE),),
        cure=(Advice(template("set base.vae to the file or the folder of a VAE, or remove it")),),
    ),
    Cause(
        id="model-damaged",  # https://github.com/safetensors/safetensors/issues/668
        # https://github.com/kohya-ss/sd-scripts/issues/990
        message=template("base.model ({model}) is damaged, incomplete, or not what its name says"),
        signs=(
            Sign(chain=places.DAMAGED, within=places.BASE_MODEL),
            Sign(exception=places.DAMAGED_TEXT, within=places.BASE_MODEL),
            Sign(exception=r"Cannot load .* because .*(?:expected shape|keys are missing)", within=places.BASE_MODEL),
            Sign(
                exception=r"Unable to load weights from checkpoint file|MetadataIncompleteBuffer",
                within=places.BASE_MODEL,
            ),
            Sign(
                exception=r"Error|Exception",
                within=r":load_models_from_\w+_checkpoint",
                innermost=r"torch/serialization|safetensors/",
            ),
        ),
        cure=(DOWNLOAD_MODEL,),
    ),
    Cause(
        id="model-incomplete",
        message=template("a part of the diffusers model {model} is missing: {words}"),
        signs=(
            Sign(
                exception=r"[Ee]rror no file named|does not appear to have a file named|no file named",
                within=places.BASE_MODEL,
            ),
            Sign(exception=r"FileNotFoundError|No such file", within=places.BASE_MODEL),
        ),
        cure=(
            Advice(
                template('set train.mixed_precision to what the folder has files for (or "no")'),
                (on("mixed_precision", "fp16"),),
            ),
            Advice(template("download the model again, or restore its folder")),
        ),
    ),
    Cause(
        id="model-other-family",  # https://github.com/LarryJane491/Lora-Training-in-Comfy/issues/20
        # https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/12089
        message=template("base.model ({model}) is not a {family} model"),
        signs=(
            Sign(exception=WRONG_MODEL, within=places.BASE_MODEL),
            Sign(exception=r"mat1 and mat2 shapes cannot be multiplied", within=r"unet\.py:forward|:call_unet"),
        ),
        cure=(Advice(template("remove base.family, which is read from the model then, or choose a {family} model")),),
    ),
    Cause(
        id="model-not-found",
        message=template("base.model ({model}) was not found"),
        signs=(Sign(error=r"model is not found as a file or in Hugging Face", within=places.BASE_MODEL),),
        cure=(Advice(template("correct base.model: a file, a diffusers folder, or a hub id such as owner/name")),),
    ),
    # images, captions, caches
    Cause(
        id="image-damaged",
        message=template("an image cannot be decoded: {file}"),
        signs=(
            Sign(exception=BAD_IMAGE, error=r"Error loading file: *(?P<file>.*\.(?!npz)\w+)", within=places.IMAGE),
            Sign(exception=r"cannot identify image file '(?P<file>[^']+)'"),
            Sign(  # TU:1489 goes on with a size of 0
                exception=r"ZeroDivisionError|aspect is illegal",
                within=r"train_util\.py:select_bucket",
                line=r"failed to get image size: (?P<file>.+?), error:",
            ),
        ),
        cure=(Advice(template("restore {file} or remove it; `lorabake check --deep` finds all such images")),),
    ),
    Cause(
        id="some-image-damaged",
        message=template("an image cannot be decoded ({words})"),
        signs=(Sign(exception=BAD_IMAGE, within=f"{places.IMAGE}|PIL/"),),
        cure=(Advice(template("`lorabake check --deep` shows which; restore or remove it")),),
    ),
    Cause(
        id="image-too-large",
        message=template("an image has more pixels than Pillow opens"),
        signs=(Sign(exception=r"DecompressionBomb"),),
        cure=(Advice(template("make it smaller; `lorabake check` lists the largest images")),),
    ),
    Cause(
        id="image-missing",
        message=template("an image is missing that was there when the training began: {file}"),
        signs=(Sign(exception=r"(?:FileNotFoundError|No such file).*'(?P<file>[^']+)'", within=places.IMAGE),),
        cure=(Advice(template("restore it, and leave the images alone until the training ends")),),
    ),
    Cause(
        id="image-resized",
        message=template("an image has another size than when the training began"),
        signs=(
            Sign(exception=r"image size is small|internal error, illegal trimmed size|internal error\. small scale"),
            Sign(exception=r"stack expects each tensor to be equal size", within=r"train_util\.py:__getitem__"),
        ),
        cure=(Advice(template("leave the images alone while training; run it again with --refresh-cache")),),
    ),
    Cause(
        id="latent-cache-damaged",
        message=template("a cached latents file (.npz) is damaged or from other settings"),
        signs=(
            Sign(exception=r"Error|Exception|BadZipFile|zlib", within=places.LATENT_CACHE),
            Sign(exception=r"latents\w* not found in"),
            Sign(error=r"Error loading file: .*\.npz", exception=r"Error|Exception|BadZipFile"),
        ),
        cure=(REFRESH,),
    ),
    Cause(
        id="text-cache-damaged",
        message=template("a file with cached text encoder outputs (.npz) is damaged or from other settings"),
        signs=(Sign(exception=r"Error|Exception|BadZipFile|zlib", within=places.TEXT_CACHE),),
        cure=(REFRESH,),
    ),
    Cause(
        id="nan-latents",  # https://github.com/kohya-ss/sd-scripts/issues/653
        # https://github.com/kohya-ss/sd-scripts/issues/881, https://github.com/bmaltais/kohya_ss/issues/2674
        message=template("the VAE produced NaN for {file}"),
        signs=(Sign(exception=r"NaN detected in latents: (?P<file>.+)"),),
        cure=(
            Advice(template("set train.no_half_vae = true"), (off("no_half_vae"), off("mixed_precision", "no"))),
            Advice(template("check that the VAE is intact (base.vae or base.model)"), (on("no_half_vae"),)),
            Advice(template("check that the VAE is intact (base.vae or base.model)"), (on("mixed_precision", "no"),)),
        ),
        first_only=True,
    ),
    Cause(
        id="nan-text",
        message=template("the text encoder produced NaN for the caption of {file}"),
        signs=(Sign(exception=r"NaN detected in text encoder outputs: (?P<file>.+)"),),
        cure=(
            Advice(template('set train.mixed_precision = "bf16"'), (on("mixed_precision", "fp16"),)),
            Advice(template("check that base.model is intact"), (off("mixed_precision", "fp16"),)),
        ),
    ),
    Cause(
        id="caption-empty",
        message=template("a caption file is empty: {file}"),
        signs=(Sign(exception=r"caption file is empty[^:]*: *(?P<file>.+)"),),
        cure=(Advice(template("write the caption into it again, or delete the file to train without a caption")),),
    ),
    Cause(
        id="caption-encoding",  # https://github.com/MNeMoNiCuZ/joy-caption-batch/issues/1
        message=template("a caption file is not UTF-8: {file}"),
        signs=(Sign(exception=r"UnicodeDecodeError", error=r"illegal char in file \(not UTF-8\)[^:]*: *(?P<file>.+)"),),
        cure=(Advice(template("save {file} as UTF-8")),),
    ),
    Cause(
        id="caption-unreadable",
        message=template("a caption file cannot be read ({words})"),
        signs=(Sign(exception=r"Error", within=r"train_util\.py:read_caption"),),
        cure=(Advice(template("restore it; `lorabake check` reads all captions")),),
    ),
    Cause(
        id="metadata-file",
        message=template("the metadata file with the captions cannot be read ({words})"),
        signs=(
            Sign(
                exception=r"no metadata / |JSONDecodeError|UnicodeDecodeError",
                within=r":generate_dataset_group_by_blueprint",
            ),
            Sign(exception=r"image_dir is required when image paths are relative"),
            Sign(exception=r"object has no attribute '(?:keys|get|items)'", within=places.DATASET),
        ),
        cure=(Advice(template("correct concept.metadata_file; `lorabake check` reads it")),),
    ),
    Cause(
        id="masks",
        message=template("masks and images do not fit together ({words})"),
        signs=(Sign(exception=r"(?:missing|extra) conditioning data for|size of conditioning image is not match"),),
        cure=(Advice(template("give every image of the concept a mask of the same name and size")),),
    ),
    Cause(
        id="run-folder-file",
        message=template("a file that lorabake had written to the run folder is missing or was changed: {file}"),
        signs=(
            Sign(silent=True, line=r"INFO +(?P<file>\S+\.toml) not found\."),
            Sign(exception=r"file not found / .*: (?P<file>[^/]+)$", within=places.RUN_FILES),
            Sign(
                exception=r"Error|Invalid",
                within=places.RUN_FILES,
                error=r"Error on parsing \w+ config file.*:\s*(?P<file>[^\s:]+)$",
            ),
            Sign(
                exception=r"TomlDecodeError",
                within=r":read_config_from_file",  # TU:4738
                line=r"Loading settings from (?P<file>\S+?)\.\.\.",
            ),
        ),
        cure=(Advice(template("run it again, and leave the run folder alone until it ends")),),
    ),
    Cause(
        id="dataset-folder",
        message=template("a folder with images was moved or deleted before the trainer read it"),
        signs=(
            Sign(exception=r"FileNotFoundError|NotADirectoryError|No such file", within=places.DATASET),
            Sign(line=r"WARNING +not directory: ", exception=r"num_samples|AssertionError|IndexError"),
        ),
        cure=(Advice(template("restore the folder, and run it again")),),
    ),
    Cause(
        id="no-images",
        message=template("no image is left to train on"),
        signs=(Sign(exception=r"num_samples should be a positive integer value, but got num_samples=0"),),
        cure=(
            Advice(template("lower validation.validation_split"), (on("validation_split"),)),
            Advice(template("check the image folders; `lorabake check` lists what sd-scripts would find")),
        ),
    ),
    Cause(
        id="prompt-file",
        message=template("the file with the sample prompts is missing or cannot be read"),
        signs=(
            Sign(exception=r"FileNotFoundError|UnicodeDecodeError|JSONDecodeError", within=r":load_prompts"),
            Sign(exception=r"UnicodeDecodeError|JSONDecodeError|TomlDecodeError", within=places.SAMPLING),
        ),
        cure=(Advice(template("restore it, or write the prompts into sample.prompts")),),
    ),
)
