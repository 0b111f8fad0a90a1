"""What is otherwise in a run's pictures, captions and models than when it began. Pure: two listings in, words out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import splitext
from types import MappingProxyType

from lorabake_schemas.record import FileDigest, Input, InputDigest, Role
from lorabake_schemas.verification import Change, Difference
from lorabake_schemas.words import Said, quoted, say, told

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")  # TU:104
DATA: tuple[Role, ...] = ("concept", "regularisation")
SHOWN = 12  # of a digest's 64 digits
NONE_SHUT: Mapping[tuple[Role, int], Said] = MappingProxyType({})

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
    """One input, then and now. ``where`` is the folder as it is called in a message, ``pictures`` its pictures by their
    names without the ending, which their captions share."""

    then: Input
    now: Input
    where: Said
    pictures: Mapping[str, str]

    def found(self, name: str, change: Change, message: Said, was: str | None, now: str | None) -> Difference:
        then = self.then
        return Difference(what=then.role, index=then.index, name=name, change=change, message=message, was=was, now=now)


def input_drift(
    then: Sequence[Input], now: Sequence[Input], shut: Mapping[tuple[Role, int], Said] = NONE_SHUT
) -> tuple[Difference, ...]:
    """Every file that changed, went or came, in the order of ``then``; ``now`` holds the same inputs as they are.

    An input of which nothing was hashed is not compared: unproven() names it. A file of ``now`` that is there and
    cannot be read has "" for its SHA-256; ``shut`` says why of inputs of which nothing can be read.
    """
    current = {(each.role, each.index): each for each in now}
    found: list[Difference] = []
    for each in then:
        if each.files:
            gone = each.model_copy(update={"kind": "missing", "files": ()})
            pictures = {_stem(file.name): file.name for file in each.files if _is_picture(file.name)}
            part = _Part(each, current.get((each.role, each.index), gone), _where(each, then), pictures)
            why = shut.get((each.role, each.index))
            found += [_shut(part, why)] if why is not None else _drift(part)
    return tuple(found)


def unproven(then: Sequence[Input]) -> tuple[Said, ...]:
    """What the record does not tell of: nothing of it was here to be hashed when the run began."""
    return tuple(
        say("{what} {name} was not on this machine yet when the run began: the record has no hash of it",
            what=_what(each.role), name=each.name)
        for each in then
        if not each.files
    )  # fmt: skip


def doubted(then: Sequence[Input], now: Sequence[Input], held: Sequence[InputDigest]) -> tuple[Difference, ...]:
    """Inputs of which inputs.json and the record say different things: what the record ``held`` is compared as a
    whole, since the list of files is not to be believed."""
    here = {(each.role, each.index): each.digest() for each in now}
    wrong = {(each.role, each.index) for each in then}
    found: list[Difference] = []
    for each in held:
        place = (each.role, each.index)
        current = here[place].sha256 if place in here else None
        if place in wrong and current != each.sha256:
            message = say(
                "{what} is not as the record has it; which of its files changed is not known: inputs.json changed, too",
                what=say("{what} {name}", what=WHAT[each.role], name=each.name) if each.role in WHAT else each.name,
            )
            found.append(
                Difference(
                    what=each.role, index=each.index, name=each.name, change="changed", message=message,
                    was=each.sha256, now=current,
                )
            )  # fmt: skip
    return tuple(found)


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


def _shut(part: _Part, why: Said) -> Difference:
    """It is there, and nobody lets us see what it holds."""
    then = part.then
    if then.role in WHAT:
        message = say("{what} {name} cannot be read: {why}", what=_what(then.role), name=then.name, why=why)
    elif then.role == "caches":
        message = say("the caches of {folder} cannot be read: {why}", folder=part.where, why=why)
    else:
        message = say("the folder {folder} cannot be read: {why}", folder=part.where, why=why)
    return part.found(then.name, "unreadable", message, then.digest().sha256, None)


def _drift(part: _Part) -> Iterator[Difference]:
    if part.now.kind == "missing":
        yield part.found(part.then.name, "gone", _all_gone(part), part.then.digest().sha256, None)
        return
    then = {file.name: file for file in part.then.files}
    now = {file.name: file for file in part.now.files}
    lost, came = [name for name in then if name not in now], [name for name in now if name not in then]
    renamed = dict(_renamed([then[name] for name in lost], [now[name] for name in came]))
    if part.then.role in DATA:
        renamed |= dict(_carried(lost, came, renamed))
        lost, came = list(_alone(lost, renamed)), list(_alone(came, renamed.values()))
    for name, file in then.items():
        here = now.get(renamed.get(name, name))
        if here is not None:
            yield from _compared(part, file, here)
        elif name in lost:
            yield part.found(name, "gone", _gone(part, name), file.sha256, None)
    for name in came:
        if name not in renamed.values():
            yield part.found(name, "added", _added(part, name), None, now[name].sha256)


def _compared(part: _Part, then: FileDigest, now: FileDigest) -> Iterator[Difference]:
    """One file that is there still, maybe by another name; of a caption that is its picture's."""
    if not now.sha256:
        message = say("{thing} cannot be read any more", thing=_thing(part, then.name))
        yield part.found(then.name, "unreadable", message, then.sha256, None)
    elif (then.sha256, then.size) != (now.sha256, now.size):
        yield part.found(then.name, "changed", _changed(part, then, now), then.sha256, now.sha256)
    elif then.name != now.name and (part.then.role not in DATA or _is_picture(then.name)):
        message = say("{thing} is named {now} now", thing=_thing(part, then.name), now=now.name)
        yield part.found(then.name, "renamed", message, then.name, now.name)


