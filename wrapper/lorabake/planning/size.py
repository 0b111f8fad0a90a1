"""How large a file of the LoRA will be, from the plan and the shapes of the models. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorabake.planning.shapes import Models
from lorabake.planning.targets import Wanted, applied, attached
from lorabake.planning.tensors import Attached, NoSuchNetworkError, elements, tensors
from lorabake_schemas.plan import FileSize, Plan

Options = Mapping[str, object]
BYTES = {"float": 4, "fp16": 2, "bf16": 2}
DTYPES = {"float": "F32", "fp16": "F16", "bf16": "BF16"}
# What sd-scripts writes into a file about its training (TN:1003-1229): 4.6 kB measured for a concept with a dozen tags.
METADATA, METADATA_SUBSET, METADATA_BUCKET = 3400, 1100, 60
# torch.save's zip: a record of its own, aligned, and a line of the pickle for each tensor.
PICKLED = 330


def file_size(
    plan: Plan, models: Models, presets: Mapping[str, Options], own: Options | None = None
) -> FileSize | None:
    """The size of one save. ``presets`` are LyCORIS' own by name; ``own`` what the plan's preset file says.

    None where it cannot be told: LyCORIS would stop, or the settings are none that are known here.
    """
    precision = str(plan.value("save_precision"))
    if precision not in BYTES:
        return None
    try:
        made = network(plan, models, presets, own)
        shapes = {f"{each.lora_name}.{name}": shape for each in made for name, shape in tensors(each).items()}
    except (NoSuchNetworkError, LookupError, TypeError, ValueError):
        return None
    sizes = {name: elements(shape) * BYTES[precision] for name, shape in shapes.items()}
    head = PICKLED * len(shapes)
    if plan.value("save_model_as") in {None, "safetensors"}:
        head = _header([(name, shapes[name], sizes[name]) for name in sorted(shapes)], DTYPES[precision])
        head += METADATA + METADATA_SUBSET * len(plan.subsets) + METADATA_BUCKET * len(plan.forecast.buckets)
    return FileSize(tensors=len(shapes), tensor_bytes=sum(sizes.values()), header_bytes=head)


def network(plan: Plan, models: Models, presets: Mapping[str, Options], own: Options | None = None) -> list[Attached]:
    """Every module that the plan's network trains. Raises NoSuchNetworkError, LookupError, TypeError or ValueError
    for settings that are none."""
    wanted = wanted_by(plan)
    if not wanted.algo:
        return attached(models, wanted, {})
    arguments = arguments_of(plan)
    named = str(arguments.get("preset", "full"))
    preset = presets[named] if named in presets else applied(own or {}, presets[""])
    if named not in presets and own is None:
        raise NoSuchNetworkError(named)
    return attached(models, wanted, preset)


def arguments_of(plan: Plan) -> dict[str, str]:
    """network_args as the network gets them: everything after the first = is a string (TN:664-668)."""
    given = plan.value("network_args")
    listed: Sequence[object] = given if isinstance(given, tuple) else ()
    return {key: value for key, _, value in (str(item).partition("=") for item in listed)}


def wanted_by(plan: Plan) -> Wanted:
    """The settings of the network as it reads them. Raises NoSuchNetworkError for a module that is not known."""
    if plan.value("dim_from_weights"):
        raise NoSuchNetworkError("the ranks of another file")
    module, rank = plan.value("network_module"), int(str(plan.value("network_dim") or 4))
    unet = not plan.value("network_train_text_encoder_only")
    text = not plan.value("network_train_unet_only")
    given = arguments_of(plan)
    if module == "networks.lora":
        if any(name.startswith(("block_", "conv_block_", "down_lr", "mid_lr", "up_lr")) for name in given):
            raise NoSuchNetworkError("ranks by block")
        conv = int(given["conv_dim"]) if "conv_dim" in given else None
        return Wanted("", rank, conv, unet=unet, text=text)
    if module != "lycoris.kohya":
        raise NoSuchNetworkError(str(module))
    options = {
        "use_tucker": _yes(given, "use_tucker"),
        "weight_decompose": _yes(given, "dora_wd"),
        "wd_on_out": _yes(given, "wd_on_output", default=True),
        "decompose_both": bool(given.get("decompose_both")),
        "full_matrix": _yes(given, "full_matrix"),
        "unbalanced_factorization": _yes(given, "unbalanced_factorization"),
        "rescaled": _yes(given, "rescaled"),
        "factor": int(given.get("factor", -1)),
        "block_size": int(given.get("block_size") or 4),
    }
    conv = int(given.get("conv_dim") or rank)
    algo = (given.get("algo") or "lora").lower()
    return Wanted(algo, rank, conv, options, _yes(given, "train_norm"), unet, text)


def _yes(given: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """LyCORIS takes any word but "false" for yes (lycoris/utils, str_bool)."""
    return given[name].lower() != "false" if name in given else default


def _header(rows: Sequence[tuple[str, tuple[int, ...], int]], dtype: str) -> int:
    """Bytes of the header that names these tensors, in their order in the file, without the metadata."""
    size, offset = len('{"__metadata__":{}}') + 8, 0
    for name, shape, length in rows:
        sides = ",".join(map(str, shape))
        entry = f',"{name}":{{"dtype":"{dtype}","shape":[{sides}],"data_offsets":[{offset},{offset + length}]}}'
        size += len(entry)
        offset += length
    return size


__all__ = ["arguments_of", "file_size", "network", "wanted_by"]
