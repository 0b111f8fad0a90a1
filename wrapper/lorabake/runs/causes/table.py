"""The table of causes. The first row whose signs are all there counts: the special ones come before the general."""

from __future__ import annotations

from lorabake.runs.causes.cause import Cause
from lorabake.runs.causes.files import FILE_CAUSES
from lorabake.runs.causes.general import GENERAL_CAUSES
from lorabake.runs.causes.gpu import GPU_CAUSES
from lorabake.runs.causes.machine import MACHINE_CAUSES
from lorabake.runs.causes.outside import OUTSIDE_CAUSES
from lorabake.runs.causes.packages import PACKAGE_CAUSES
from lorabake.runs.causes.settings import SETTING_CAUSES

CAUSES: tuple[Cause, ...] = (
    *GPU_CAUSES, *MACHINE_CAUSES, *FILE_CAUSES, *PACKAGE_CAUSES, *SETTING_CAUSES, *OUTSIDE_CAUSES, *GENERAL_CAUSES
)  # fmt: skip
