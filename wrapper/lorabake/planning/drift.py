"""What is otherwise in a run's pictures, captions and models than when it began. Pure: two listings in, words out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import basename, splitext
from types import MappingProxyType

from lorabake_schemas.record import FileDigest, Input, Role
from lorabake_schemas.verification import Change, Difference
from lorabake_schemas.words import Said, quoted, say, told

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".jxl", ".avif")  # as sd-scripts takes them (TU:104-127)
SHOWN = 12  # of a digest's 64 digits

WHAT: Mapping[Role, Said] = MappingProxyType(
    {
        "base": say("the base model"),
        "vae": say("the VAE"),
        "network_weights": say("the LoRA that the training starts from"),
        "base_weights": say("the LoRA merged into the base model"),
        "tokenizer": say("the tokenizer"),
        "preset": say("the LyCORIS preset"),
    }
)


@dataclass(frozen=True, slots=True)
class _Part:
    """One input, then and now. ``where`` is the folder as it is called in a message."""

    then: Input
    now: Input
    where: Said

    def found(self, name: str, change: Change, message: Said, was: str | None, now: str | None) -> Difference:
        then = self.then
        return Difference(what=then.role, index=then.index, name=name, change=change, message=message, was=was, now=now)


def input_drift(then: Sequence[Input], now: Sequence[Input]) -> tuple[Difference, ...]:
    """Every file that changed, went or came, in the order of ``then``; ``now`` holds the same inputs as they are.

    An input of which nothing was hashed (a hub id that had not been downloaded) is not compared: unproven() names it.
    """
    current = {(each.role, each.index): each for each in now}
    found: list[Difference] = []
    for each in then:
        if each.files:
            gone = each.model_copy(update={"kind": "missing", "files": ()})
            part = _Part(each, current.get((each.role, each.index), gone), _where(each, then))
            found += _drift(part)
    return tuple(found)


def unproven(then: Sequence[Input]) -> tuple[Said, ...]:
    """What the record does not tell of: nothing of it was here to be hashed when the run began."""
    return tuple(
        say("{what} {name} had not been downloaded when the run began: the record has no hash of it",
            what=_what(each.role), name=each.name)
        for each in then
        if not each.files and each.kind == "hub"
    )  # fmt: skip


def _where(each: Input, every: Sequence[Input]) -> Said:
    """The folder, numbered where there are several of its kind."""
    several = sum(other.role == each.role for other in every) > 1
    match each.role:
        case "concept" if several:
            return say("concept {n}, {folder}", n=each.index + 1, folder=each.name)
        case "regularisation" if several:
            return say("regularisation {n}, {folder}", n=each.index + 1, folder=each.name)
        case _:
            return quoted(each.name)


def _drift(part: _Part) -> Iterator[Difference]:
    if part.now.kind == "missing":
        yield part.found(part.then.name, "gone", _all_gone(part), part.then.digest().sha256, None)
        return
    then = {file.name: file for file in part.then.files}
    now = {file.name: file for file in part.now.files}
    lost, came = [name for name in then if name not in now], [name for name in now if name not in then]
    renamed = dict(_renamed([then[name] for name in lost], [now[name] for name in came]))
    for name, file in then.items():
        if name in renamed:
            message = say("{thing} is named {now} now", thing=_thing(part, name), now=renamed[name])
            yield part.found(name, "renamed", message, name, renamed[name])
        elif name in lost:
            yield part.found(name, "gone", _gone(part, name), file.sha256, None)
        elif not now[name].sha256:
            message = say("{thing} cannot be read any more", thing=_thing(part, name))
            yield part.found(name, "unreadable", message, file.sha256, None)
        elif (now[name].sha256, now[name].size) != (file.sha256, file.size):
            yield part.found(name, "changed", _changed(part, file, now[name]), file.sha256, now[name].sha256)
    for name in came:
        if name not in renamed.values():
            yield part.found(name, "added", _added(part, name), None, now[name].sha256)


def _renamed(lost: Sequence[FileDigest], came: Sequence[FileDigest]) -> Iterator[tuple[str, str]]:
    """Files that have another name now, known by their content; only where there is no doubt which is which."""
    for file in lost:
        before = [each for each in lost if each.sha256 == file.sha256]
        after = [each for each in came if each.sha256 == file.sha256]
        if len(before) == len(after) == 1 and file.size:
            yield file.name, after[0].name


def _changed(part: _Part, then: FileDigest, now: FileDigest) -> Said:
    if part.then.kind == "file":
        return say(
            "{what} is another file now: {name} has SHA-256 {now}…, the run had {was}…",
            what=_what(part.then.role), name=part.then.name, now=now.sha256[:SHOWN], was=then.sha256[:SHOWN],
        )  # fmt: skip
    return say("{thing} changed after the run", thing=_thing(part, then.name))


def _gone(part: _Part, name: str) -> Said:
    if part.then.kind == "file":
        return _all_gone(part)
    return say("{thing} is gone: the run was made with it", thing=_thing(part, name))


def _added(part: _Part, name: str) -> Said:
    """A file that the run did not see."""
    if part.then.role not in {"concept", "regularisation"}:
        return say(
            "a file was added to {what} {folder}: {name}", what=_what(part.then.role), folder=part.where, name=name
        )
    if _is_picture(name):
        return say("a picture was added: {name} ({folder})", folder=part.where, name=name)
    return say("a caption was added: {name} ({folder})", folder=part.where, name=name)


def _all_gone(part: _Part) -> Said:
    then = part.then
    if then.role in WHAT:
        return say("{what} {name} is gone", what=_what(then.role), name=then.name)
    pictures = sum(map(_is_picture, (file.name for file in then.files)))
    if then.role == "caches":
        return say("the latent caches of {folder} are gone", folder=part.where)
    return told(
        pictures,
        "the folder {folder} is gone, with the picture that the run was made from",
        "the folder {folder} is gone, with the {n} pictures that the run was made from",
        folder=part.where,
    )


def _thing(part: _Part, name: str) -> Said:
    """A file in a folder, as a person calls it: a caption belongs to its picture."""
    role = part.then.role
    if role == "caches":
        return say("the cache {name} ({folder})", name=name, folder=part.where)
    if role in WHAT:
        return say("{file} of {what} {folder}", file=name, what=_what(role), folder=part.where)
    if _is_picture(name):
        return say("the picture {name} ({folder})", name=name, folder=part.where)
    picture = next(
        (each.name for each in part.then.files if _is_picture(each.name) and _stem(each) == _bare(name)), None
    )
    return say("the caption of {picture} ({folder})", picture=picture or name, folder=part.where)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _stem(file: FileDigest) -> str:
    return _bare(file.name)


def _bare(name: str) -> str:
    return splitext(basename(name))[0]


def _what(role: Role) -> Said:
    return WHAT.get(role) or quoted(role)


__all__ = ["input_drift", "unproven"]