def _renamed(lost: Sequence[FileDigest], came: Sequence[FileDigest]) -> Iterator[tuple[str, str]]:
    """Files that have another name now, known by their content; only where there is no doubt which is which."""
    before, after = _by_content(lost), _by_content(came)
    for content, names in before.items():
        others = after.get(content, [])
        if content and len(names) == len(others) == 1:
            yield names[0], others[0]


def _by_content(files: Sequence[FileDigest]) -> dict[str, list[str]]:
    """Names by SHA-256; empty files and what cannot be read say nothing."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.sha256 if file.size else "", []).append(file.name)
    return found


def _carried(lost: Iterable[str], came: Iterable[str], renamed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The captions of pictures that have another name now have one, too."""
    new = {_stem(name): name for name in came if not _is_picture(name)}
    stems = {_stem(old): _stem(here) for old, here in renamed.items() if _is_picture(old)}
    for name in lost:
        other = new.get(stems.get(_stem(name), ""))
        if other is not None and not _is_picture(name):
            yield name, other


def _alone(names: Collection[str], renamed: Collection[str]) -> Iterator[str]:
    """Without captions that went or came with their picture: that is told once, of the picture."""
    pictures = {_stem(name) for name in names if _is_picture(name) and name not in renamed}
    return (name for name in names if _is_picture(name) or _stem(name) not in pictures)


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
    if part.then.role not in DATA:
        what = _what(part.then.role)
        return say("a file was added to {what} {folder}: {name}", what=what, folder=part.where, name=name)
    if _is_picture(name):
        return say("a picture was added: {name} ({folder})", folder=part.where, name=name)
    return say("a caption was added: {name} ({folder})", folder=part.where, name=name)


def _all_gone(part: _Part) -> Said:
    then = part.then
    if then.role in WHAT:
        return say("{what} {name} is gone", what=_what(then.role), name=then.name)
    if then.role == "caches":
        return say("the caches of {folder} are gone", folder=part.where)
    return told(
        sum(_is_picture(file.name) for file in then.files),
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
        if part.then.kind == "file":
            return say("{what} {name}", what=_what(role), name=part.then.name)
        return say("{file} of {what} {folder}", file=name, what=_what(role), folder=part.where)
    if _is_picture(name):
        return say("the picture {name} ({folder})", name=name, folder=part.where)
    picture = part.pictures.get(_stem(name))
    if picture is None:
        return say("the caption {name} ({folder})", name=name, folder=part.where)
    return say("the caption of {picture} ({folder})", picture=picture, folder=part.where)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _stem(name: str) -> str:
    return splitext(name)[0]


def _what(role: Role) -> Said:
    return WHAT.get(role) or quoted(role)


__all__ = ["doubted", "input_drift", "unproven"]
