"""Causes with sd-scripts itself and with the packages of its Python."""

from __future__ import annotations

from lorabake.runs.causes.cause import Advice, Cause, Sign, off, on
from lorabake.runs.causes.gpu import REINSTALL
from lorabake_schemas.messages import template

RESTORE = (
    Advice(
        template("restore your sd-scripts (`git status` there shows what is missing), or train without --sd-scripts"),
        (on("run.own_trainer"),),
    ),
    Advice(template("run `lorabake trainer install --repair` to restore it"), (off("run.own_trainer"),)),
)
INSTALL = (
    Advice(
        template("install it in the Python that runs your sd-scripts, or train without --sd-scripts and --python"),
        (on("run.own_trainer"),),
    ),
    Advice(
        template("run `lorabake trainer install --repair` to reinstall the trainer's packages"),
        (off("run.own_trainer"),),
    ),
)
SD_SCRIPTS = r"(?:library|networks|tools|finetune|train_network|sdxl_train_network)"
SD_SCRIPTS_FOLDER = r"(?P<folder>library|networks|tools|finetune)"
MISSING_NAME = (
    r"No module named '(?P<module>[\w.]+)'|cannot import name '(?P<name>\w+)' from '(?P<source>[\w.]+)'"
    r"|module '(?P<owner>[\w.]+)' has no attribute '(?P<member>\w+)'|Invalid backend: '(?P<backend>\w+)'"
)
PACKAGE_CAUSES = (
    Cause(
        id="wandb-missing",
        message=template("wandb, the package of Weights & Biases, is not installed in the trainer's Python"),
        signs=(Sign(exception=r"No wandb / |No module named 'wandb"),),
        cure=(
            Advice(template('set log.log_with = "tensorboard"')),
            Advice(template("or install wandb in the Python that runs your sd-scripts"), (on("run.own_trainer"),)),
        ),
    ),
    Cause(
        id="wrong-name",
        message=template('{key} = "{value}": {missing} not found in the trainer\'s Python'),
        signs=(Sign(exception=MISSING_NAME, names_setting=True),),
        cure=(Advice(template("set {key} to a name that exists in the trainer's Python, or remove it")),),
    ),
    Cause(
        id="missing-file-of-trainer",
        code="damaged-trainer",
        message=template("sd-scripts is incomplete: {folder}/{name}.py is missing"),
        signs=(
            Sign(
                exception=rf"cannot import name '(?P<name>\w+)' from '{SD_SCRIPTS_FOLDER}' \((?:unknown|.*__init__\.py)"
            ),
            Sign(exception=rf"No module named '{SD_SCRIPTS_FOLDER}\.(?P<name>\w+)'"),
        ),
        cure=RESTORE,
    ),
    Cause(
        id="damaged-trainer",
        message=template("sd-scripts is incomplete or damaged"),
        signs=(
            Sign(exception=rf"No module named '{SD_SCRIPTS}(?:\.[\w.]+)?'|from '{SD_SCRIPTS}(?:\.[\w.]+)?'"),
            Sign(
                exception=r"^(?:SyntaxError|IndentationError|TabError|NameError|UnboundLocalError)",
                innermost=r"(?:train_network|sdxl_train_network)\.py:|^(?:library|networks)/",
            ),
            Sign(exception=rf"module '{SD_SCRIPTS}\.[\w.]+' has no attribute"),
            Sign(line=r"can't open file .*train_network\.py"),
        ),
        cure=RESTORE,
    ),
    Cause(
        id="launcher-missing",
        message=template("accelerate, which starts sd-scripts, is not installed in the trainer's Python"),
        signs=(
            Sign(exception=r"No module named 'accelerate"),
            Sign(line=r"(?:No module named|module specification for) '?accelerate|accelerate: (?:command )?not found"),
        ),
        cure=INSTALL,
    ),
    Cause(
        id="numpy-2",  # https://github.com/Comfy-Org/ComfyUI/issues/5289
        message=template("the packages of the trainer's Python were built for another version of numpy"),
        signs=(
            Sign(exception=r"compiled using NumPy 1|numpy\.core\.multiarray failed to import|_ARRAY_API not found"),
            Sign(exception=r"numpy\.dtype size changed|Numpy is not available|module 'numpy' has no attribute"),
        ),
        cure=(
            Advice(template("install numpy<2 in the Python that runs your sd-scripts"), (on("run.own_trainer"),)),
            Advice(template("run `lorabake trainer install --repair`"), (off("run.own_trainer"),)),
        ),
    ),
    Cause(
        id="system-library",  # https://github.com/pytorch/ignite/issues/1615
        message=template("a library of the system is missing: {library}"),
        signs=(
            Sign(
                exception=r"(?P<library>lib(?:GL|gthread|glib|SM|Xext|Xrender|gomp|stdc\+\+)[\w.+-]*\.so[\d.]*)"
                r": cannot open"
            ),
        ),
        cure=(
            Advice(template("install it with the system's package manager (Debian, Ubuntu: libgl1 and libglib2.0-0)")),
        ),
    ),
    Cause(
        id="system-too-old",
        message=template("the trainer's packages need a newer system ({words})"),
        signs=(Sign(exception=r"version `(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found"),),
        cure=(Advice(template("use a newer Linux, or a container with one")),),
    ),
    Cause(
        id="python-too-old",
        message=template("the Python that runs sd-scripts is too old for its packages"),
        signs=(
            Sign(exception=r"unsupported operand type\(s\) for \|: 'type'|'type' object is not subscriptable"),
            Sign(exception=r"SyntaxError: invalid syntax", innermost=r"^(?!.*train_network).*/"),
        ),
        cure=(Advice(template("use Python 3.10 or newer (--python)"), (on("run.own_trainer"),)), *REINSTALL[:1]),
    ),
    Cause(
        id="optimizer-package",
        message=template("the package of the optimizer {optimizer} is not installed in the trainer's Python"),
        signs=(
            Sign(
                exception=r"No (?:lion_pytorch|dadaptation|Prodigy|schedulefree) / "
                r"|No module named '(?:lion_pytorch|dadaptation|prodigyopt|schedulefree|pytorch_optimizer)",
                when=(on("run.own_trainer"),),
            ),
        ),
        cure=(Advice(template("install it in the Python that runs your sd-scripts, or take another optimizer")),),
    ),
    Cause(
        id="missing-package",
        message=template("a package is missing from the trainer's Python: {package}"),
        signs=(
            Sign(exception=r"ModuleNotFoundError: No module named '(?P<package>[\w.]+)'"),
            Sign(exception=r"ImportError: No (?P<package>\w+) / "),
            Sign(exception=r"PackageNotFoundError: (?:No package metadata was found for )?(?P<package>[\w.-]+)"),
            Sign(exception=r"requires the (?P<package>[\w-]+) (?:library|package) but it was not found"),
        ),
        cure=INSTALL,
    ),
    Cause(
        id="packages-do-not-fit",
        message=template("the packages in the trainer's Python do not fit together ({words})"),
        signs=(
            Sign(exception=r"^ImportError: cannot import name|undefined symbol|partially initialized module"),
            Sign(exception=r"^AttributeError: module '(?!numpy)[\w.]+' has no attribute", phases=("starting",)),
            Sign(exception=r"is required for a normal functioning of this module|VersionConflict|DLL load failed"),
            Sign(exception=r"operator torchvision::\w+ does not exist|Descriptors cannot (?:not )?be created directly"),
            Sign(exception=r"^ImportError|^OSError: .*\.so\b", phases=("starting",)),
            Sign(exception=r"Failed to import \w[\w.]* because of the following error"),
        ),
        cure=(
            Advice(
                template(
                    "install the versions of sd-scripts' requirements.txt in the Python that runs your sd-scripts"
                ),
                (on("run.own_trainer"),),
            ),
            Advice(template("run `lorabake trainer install --repair`"), (off("run.own_trainer"),)),
        ),
    ),
    Cause(
        id="python-broken",
        message=template("the trainer's Python does not start"),
        signs=(
            Sign(line=r"Fatal Python error: (?:init|Failed to import|.*unable to load)|No module named 'encodings'"),
            Sign(exit_codes=(126, 127)),
        ),
        cure=(*INSTALL[1:], Advice(template("check the Python given with --python"), (on("run.own_trainer"),))),
    ),
    Cause(
        id="file-of-trainer-missing",
        message=template("a file of sd-scripts or its packages is missing ({words})"),
        signs=(Sign(exception=r"FileNotFoundError.*(?:sd-scripts|site-packages)/"),),
        cure=RESTORE,
    ),
)
