"""Starts a training script at the end of an epoch as if it had reached it itself; it is in the run folder.

    ... deterministic.py resume_epoch.py EPOCH SCRIPT ARGUMENTS...

sd-scripts shuffles its images only after the first batch of an epoch was taken (library/train_util.py:6654, 781), so
this batch still has the order of the epoch before. A resumed training has no epoch before, and would take it in the
order of the very start. Here the images are brought into the order of EPOCH first. With workers
(max_data_loader_n_workers) each epoch's worker processes start in that order in every training.
"""

import runpy
import sys


def main():
    epoch, script, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    sys.argv = [script, *arguments]
    from library import train_util

    made = train_util.collator_class.__init__

    def init(self, current_epoch, current_step, dataset):
        made(self, current_epoch, current_step, dataset)
        if dataset is not None:
            dataset.set_current_epoch(epoch)

    train_util.collator_class.__init__ = init
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
