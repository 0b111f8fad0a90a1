"""What the processes of one training need of each other."""

from __future__ import annotations

import re
import socket

import pytest

from lorabake.errors import ResourceError
from lorabake.jobs.machines import ensure_port_free
from lorabake_schemas.plan import LaunchPlan


def test_a_taken_port_names_the_key_and_one_that_is_free() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ResourceError) as failure:
            ensure_port_free(LaunchPlan(num_processes=2, main_process_port=port))
        assert str(port) in str(failure.value)
        ensure_port_free(LaunchPlan(num_processes=1, main_process_port=port))
        advice = re.search(r"launch\.main_process_port = (\d+)", str(failure.value.hint))
        assert advice
        ensure_port_free(LaunchPlan(num_processes=2, main_process_port=int(advice[1])))
    ensure_port_free(LaunchPlan(num_processes=2, main_process_port=port))
