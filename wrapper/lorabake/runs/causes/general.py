"""What is left when no sign is known: the place where it failed, and the setting that the trainer quotes.

These rows come last. Their verdict is that of an unknown failure, so the end of the log is shown with them.
"""

from __future__ import annotations

from lorabake.runs.causes import places
from lorabake.runs.causes.cause import Advice, Cause, Sign, on
from lorabake_schemas.messages import template

UNKNOWN_FAILURE = "crashed"  # the code of a failure whose cause is not known
ANY = r"\w"

GENERAL_CAUSES = (
    Cause(
        id="quoted-file",
        message=template('{key} = "{value}": this file or folder was not found'),
        signs=(Sign(exception=r"^(?:FileNotFoundError|NotADirectoryError|IsADirectoryError)", quotes_setting=True),),
        cure=(Advice(template("correct {key}, or restore what it names")),),
    ),
    Cause(
        id="log-tracker-config",
        message=template("the file log_tracker_config is not valid TOML: {words}"),
        signs=(Sign(exception=r"TomlDecodeError|TOMLDecodeError", within=places.LOGGING),),
        cure=(Advice(template("correct the file, or remove log_tracker_config")),),
    ),
    Cause(
        id="quoted-setting",
        code=UNKNOWN_FAILURE,
        message=template('the trainer failed, possibly because of {key} = "{value}": {words}'),
        signs=(
            Sign(
                exception=r"^(?:ValueError|KeyError|NotImplementedError|AssertionError|Exception)", quotes_setting=True
            ),
        ),
        cure=(Advice(template("if so, set {key} to a value that sd-scripts knows, or remove it")),),
    ),
    Cause(
        id="failed-loading-state",
        code="lost-state",
        message=template("the state {state} cannot be loaded: {words}"),
        signs=(Sign(exception=ANY, within=places.STATE),),
    ),
    Cause(
        id="failed-loading-tokenizer",
        code=UNKNOWN_FAILURE,
        message=template("the tokenizer cannot be loaded: {words}"),
        signs=(Sign(exception=ANY, within=places.TOKENIZER),),
        cure=(
            Advice(
                template(
                    "delete {tokenizers} in base.tokenizer_cache_dir, and go online once so that it is downloaded"
                ),
                (on("tokenizer_cache_dir"),),
            ),
        ),
    ),
    Cause(
        id="failed-loading-model",
        code=UNKNOWN_FAILURE,
        message=template("base.model ({model}) cannot be loaded: {words}"),
        signs=(Sign(exception=ANY, within=places.BASE_MODEL),),
        cure=(Advice(template("check that it is complete and a {family} model, or download it again")),),
    ),
    Cause(
        id="failed-loading-lora",
        code=UNKNOWN_FAILURE,
        message=template("network.network_weights cannot be loaded: {words}"),
        signs=(Sign(exception=ANY, within=places.NETWORK_WEIGHTS),),
        cure=(Advice(template("check that it is a LoRA of the same network type and model, or remove it")),),
    ),
    Cause(
        id="failed-reading-images",
        code=UNKNOWN_FAILURE,
        message=template("images, captions or caches cannot be read: {words}"),
        signs=(
            Sign(exception=ANY, within=f"{places.DATASET}|{places.IMAGE}|{places.LATENT_CACHE}"),
            Sign(exception=ANY, within=places.WRITING_CACHES),
        ),
        cure=(Advice(template("`lorabake check --deep` reads all images and captions, and shows which are at fault")),),
    ),
    Cause(
        id="failed-sampling",
        code=UNKNOWN_FAILURE,
        message=template("a sample image could not be made: {words}"),
        signs=(Sign(exception=ANY, within=places.SAMPLING),),
        cure=(Advice(template("check the prompts in [sample], or remove [sample]")),),
    ),
    Cause(
        id="failed-saving",
        code=UNKNOWN_FAILURE,
        message=template("the LoRA or a state could not be saved: {words}"),
        signs=(Sign(exception=ANY, within=places.SAVING),),
        cure=(Advice(template("check the disk of the run folder, and the options of [save]")),),
    ),
    Cause(
        id="failed-logging",
        code=UNKNOWN_FAILURE,
        message=template("the logger could not be started or written to: {words}"),
        signs=(Sign(exception=ANY, within=places.LOGGING),),
        cure=(Advice(template('check [log], or set log.log_with = "tensorboard"')),),
    ),
    Cause(
        id="used-setting",
        code=UNKNOWN_FAILURE,
        message=template("the trainer failed where it uses {key} = {value}: {words}"),
        signs=(
            Sign(
                exception=r"^(?:ZeroDivisionError|ValueError|OverflowError|TypeError|AssertionError)", uses_setting=True
            ),
        ),
        cure=(Advice(template("check the value of {key}, or remove it")),),
    ),
    Cause(
        id="last-error",
        code=UNKNOWN_FAILURE,
        message=template("the trainer stopped after it logged an error: {reason}"),
        signs=(Sign(silent=True, exit_codes=(1, 2), error=r"(?P<reason>\S.*)"),),
    ),
)
