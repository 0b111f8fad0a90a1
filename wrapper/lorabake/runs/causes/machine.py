"""Causes with the machine: memory, disks, limits of processes and files."""

from __future__ import annotations

from lorabake.runs.causes import places
from lorabake.runs.causes.cause import Advice, Cause, Sign, off, on
from lorabake_schemas.messages import template

FEWER_WORKERS = Advice(template("set train.max_data_loader_n_workers = 0"), (off("max_data_loader_n_workers", 0),))
FREE_SPACE = (
    Advice(template("free some space")),
    Advice(
        template("or keep fewer files (save.save_last_n_epochs)"),
        (off("save_last_n_epochs"), off("save_last_n_steps"), on("run.saves_often")),
    ),
)
NO_SPACE = r"No space left on device|Disk quota exceeded|StorageFull|QuotaExceeded|code: 28\b|code: 122\b"
SHARED_MEMORY = (
    r"unable to (?:allocate|open|mmap|resize) .*(?:shared memory|</?torch_)|unable to write to file </torch_"
    r"|</torch_\d+|killed by signal: Bus error|insufficient shared memory|out of shared memory"
)
WRITE_FAILED = (
    r"PytorchStreamWriter failed|enforce fail at inline_container\.cc.* unexpected pos"
    r"|basic_ios::clear: iostream error|[Ww]rite (?:failed|error)"
)

