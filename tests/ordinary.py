"""Root may read and write everything; this takes that right from the tests that are about permissions.

On Linux the right is two capabilities, which the thread puts aside for a while: files stay root's own, Python can
still be imported from a folder that only root may enter, and a mode of 000 shuts out root as it does everybody.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

VERSION_3 = 0x20080522
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
GET_SECUREBITS, SET_SECUREBITS, NOROOT = 27, 28, 1  # prctl: a program that root starts has no capabilities either


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def ordinary_user() -> Generator[None]:
    """Permissions count, for root as well."""
    if not is_root():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may read everything")
    libc, header, data = ctypes.CDLL(None, use_errno=True), _Header(VERSION_3, 0), (_Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    before, bits = data[0].effective, libc.prctl(GET_SECUREBITS)
    assert libc.prctl(SET_SECUREBITS, bits | NOROOT, 0, 0, 0) == 0
    data[0].effective = before & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    assert libc.capset(ctypes.byref(header), data) == 0
    try:
        yield
    finally:
        data[0].effective = before
        assert libc.capset(ctypes.byref(header), data) == 0
        assert libc.prctl(SET_SECUREBITS, bits, 0, 0, 0) == 0
