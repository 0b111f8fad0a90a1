"""Starts a training script so that the same run gives the same numbers; lies in the run folder as deterministic.py.

    accelerate launch ... deterministic.py SCRIPT ARGUMENTS...

The script runs unchanged and finds everything as if it had been started itself: its own folder first among those that
Python imports from, its own name and arguments, itself as __main__.

Strict, not warn_only: with warnings only, PyTorch keeps kernels that add up in another order every time (its memory
efficient attention for one, pytorch pull 101847), and a run that is called repeatable would not be. An operation of
which there is no other kernel ends the run with PyTorch's own words.
"""

import os
import runpy
import sys


def main():
    script, arguments = sys.argv[1], sys.argv[2:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    sys.argv = [script, *arguments]
    import torch

    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