MACHINE_CAUSES = (
    Cause(  # before disk-full: it is /dev/shm that has no space left then
        id="shared-memory",  # https://github.com/pytorch/pytorch/issues/5040
        # https://github.com/pytorch/pytorch/issues/108861
        message=template("not enough shared memory (/dev/shm) for the processes that load images"),
        signs=(
            Sign(exception=SHARED_MEMORY),
            Sign(exception=r"code: 28|No space left", within=r"multiprocessing/(?:reductions|queues)|:_share_fd_cpu_"),
            Sign(line=r"Unexpected bus error encountered in worker"),
        ),
        cure=(
            FEWER_WORKERS,
            Advice(template("or give the container more shared memory (docker: --shm-size=2g)")),
        ),
    ),
    Cause(
        id="memory-limit",
        message=template("this process reached its limit of memory (ulimit -v)"),
        signs=(
            Sign(
                exception=r"an't allocate memory|^MemoryError|Cannot allocate memory|not enough memory|bad_alloc|"
                r"ArrayMemoryError|Unable to allocate [\d.]+ \w+ for an array",
                when=(on("run.address_limit"),),
            ),
        ),
        cure=(Advice(template("start it from a shell with `ulimit -v unlimited`")),),
    ),
    Cause(
        id="out-of-memory",  # https://github.com/cocktailpeanut/fluxgym/issues/40
        message=template("this machine ran out of memory"),
        signs=(
            Sign(
                exception=r"an't allocate memory|^(?:builtins\.)?MemoryError|Cannot allocate memory|not enough memory"
            ),
            Sign(exception=r"bad_alloc|ArrayMemoryError|Unable to allocate [\d.]+ \w+ for an array|Errno 12\]"),
            Sign(exception=r"killed by signal: Killed|paging file is too small|os error 1455"),
        ),
        cure=(
            Advice(template("close other programs, or use a machine with more memory (this one has {memory})")),
            FEWER_WORKERS,
            Advice(template("set train.cache_latents = true"), (off("cache_latents"),)),
            Advice(
                template("set train.cache_latents_to_disk = true"), (on("cache_latents"), off("cache_latents_to_disk"))
            ),
            Advice(template("set lowram = true in [kohya]"), (off("lowram"), on("run.device", "cuda"))),
        ),
    ),
    Cause(
        id="file-size-limit",
        message=template("the shell that started this limits the size of files, and the LoRA or a state is larger"),
        signs=(
            Sign(exception=r"File too large|FileTooLarge|Errno 27\]|code: 27\b"),
            Sign(exception=WRITE_FAILED, when=(on("run.file_limit"),)),
            Sign(signals=("SIGXFSZ",)),
        ),
        cure=(Advice(template("run `ulimit -f unlimited` first, and start it again")),),
    ),
    Cause(
        id="image-disk-full",
        message=template("the disk with the images is full, so caches cannot be written next to them"),
        signs=(Sign(exception=NO_SPACE, within=places.WRITING_CACHES),),
        cure=(
            Advice(template("free some space")),
            Advice(template("or set train.cache_latents_to_disk = false"), (on("cache_latents_to_disk"),)),
        ),
    ),
    Cause(
        id="disk-full",
        message=template("the disk is full"),
        signs=(
            Sign(exception=NO_SPACE),
            Sign(exception=WRITE_FAILED, chain=NO_SPACE),
            Sign(exception=WRITE_FAILED, when=(on("run.disk_full"),)),
            Sign(silent=True, when=(on("run.disk_full"),)),
        ),
        cure=FREE_SPACE,
    ),
    Cause(
        id="read-only",
        message=template("a disk that the trainer writes to is read-only"),
        signs=(Sign(exception=r"Read-only file system|ReadOnlyFilesystem|Errno 30\]|code: 30\b"),),
        cure=(
            Advice(
                template("make the disk writable again (after a disk error the system mounts it read-only; `dmesg`)")
            ),
        ),
    ),
    Cause(
        id="disk-error",
        message=template("a disk or a network drive failed"),
        signs=(
            Sign(exception=r"Errno (?:5|107|116|121)\]|Input/output error|code: 5\b|Stale file handle"),
            Sign(exception=r"Transport endpoint is not connected|Host is down|Remote I/O error"),
        ),
        cure=(Advice(template("check the disk or the network drive that the file is on (`dmesg`)")),),
    ),
    Cause(
        id="too-many-files",
        message=template("the trainer reached the limit of open files (ulimit -n)"),
        signs=(Sign(exception=r"Too many open files|Errno 24\]|code: 24\b|received 0 items of ancdata"),),
        cure=(
            Advice(template("run `ulimit -n 65536` first, and start it again")),
            FEWER_WORKERS,
        ),
    ),
    Cause(
        id="too-many-processes",
        message=template("this user or container reached its limit of processes and threads"),
        signs=(
            Sign(exception=r"can't start new thread|BlockingIOError: \[Errno 11\]|Resource temporarily unavailable"),
            Sign(line=r"pthread_create failed|libgomp: Thread creation failed"),
        ),
        cure=(
            Advice(template("raise the limit (`ulimit -u`, or pids of the container)")),
            FEWER_WORKERS,
        ),
    ),
    Cause(
        id="output-permission",
        message=template("the trainer may not write to the run folder"),
        signs=(Sign(exception=r"Permission denied|PermissionDenied|Errno 13\]|code: 13\b", within=places.SAVING),),
        cure=(Advice(template("make the run folder and output/ in it writable for this user")),),
    ),
    Cause(
        id="output-missing",
        message=template("output/ in the run folder was moved or deleted during the training"),
        signs=(
            Sign(
                exception=r"No such file or directory|NotFound|does not exist|Errno 2\]|Errno 20\]",
                within=places.SAVING,
            ),
        ),
        cure=(Advice(template("run it again, and leave the run folder alone until it ends")),),
    ),
    Cause(
        id="sample-folder",
        message=template("output/sample in the run folder cannot be written"),
        signs=(
            Sign(
                exception=r"NotADirectoryError|FileExistsError|PermissionError|IsADirectoryError|FileNotFoundError.*output/",
                within=places.SAMPLING,
            ),
        ),
        cure=(Advice(template("run it again, and leave output/ in the run folder alone until it ends")),),
    ),
    Cause(
        id="tensorboard-folder",
        message=template("tensorboard/ in the run folder cannot be written"),
        signs=(
            Sign(
                exception=r"NotADirectoryError|FileExistsError|PermissionError|IsADirectoryError",
                within=places.LOGGING,
            ),
            Sign(
                exception=r"FileNotFoundError",
                within=places.LOGGING,
                when=(off("log_tracker_config"),),
            ),
            Sign(exception=r"^[\w.]*Error: .*tensorboard/"),
        ),
        cure=(
            Advice(template("run it again, and leave tensorboard/ in the run folder alone (it has to be a folder)")),
        ),
    ),
    Cause(
        id="save-failed",
        message=template("the LoRA or a state could not be written"),
        signs=(Sign(exception=r"IoError|OSError|" + WRITE_FAILED, within=places.SAVING),),
        cure=(Advice(template("check the disk of the run folder: free space, quota, permissions, errors in `dmesg`")),),
    ),
    Cause(
        id="permission",
        message=template("the trainer may not read or write a file: {words}"),
        signs=(Sign(exception=r"PermissionError|PermissionDenied"),),
        cure=(Advice(template("give this user access to it (`ls -l` shows who has it)")),),
    ),
)
