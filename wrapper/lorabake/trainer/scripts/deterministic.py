"""Starts a training script so that the same run gives the same numbers; lies in the run folder as deterministic.py.

    accelerate launch ... deterministic.py SCRIPT ARGUMENTS...

The script runs unchanged and finds everything as if it had been started itself: its own name and arguments, itself as
__main__. The folder that it imports from comes in PYTHONPATH.

Strict, not warn_only: with warnings only, PyTorch keeps kernels that add up in another order every time (its memory
efficient attention for one, pytorch pull 101847), and a run that is called repeatable would not be. An operation of
which there is no other kernel ends the run with PyTorch's own words.

Each line of sd-scripts' log takes a number from Python's own random ones, for a link that no terminal shows (rich
14.1.0 style.py:490, 688), and captions are shuffled with what is left (library/train_util.py:911). So one line more,
a warning or a file saved, would train on otherwise shuffled captions, and so would a run that was resumed. Here rich
has random numbers of its own.
"""

import sys

if not getattr(sys.flags, "safe_path", False):  # before Python 3.11: the run folder comes first, whatever lies there
    del sys.path[0]

import random
import runpy


def main():
    script, arguments = sys.argv[1], sys.argv[2:]
    sys.argv = [script, *arguments]
    import torch

    try:
        import rich.style
    except ImportError:  # then sd-scripts logs without it (library/utils.py:62-71), and no line takes a number
        pass
    else:
        rich.style.randint = random.Random(0).randint
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
