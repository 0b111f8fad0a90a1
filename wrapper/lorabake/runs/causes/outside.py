"""Causes from outside: signals, and failures that follow from another one."""

from __future__ import annotations

from lorabake.runs.causes.cause import Advice, Cause, Sign, off, on
from lorabake.runs.causes.machine import FEWER_WORKERS
from lorabake_schemas.messages import template

OUTSIDE_CAUSES = (
    Cause(
        id="other-process",
        message=template("one of the training processes lost the connection to another one, which ended first"),
        signs=(
            Sign(exception=r"Connection (?:closed|reset) by peer|Broken pipe|Socket Timeout|recvValue failed"),
            Sign(exception=r"^EOFError$|ConnectionResetError|ConnectionRefusedError", within=r"multiprocessing/"),
        ),
        cure=(Advice(template("the log shows why the other one ended")),),
        secondary=True,
    ),
    Cause(
        id="loader-ended",  # https://github.com/pytorch/pytorch/issues/131631
        message=template("a process that loads images ended unexpectedly, probably because memory ran out"),
        signs=(Sign(exception=r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) exited unexpectedly"),),
        cure=(FEWER_WORKERS, Advice(template("`dmesg` shows whether the system killed it"))),
        secondary=True,
    ),
    Cause(
        id="killed-for-memory",
        code="out-of-memory",
        message=template(
            "the trainer was killed from outside (SIGKILL), probably because this machine ran out of memory"
        ),
        signs=(Sign(signals=("SIGKILL",)),),
        cure=(
            Advice(template("`dmesg` shows whether it was; close other programs, or use a machine with more memory")),
            FEWER_WORKERS,
            Advice(template("set lowram = true in [kohya]"), (off("lowram"), on("run.device", "cuda"))),
        ),
    ),
    Cause(
        id="memory-mapped-file",
        code="killed",
        message=template("the trainer was killed by SIGBUS: a file it read was cut off, or /dev/shm is full"),
        signs=(Sign(signals=("SIGBUS",)),),
        cure=(
            Advice(template("check that base.model is complete, and that its disk works")),
            FEWER_WORKERS,
        ),
    ),
    Cause(
        id="cpu-instruction",
        code="killed",
        message=template("the trainer was killed by SIGILL: a package uses instructions that this CPU does not have"),
        signs=(Sign(signals=("SIGILL",)),),
        cure=(Advice(template("use another machine, or packages built for this CPU (--sd-scripts, --python)")),),
    ),
    Cause(
        id="crash",  # https://github.com/bmaltais/kohya_ss/issues/1539
        # https://github.com/bmaltais/kohya_ss/issues/2684, https://github.com/bmaltais/kohya_ss/issues/2977
        code="killed",
        message=template("the trainer crashed in compiled code ({signal})"),
        signs=(
            Sign(signals=("SIGSEGV", "SIGABRT", "SIGFPE", "SIGSYS")),
            Sign(exit_codes=(3221225477, 3221226505)),
        ),
        cure=(
            Advice(template("update the NVIDIA driver (now: {driver})"), (on("run.device", "cuda"),)),
            Advice(template("run `lorabake trainer install --repair`"), (off("run.own_trainer"),)),
            Advice(template("reinstall torch in the Python that runs your sd-scripts"), (on("run.own_trainer"),)),
            Advice(template("if it happens again at another step, test this machine's memory")),
        ),
    ),
    Cause(
        id="cpu-time-limit",
        code="killed",
        message=template("the trainer reached this shell's limit of CPU time (ulimit -t)"),
        signs=(Sign(signals=("SIGXCPU",)),),
        cure=(Advice(template("run `ulimit -t unlimited` first, and start it again")),),
    ),
    Cause(
        id="hangup",
        code="killed",
        message=template("the trainer was stopped because its terminal or session was closed (SIGHUP)"),
        signs=(Sign(signals=("SIGHUP",)),),
        cure=(Advice(template("run it again, with --detach if the terminal may be closed")),),
    ),
    Cause(
        id="stopped-from-outside",
        code="killed",
        message=template("the trainer was stopped by {signal}, which another program or user sent"),
        signs=(Sign(signals=("SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE")),),
        cure=(
            Advice(
                template("find out what sent it (the time limit of a batch job, a shutdown, `kill`), and run it again")
            ),
        ),
    ),
)
