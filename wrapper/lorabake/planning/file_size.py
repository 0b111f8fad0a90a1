"""How large a file of the LoRA will be, from the plan and the shapes of the models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorabake.planning.model_shapes import Models
from lorabake.planning.network_layout import TargetModule, UnknownNetworkError, count_elements, list_tensors
from lorabake.planning.network_targets import NetworkSpec, apply_preset, find_target_modules
from lorabake_schemas.plan import FileSize, Plan

Options = Mapping[str, object]
BYTES_BY_PRECISION = {"float": 4, "fp16": 2, "bf16": 2}
DTYPE_BY_PRECISION = {"float": "F32", "fp16": "F16", "bf16": "BF16"}
# What sd-scripts writes into a file about its training (TN:1003-1229): 4.6 kB measured for a concept with a dozen tags.
METADATA, METADATA_SUBSET, METADATA_BUCKET = 3400, 1100, 60
# torch.save's zip: a record of its own, aligned, and a line of the pickle for each tensor.
PICKLE_BYTES_PER_TENSOR = 330


def estimate_file_size(
    plan: Plan, models: Models, presets: Mapping[str, Options], own: Options | None = None
) -> FileSize | None:
    """The size of one save. ``presets`` are LyCORIS' own by name; ``own`` what the plan's preset file says.

    None where it cannot be told: LyCORIS would stop, or the settings are none that are known here.
    """
    precision = str(plan.value("save_precision"))
    if precision not in BYTES_BY_PRECISION:
        return None
    try:
        made = list_network_modules(plan, models, presets, own)
        shapes = {f"{each.lora_name}.{name}": shape for each in made for name, shape in list_tensors(each).items()}
    except (UnknownNetworkError, LookupError, TypeError, ValueError):
        return None
    sizes = {name: count_elements(shape) * BYTES_BY_PRECISION[precision] for name, shape in shapes.items()}
    head = PICKLE_BYTES_PER_TENSOR * len(shapes)
    if plan.value("save_model_as") in {None, "safetensors"}:
        head = _header_bytes(
            [(name, shapes[name], sizes[name]) for name in sorted(shapes)], DTYPE_BY_PRECISION[precision]
        )
        head += METADATA + METADATA_SUBSET * len(plan.subsets) + METADATA_BUCKET * len(plan.forecast.buckets)
    return FileSize(tensors=len(shapes), tensor_bytes=sum(sizes.values()), header_bytes=head)


def list_network_modules(
    plan: Plan, models: Models, presets: Mapping[str, Options], own: Options | None = None
) -> list[TargetModule]:
    """Every module that the plan's network trains. Raises NoSuchNetworkError, LookupError, TypeError or ValueError
    for settings that are none."""
    wanted = read_network_spec(plan)
    if not wanted.algo:
        return find_target_modules(models, wanted, {})
    arguments = split_network_args(plan)
    named = str(arguments.get("preset", "full"))
    preset = presets[named] if named in presets else apply_preset(own or {}, presets[""])
    if named not in presets and own is None:
        raise UnknownNetworkError(named)
    return find_target_modules(models, wanted, preset)


def split_network_args(plan: Plan) -> dict[str, str]:
    """network_args as the network gets them: everything after the first = is a string (TN:664-668)."""
    given = plan.value("network_args")
    listed: Sequence[object] = given if isinstance(given, tuple) else ()
    return {key: value for key, _, value in (str(item).partition("=") for item in listed)}


def read_network_spec(plan: Plan) -> NetworkSpec:
    """The settings of the network as it reads them. Raises NoSuchNetworkError for a module that is not known."""
    if plan.value("dim_from_weights"):
        raise UnknownNetworkError("the ranks of another file")
    module, rank = plan.value("network_module"), int(str(plan.value("network_dim") or 4))
    unet = not plan.value("network_train_text_encoder_only")
    text = not plan.value("network_train_unet_only")
    given = split_network_args(plan)
    if module == "networks.lora":
        if any(name.startswith(("block_", "conv_block_", "down_lr", "mid_lr", "up_lr")) for name in given):
            raise UnknownNetworkError("ranks by block")
        conv = int(given["conv_dim"]) if "conv_dim" in given else None
        return NetworkSpec("", rank, conv, unet=unet, text=text)
    if module != "lycoris.kohya":
        raise UnknownNetworkError(str(module))
    options = {
        "use_tucker": _parse_flag(given, "use_tucker"),
        "weight_decompose": _parse_flag(given, "dora_wd"),
        "wd_on_out": _parse_flag(given, "wd_on_output", default=True),
        "decompose_both": bool(given.get("decompose_both")),
        "full_matrix": _parse_flag(given, "full_matrix"),
        "unbalanced_factorization": _parse_flag(given, "unbalanced_factorization"),
        "rescaled": _parse_flag(given, "rescaled"),
        "factor": int(given.get("factor", -1)),
        "block_size": int(given.get("block_size") or 4),
    }
    conv = int(given.get("conv_dim") or rank)
    algo = (given.get("algo") or "lora").lower()
    return NetworkSpec(algo, rank, conv, options, _parse_flag(given, "train_norm"), unet, text)


def _parse_flag(given: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """LyCORIS takes any word but "false" for yes (lycoris/utils, str_bool)."""
    return given[name].lower() != "false" if name in given else default


def _header_bytes(rows: Sequence[tuple[str, tuple[int, ...], int]], dtype: str) -> int:
    """Bytes of the header that names these tensors, in their order in the file, without the metadata."""
    size, offset = len('{"__metadata__":{}}') + 8, 0
    for name, shape, length in rows:
        sides = ",".join(map(str, shape))
        entry = f',"{name}":{{"dtype":"{dtype}","shape":[{sides}],"data_offsets":[{offset},{offset + length}]}}'
        size += len(entry)
        offset += length
    return size
