"""Starts a training script in one of several processes on the CPU; lies in the run folder as cpu_processes.py.

    accelerate launch --multi_gpu ... cpu_processes.py SCRIPT ARGUMENTS...

On GPUs accelerate leaves a model alone that has nothing to train; on the CPU it hands each one to PyTorch's
DistributedDataParallel (accelerate 1.6.0 accelerator.py:1584, 1745), which refuses the frozen UNet that sd-scripts
prepares (train_network.py:360, 846, 880). Here such a model is prepared as one that is only evaluated, which is
accelerate's own way to leave it alone, so both kinds of processes train alike. The script runs unchanged.
"""

import sys

if not getattr(sys.flags, "safe_path", False):  # before Python 3.11: the run folder comes first, whatever lies there
    del sys.path[0]

import runpy


def main():
    script, arguments = sys.argv[1], sys.argv[2:]
    sys.argv = [script, *arguments]
    from accelerate import Accelerator

    prepare = Accelerator.prepare_model

    def prepare_trained(self, model, device_placement=None, evaluation_mode=False):
        frozen = not any(parameter.requires_grad for parameter in model.parameters())
        return prepare(self, model, device_placement, evaluation_mode or frozen)

    Accelerator.prepare_model = prepare_trained
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
