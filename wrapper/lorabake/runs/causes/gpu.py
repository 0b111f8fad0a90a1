"""Causes with the GPU: its memory, the driver, torch and the packages compiled for it, several GPUs."""

from __future__ import annotations

from lorabake.runs.causes.cause import Advice, Cause, Sign, off, on
from lorabake_schemas.messages import template

REINSTALL = (
    Advice(template("run `lorabake trainer install --repair`"), (off("run.own_trainer"),)),
    Advice(
        template("install packages for one version of torch in the Python that runs your sd-scripts"),
        (on("run.own_trainer"),),
    ),
)
XFORMERS_OFF = Advice(template('set train.attention = "sdpa"'))
NO_8BIT = Advice(template('set train.optimizer to one without bitsandbytes, such as "AdamW"'))
NCCL = r"NCCL|nccl[A-Z]\w+Error"

MIXED_FORMATS = (
    r"expected (?:scalar type|m1 and m2|mat1 and mat2)|must have the same dtype, but got"
    r"|Input type \(.*\) and (?:bias|weight) type"
)
GPU_CAUSES = (
    Cause(
        id="gpu-memory-taken",  # https://github.com/cocktailpeanut/fluxgym/issues/40
        # torch names other programs only if it knows which one it is itself (not in every container)
        message=template("the GPU ran out of memory, and another program ({process}) uses {taken} of it"),
        signs=(
            Sign(
                exception=r"out of memory.*?Process (?P<pid>\d+) has (?P<taken>[1-9][\d.]* GiB) memory in use"
                r".*this process has",
            ),
        ),
        cure=(Advice(template("stop {process}, or choose another GPU with launch.gpu_ids")),),
        saves_gpu_memory=True,
    ),
    Cause(
        id="out-of-gpu-memory",  # https://github.com/kohya-ss/sd-scripts/issues/648
        # https://github.com/bmaltais/kohya_ss/issues/369, https://github.com/bmaltais/kohya_ss/issues/340
        message=template("the GPU ran out of memory"),
        signs=(
            Sign(
                exception=r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|(?:CUBLAS|CUDNN)_STATUS_ALLOC"
            ),
            Sign(exception=r"HIP out of memory|XPU out of memory"),
        ),
        saves_gpu_memory=True,
    ),
    Cause(
        id="no-nvidia-driver",
        message=template("no NVIDIA driver was found"),
        signs=(Sign(exception=r"Found no NVIDIA driver"),),
        cure=(Advice(template("install the driver, or start the container with the GPU (docker: --gpus all)")),),
    ),
    Cause(
        id="driver-too-old",  # https://github.com/pytorch/pytorch/issues/4546
        # https://github.com/lllyasviel/Omost/issues/120
        message=template("the NVIDIA driver is too old for the trainer's torch {torch}"),
        signs=(
            Sign(exception=r"driver on your system is too old|driver version is insufficient for CUDA runtime"),
            Sign(exception=r"forward compatibility was attempted on non supported HW"),
            Sign(exception=r"the provided PTX was compiled with an unsupported toolchain"),
        ),
        cure=(Advice(template("update the NVIDIA driver of this machine (now: {driver}), outside of any container")),),
    ),
    Cause(
        id="driver-mismatch",  # https://github.com/pytorch/pytorch/issues/45109
        # https://github.com/NVIDIA/nvidia-docker/issues/1168
        message=template("the NVIDIA driver was updated, but the old one is still loaded"),
        signs=(
            Sign(exception=r"Driver/library version mismatch|unsupported display driver / cuda driver combination"),
            Sign(line=r"Failed to initialize NVML: Driver/library version mismatch"),
        ),
        cure=(Advice(template("restart the machine")),),
    ),
    Cause(
        id="gpu-id",
        message=template("launch.gpu_ids or CUDA_VISIBLE_DEVICES names a GPU that this machine does not have"),
        signs=(
            Sign(exception=r"invalid device ordinal"),
            Sign(exception=r"(?:device|GPU) id .* (?:is )?not (?:available|found)"),
        ),
        cure=(
            Advice(template("set launch.gpu_ids to a number that `nvidia-smi -L` shows")),
            Advice(template("set launch.num_processes to at most the number of GPUs"), (on("run.several_processes"),)),
        ),
    ),
    Cause(
        id="gpu-busy",
        message=template("the GPU is busy or reserved for another program"),
        signs=(Sign(exception=r"devices? (?:is|are) busy or unavailable|EXCLUSIVE_PROCESS"),),
        cure=(
            Advice(
                template("`nvidia-smi` shows who uses it; stop that program, or choose another with launch.gpu_ids")
            ),
        ),
    ),
    Cause(
        id="bitsandbytes-no-kernel",  # https://github.com/d8ahazard/sd_dreambooth_extension/issues/915
        message=template("bitsandbytes has no code for this GPU"),
        signs=(
            Sign(exception=r"no kernel image|invalid device function", within=r"^bitsandbytes/"),
            Sign(
                line=r"Error (?:no kernel image is available|invalid device function).* at line \d+ in file .*ops\.cu"
            ),
        ),
        cure=(NO_8BIT,),
    ),
    Cause(
        id="xformers-no-kernel",  # https://github.com/Haoming02/sd-webui-forge-classic/issues/561
        message=template("xformers has no code for this GPU"),
        signs=(Sign(exception=r"no kernel image|invalid device function", within=r"^xformers/|^flash_attn"),),
        cure=(XFORMERS_OFF,),
    ),
    Cause(
        id="no-kernel-image",  # https://github.com/pytorch/pytorch/issues/149845
        # https://github.com/AUTOMATIC1111/stable-diffusion-webui/issues/2202
        message=template("torch {torch} has no code for this GPU ({gpu})"),
        signs=(
            Sign(exception=r"no kernel image is available|invalid device function"),
            Sign(exception=r"CUDA error", line=r"sm_\d+ is not compatible with the current PyTorch"),
        ),
        cure=(
            Advice(
                template("train with an sd-scripts whose Python has a torch for this GPU (--sd-scripts, --python)"),
                (off("run.own_trainer"),),
            ),
            Advice(
                template("install a torch that supports this GPU in the Python that runs your sd-scripts"),
                (on("run.own_trainer"),),
            ),
        ),
    ),
    Cause(
        id="torch-without-cuda",  # https://github.com/open-mmlab/PIA/issues/30
        message=template("the trainer's torch {torch} was built without CUDA"),
        signs=(Sign(exception=r"Torch not compiled with CUDA enabled"),),
        cure=(
            Advice(template("run it again with --trainer cuda"), (off("run.own_trainer"),)),
            Advice(
                template("install a torch with CUDA in the Python that runs your sd-scripts"), (on("run.own_trainer"),)
            ),
        ),
    ),
    Cause(
        id="cuda-library-missing",
        message=template("a CUDA library that torch needs cannot be loaded"),
        signs=(
            Sign(
                exception=r"lib(?:cudnn|cublas|cudart|cufft|curand|cusparse|cusolver|nvrtc|nccl|nvToolsExt|nvJitLink)[\w.-]*"
                r"(?:: cannot open shared object|.*undefined symbol)",
            ),
            Sign(exception=r"cuDNN version incompatibility|Unable to load any of \{libcudnn"),
            Sign(line=r"Could not load library lib(?:cudnn|nvrtc|cublas)|Unable to load any of \{libcudnn"),
        ),
        cure=(
            Advice(template("start it without LD_LIBRARY_PATH, which may lead to another CUDA")),
            *REINSTALL,
        ),
    ),
    Cause(
        id="bitsandbytes-build",  # https://github.com/bmaltais/kohya_ss/issues/1523
        # https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1200
        # https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1559
        message=template("bitsandbytes does not fit the trainer's torch {torch}, or found no CUDA"),
        signs=(
            Sign(
                exception=r"CUDA Setup failed|libbitsandbytes|bitsandbytes was (?:not )?compiled with"
                r"|compiled without GPU"
            ),
            Sign(exception=r"cget_managed_ptr|cadam\w*8bit|undefined symbol", within=r"^bitsandbytes/"),
            Sign(exception=r"'NoneType' object has no attribute 'c\w+'", within=r"^bitsandbytes/"),
            Sign(
                exception=r"ImportError|ModuleNotFoundError|RuntimeError|OSError",
                innermost=r"^bitsandbytes/c?extension|^bitsandbytes/cuda_setup",
            ),
        ),
        cure=(
            Advice(
                template("bitsandbytes needs an NVIDIA GPU, and this machine has none"),
                (on("run.device", "cpu"),),
            ),
            Advice(
                template("run `lorabake trainer install --repair`"), (off("run.own_trainer"), on("run.device", "cuda"))
            ),
            Advice(
                template("install a bitsandbytes for your CUDA in the Python that runs your sd-scripts"),
                (on("run.own_trainer"), on("run.device", "cuda")),
            ),
            NO_8BIT,
        ),
    ),
    Cause(
        id="bitsandbytes-missing",
        message=template("bitsandbytes, which {optimizer} needs, is not installed in the trainer's Python"),
        signs=(Sign(exception=r"No bitsandbytes / |No module named 'bitsandbytes"),),
        cure=(
            Advice(template("install bitsandbytes in the Python that runs your sd-scripts"), (on("run.own_trainer"),)),
            NO_8BIT,
        ),
    ),
    Cause(
        id="bitsandbytes-old",
        message=template("the installed bitsandbytes is too old for {optimizer}"),
        signs=(Sign(exception=r"The version of bitsandbytes installed seems to be old"),),
        cure=(
            Advice(template("update bitsandbytes in the Python that runs your sd-scripts"), (on("run.own_trainer"),)),
            NO_8BIT,
        ),
    ),
    Cause(
        id="xformers-build",  # https://github.com/bmaltais/kohya_ss/issues/1651
        # https://github.com/bmaltais/kohya_ss/issues/3015
        message=template("xformers was built for another torch than {torch}"),
        signs=(
            Sign(exception=r"undefined symbol|DLL load failed|No such operator xformers", within=r"^xformers/"),
            Sign(
                exception=r"No operator found for .?memory_efficient_attention", line=r"xFormers can't load C\+\+/CUDA"
            ),
            Sign(exception=r"xFormers wasn't build with CUDA|No such operator xformers"),
        ),
        cure=(XFORMERS_OFF,),
    ),
    Cause(
        id="xformers-operator",  # https://github.com/kohya-ss/sd-scripts/issues/412
        # https://github.com/Linaqruf/kohya-trainer/issues/222
        message=template("xformers cannot calculate attention on this device at mixed_precision = {precision}"),
        signs=(Sign(exception=r"No operator found for .?memory_efficient_attention"),),
        cure=(XFORMERS_OFF,),
    ),
    Cause(
        id="flash-attention-gpu",
        message=template("flash attention does not support this GPU ({gpu})"),
        signs=(Sign(exception=r"FlashAttention only supports|requires? (?:Ampere|device with capability >)"),),
        cure=(XFORMERS_OFF,),
    ),
    Cause(
        id="xformers-missing",
        message=template("xformers is not installed in the trainer's Python"),
        signs=(Sign(exception=r"No xformers / |No module named 'xformers"),),
        cure=(XFORMERS_OFF,),
    ),
    Cause(
        id="bf16-unsupported",  # https://github.com/Linaqruf/kohya-trainer/issues/246
        # https://github.com/kohya-ss/sd-scripts/issues/280
        message=template("this GPU cannot train with bf16"),
        signs=(
            Sign(exception=r"bf16 mixed precision requires|BFloat16 is not supported|bf16 is not supported"),
            Sign(exception=r"not implemented for 'BFloat16'"),
        ),
        cure=(
            Advice(template('set train.mixed_precision = "fp16"'), (on("run.device", "cuda"),)),
            Advice(template('set train.mixed_precision = "no"'), (on("run.device", "cpu"),)),
            Advice(template('set save.save_precision = "fp16"'), (on("save_precision", "bf16"),)),
            Advice(template("remove full_bf16 from [kohya]"), (on("full_bf16"),)),
        ),
    ),
    Cause(
        id="fp16-on-cpu",
        message=template("fp16 needs a GPU, and this training ran on the CPU"),
        signs=(
            Sign(exception=r"fp16 mixed precision requires a GPU"),
            Sign(exception=r"not implemented for 'Half'", when=(on("run.device", "cpu"),)),
        ),
        cure=(
            Advice(template('set train.mixed_precision = "no"')),
            Advice(template("remove full_fp16 from [kohya]"), (on("full_fp16"),)),
        ),
    ),
    Cause(
        id="fp16-gradients",  # https://github.com/kohya-ss/sd-scripts/issues/1107
        message=template("weights that are trained are in fp16, which mixed precision training cannot use"),
        signs=(Sign(exception=r"Attempting to unscale FP16 gradients"),),
        cure=(
            Advice(template("remove full_fp16 from [kohya]"), (on("full_fp16"),)),
            Advice(template('set train.mixed_precision = "bf16"')),
        ),
    ),
    Cause(
        id="full-precision-mix",
        message=template("parts of the model have different number formats, because of {full_precision} in [kohya]"),
        signs=(Sign(exception=MIXED_FORMATS, when=(on("run.full_precision"),)),),
        cure=(Advice(template("remove {full_precision} from [kohya]")),),
    ),
    Cause(
        id="mixed-number-formats",
        message=template("two parts of the model have different number formats ({words})"),
        signs=tuple(
            Sign(exception=MIXED_FORMATS, when=(when,)) for when in (on("fp8_base"), on("mixed_precision", "no"))
        ),
        cure=(
            Advice(template("remove fp8_base from [kohya]"), (on("fp8_base"),)),
            Advice(template('set train.mixed_precision = "bf16" or "fp16"'), (on("mixed_precision", "no"),)),
        ),
    ),
    Cause(
        id="unused-parts",  # https://github.com/pytorch/pytorch/issues/43259
        message=template("a part that is trained was not used in a step, which several processes do not allow"),
        signs=(Sign(exception=r"Expected to have finished reduction in the prior iteration"),),
        cure=(
            Advice(template("set ddp_static_graph = true in [kohya]"), (off("ddp_static_graph"),)),
            Advice(template("train with one process: launch.num_processes = 1")),
        ),
    ),
    Cause(
        id="nccl-rtx4000",
        message=template("GPUs of the RTX 4000 series cannot reach each other directly"),
        signs=(Sign(exception=r"RTX 4000 series doesn't support faster communication"),),
        cure=(Advice(template("set NCCL_P2P_DISABLE=1 and NCCL_IB_DISABLE=1 in the environment and run it again")),),
    ),
    Cause(
        id="nccl-timeout",
        message=template("one of the training processes waited too long for another one"),
        signs=(
            Sign(exception=r"Watchdog caught collective operation timeout|Timed out waiting|wait timeout after \d+ms"),
            Sign(line=r"Watchdog caught collective operation timeout"),
        ),
        cure=(
            Advice(template("look for what stopped or slowed the other process in the log")),
            Advice(template("raise ddp_timeout under [kohya] (minutes) if caching takes longer than that")),
        ),
    ),
    Cause(
        id="nccl-shared-memory",  # https://github.com/pytorch/pytorch/issues/37004
        message=template("the processes cannot share memory with each other (/dev/shm)"),
        signs=(Sign(exception=NCCL, line=r"Error while (?:creating|attaching to) shared memory|shm_open failed"),),
        cure=(Advice(template("give the container more shared memory (docker: --shm-size=8g)")),),
    ),
    Cause(
        id="port-taken",  # https://github.com/huggingface/accelerate/issues/74
        # https://github.com/meta-pytorch/torchtune/issues/392
        message=template("the port that the training processes use to find each other is taken"),
        signs=(
            Sign(exception=r"EADDRINUSE|[Aa]ddress already in use"),
            Sign(exception=r"Tried to launch distributed communication on port"),
        ),
        cure=(Advice(template("set launch.main_process_port to a free port, such as 29511")),),
    ),
    Cause(
        id="nccl",  # https://github.com/NVIDIA/nccl/issues/207, https://github.com/pytorch/pytorch/issues/17349
        message=template("the GPUs cannot communicate with each other (NCCL)"),
        signs=(Sign(exception=NCCL),),
        cure=(
            Advice(template("set NCCL_P2P_DISABLE=1 and NCCL_IB_DISABLE=1 in the environment and run it again")),
            Advice(template("NCCL_DEBUG=INFO shows more in the log")),
            Advice(template("or train on one GPU: launch.num_processes = 1")),
        ),
    ),
    Cause(
        id="gpu-watchdog",
        message=template("the GPU also drives a display, whose driver ended a calculation that took too long"),
        signs=(Sign(exception=r"the launch timed out and was terminated"),),
        cure=(
            Advice(template("train on a GPU without a display (launch.gpu_ids), or stop the desktop meanwhile")),
            Advice(template("lower train.train_batch_size or train.resolution, so that a step is shorter")),
        ),
    ),
    Cause(
        id="gpu-fault",  # https://github.com/NVIDIA/open-gpu-kernel-modules/issues/507
        # https://github.com/pytorch/pytorch/issues/74235, https://github.com/bmaltais/kohya_ss/issues/3168
        message=template("the GPU or its driver failed in the middle of a calculation"),
        signs=(
            Sign(
                exception=r"illegal memory access|unspecified launch failure|misaligned address|illegal instruction was"
            ),
            Sign(exception=r"uncorrectable ECC error|GPU is lost|CUDA error: unknown error|hardware stack error"),
            Sign(exception=r"CUDA error: device (?:lost|hung)"),
            Sign(exception=r"(?:CUDNN|CUBLAS)_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"),
        ),
        cure=(
            Advice(template("`dmesg | grep -i xid` shows the reason (heat, power supply, memory of the card)")),
            Advice(template("update the driver")),
            Advice(template("turn off overclocking, and lower the power limit (`nvidia-smi -pl`)")),
        ),
    ),
    Cause(
        id="index-out-of-range",  # https://github.com/bmaltais/kohya_ss/issues/1886
        message=template("a time step outside of the model's range was used"),
        signs=(
            Sign(
                exception=r"device-side assert|index \d+ is out of bounds for dimension 0 with size 1000",
                within=r":add_noise|:get_noise_noisy_latents_and_timesteps|:apply_snr_weight|:apply_debiased_estimation",
            ),
        ),
        cure=(
            Advice(template("set min_timestep and max_timestep in [kohya] to values from 0 to 1000, or remove them")),
        ),
    ),
    Cause(
        id="cuda-assert",  # https://github.com/huggingface/transformers/issues/22778
        message=template("the GPU stopped at an index outside of its range"),
        signs=(Sign(exception=r"device-side assert triggered"),),
        cure=(
            Advice(template("run it again with CUDA_LAUNCH_BLOCKING=1 in the environment: the log then shows where")),
        ),
    ),
    Cause(
        id="gpu-invisible",  # https://github.com/bitsandbytes-foundation/bitsandbytes/issues/308
        message=template("torch sees no GPU"),
        signs=(
            Sign(exception=r"No CUDA GPUs are available|no CUDA-capable device is detected"),
            Sign(exception=r"CUDA (?:driver )?initialization|CUDA unknown error|CUDA error: initialization error"),
        ),
        cure=(
            Advice(template("check that `nvidia-smi` works here, and that CUDA_VISIBLE_DEVICES does not hide the GPU")),
            Advice(template("in a container, start it with the GPU (docker: --gpus all)")),
        ),
    ),
    Cause(
        id="triton-missing",  # https://github.com/pytorch/pytorch/issues/143406
        message=template("torch.compile needs triton, which is not installed in the trainer's Python"),
        signs=(Sign(exception=r"TritonMissing|working triton installation|No module named 'triton"),),
        cure=(Advice(template("remove torch_compile from [kohya]")),),
    ),
    Cause(
        id="compiler-missing",
        message=template("torch.compile needs a C++ compiler, which this machine does not have"),
        signs=(
            Sign(
                exception=r"InvalidCxxCompiler|No working C\+\+ compiler|Failed to find C compiler|Python\.h: No such"
            ),
        ),
        cure=(Advice(template("remove torch_compile from [kohya], or install gcc and g++")),),
    ),
    Cause(
        id="compile-failed",
        message=template("torch.compile failed with this model"),
        signs=(Sign(exception=r"torch\._(?:dynamo|inductor)\.exc\.(?!InvalidBackend)|BackendCompilerFailed"),),
        cure=(Advice(template("remove torch_compile from [kohya]")),),
    ),
)
