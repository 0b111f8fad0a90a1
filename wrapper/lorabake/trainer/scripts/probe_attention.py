"""Runs xformers' attention forward and backward on the GPU; the last line it prints is JSON: xformers, reason.

    TRAINER-PYTHON probe_attention.py no|fp16|bf16

The precision is that of the run: tensors reach attention as float32 without mixed precision. Shapes are those of a
UNet's inner level (heads of 80, 77 text tokens), since a kernel may exist for one head size and not for another.
"""

import json
import sys
import warnings

HEADS, SIZE = 8, 80
SHAPES = ((256, 256), (256, 77))  # query and key lengths: self and cross attention


def attend(torch, attention, dtype, queries, keys):
    def tensor(length):
        return torch.randn(2, length, HEADS, SIZE, device="cuda", dtype=dtype, requires_grad=True)

    query, key, value = tensor(queries), tensor(keys), tensor(keys)
    result = attention(query, key, value, attn_bias=None)
    result.float().square().mean().backward()
    torch.cuda.synchronize()
    if not all(bool(torch.isfinite(part.grad).all()) for part in (query, key, value)):
        raise ArithmeticError("its gradients are not finite")


def probe(precision):
    try:
        import torch
        import xformers.ops
    except Exception as error:  # its extension can fail in any way
        return False, f"xformers cannot be imported: {type(error).__name__}: {first_line(error)}"
    if not torch.cuda.is_available():
        return False, "xformers needs an NVIDIA GPU, and torch sees none"
    dtype = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    try:
        for queries, keys in SHAPES:
            attend(torch, xformers.ops.memory_efficient_attention, dtype, queries, keys)
    except Exception as error:
        return False, f"xformers {xformers.__version__} failed at {dtype}: {first_line(error)}"
    return True, f"xformers {xformers.__version__} ran forward and backward at {dtype}"


def first_line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def main():
    warnings.simplefilter("ignore")
    works, reason = probe(sys.argv[1])
    print()
    print(json.dumps({"xformers": works, "reason": reason}))


if __name__ == "__main__":
    main()
