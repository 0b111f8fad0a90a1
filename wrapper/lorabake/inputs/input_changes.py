"""What is otherwise in a run's pictures, captions and models than when it began. Pure: two listings in, words out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import splitext
from types import MappingProxyType

from lorabake_schemas.dataset import IMAGE_EXTENSIONS
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.record import FileDigest, Input, InputDigest, InputRole
from lorabake_schemas.verification import FileChange, VerifyDifference

DATASET_ROLES: tuple[InputRole, ...] = ("concept", "regularization")
DIGITS_SHOWN = 12  # of a digest's 64 digits
NO_UNREADABLE_INPUTS: Mapping[tuple[InputRole, int], Message] = MappingProxyType({})

ROLE_LABELS: Mapping[InputRole, Message] = MappingProxyType(
    {
        "base": msg("the base model"),
        "vae": msg("the VAE"),
        "network_weights": msg("the LoRA the training starts from"),
        "base_weights": msg("the LoRA merged into the base model"),
        "tokenizer": msg("the tokenizer"),
        "preset": msg("the LyCORIS preset"),
    }
)


@dataclass(frozen=True, slots=True)
class _InputPair:
    """One input, then and now. ``where`` is the folder as it is called in a message, ``pictures`` its pictures by their
    names without the ending, which their captions share."""

    then: Input
    now: Input
    where: Message
    pictures: Mapping[str, str]

    def found(
        self, name: str, change: FileChange, message: Message, was: str | None, now: str | None
    ) -> VerifyDifference:
        then = self.then
        return VerifyDifference(
            what=then.role, index=then.index, name=name, change=change, message=message, was=was, now=now
        )


def changed_inputs(
    then: Sequence[Input], now: Sequence[Input], shut: Mapping[tuple[InputRole, int], Message] = NO_UNREADABLE_INPUTS
) -> tuple[VerifyDifference, ...]:
    """Every file that changed, went or came, in the order of ``then``; ``now`` holds the same inputs as they are.

    An input of which nothing was hashed is not compared: unproven() names it. A file of ``now`` that is there and
    cannot be read has "" for its SHA-256; ``shut`` says why of inputs of which nothing can be read.
    """
    current = {(each.role, each.index): each for each in now}
    found: list[VerifyDifference] = []
    for each in then:
        if each.files:
            gone = each.model_copy(update={"kind": "missing", "files": ()})
            pictures = {_stem(file.name): file.name for file in each.files if _is_image(file.name)}
            part = _InputPair(each, current.get((each.role, each.index), gone), _folder_label(each, then), pictures)
            why = shut.get((each.role, each.index))
            found += [_unreadable_difference(part, why)] if why is not None else _iter_differences(part)
    return tuple(found)


def unverified_inputs(then: Sequence[Input]) -> tuple[Message, ...]:
    """What the record does not tell of: nothing of it was here to be hashed when the run began."""
    return tuple(
        msg((
    "{what} {name} was not on this machine when the run started, so the record has no hash of "
    "it"
    ),
            what=_role_label(each.role), name=each.name)
        for each in then
        if not each.files
    )  # fmt: skip


def inconsistent_inputs(
    then: Sequence[Input], now: Sequence[Input], held: Sequence[InputDigest]
) -> tuple[VerifyDifference, ...]:
    """Inputs of which inputs.json and the record say different things: what the record ``held`` is compared as a
    whole, since the list of files is not to be believed."""
    here = {(each.role, each.index): each.digest() for each in now}
    wrong = {(each.role, each.index) for each in then}
    found: list[VerifyDifference] = []
    for each in held:
        place = (each.role, each.index)
        current = here[place].sha256 if place in here else None
        if place in wrong and current != each.sha256:
            message = msg(
                (
                    "{what} does not match the record; inputs.json changed too, so it is unknown which of its "
                    "files changed"
                ),
                what=msg("{what} {name}", what=ROLE_LABELS[each.role], name=each.name)
                if each.role in ROLE_LABELS
                else each.name,
            )
            found.append(
                VerifyDifference(
                    what=each.role, index=each.index, name=each.name, change="changed", message=message,
                    was=each.sha256, now=current,
                )
            )  # fmt: skip
    return tuple(found)


def _folder_label(each: Input, every: Sequence[Input]) -> Message:
    """The folder, numbered where there are several of its kind."""
    several = sum(other.role == each.role for other in every) > 1
    match each.role:
        case "concept" if several:
            return msg("concept {n}, {folder}", n=each.index + 1, folder=each.name)
        case "regularization" if several:
            return msg("regularization {n}, {folder}", n=each.index + 1, folder=each.name)
        case _:
            return literal(each.name)


def _unreadable_difference(part: _InputPair, why: Message) -> VerifyDifference:
    """It is there, and nobody lets us see what it holds."""
    then = part.then
    if then.role in ROLE_LABELS:
        message = msg("{what} {name} cannot be read: {why}", what=_role_label(then.role), name=then.name, why=why)
    elif then.role == "caches":
        message = msg("the caches of {folder} cannot be read: {why}", folder=part.where, why=why)
    else:
        message = msg("the folder {folder} cannot be read: {why}", folder=part.where, why=why)
    return part.found(then.name, "unreadable", message, then.digest().sha256, None)


def _iter_differences(part: _InputPair) -> Iterator[VerifyDifference]:
    if part.now.kind == "missing":
        yield part.found(part.then.name, "gone", _all_missing_message(part), part.then.digest().sha256, None)
        return
    then = {file.name: file for file in part.then.files}
    now = {file.name: file for file in part.now.files}
    lost, came = [name for name in then if name not in now], [name for name in now if name not in then]
    renamed = dict(_match_renames([then[name] for name in lost], [now[name] for name in came]))
    if part.then.role in DATASET_ROLES:
        renamed |= dict(_match_moved_captions(lost, came, renamed))
        lost, came = (
            list(_without_paired_captions(lost, renamed)),
            list(_without_paired_captions(came, renamed.values())),
        )
    for name, file in then.items():
        here = now.get(renamed.get(name, name))
        if here is not None:
            yield from _compare_file(part, file, here)
        elif name in lost:
            yield part.found(name, "gone", _missing_message(part, name), file.sha256, None)
    for name in came:
        if name not in renamed.values():
            yield part.found(name, "added", _added_message(part, name), None, now[name].sha256)


def _compare_file(part: _InputPair, then: FileDigest, now: FileDigest) -> Iterator[VerifyDifference]:
    """One file that is there still, maybe by another name; of a caption that is its picture's."""
    if not now.sha256:
        message = msg("{thing} can no longer be read", thing=_file_label(part, then.name))
        yield part.found(then.name, "unreadable", message, then.sha256, None)
    elif (then.sha256, then.size) != (now.sha256, now.size):
        yield part.found(then.name, "changed", _changed_message(part, then, now), then.sha256, now.sha256)
    elif then.name != now.name and (part.then.role not in DATASET_ROLES or _is_image(then.name)):
        message = msg("{thing} is now named {now}", thing=_file_label(part, then.name), now=now.name)
        yield part.found(then.name, "renamed", message, then.name, now.name)


def _match_renames(lost: Sequence[FileDigest], came: Sequence[FileDigest]) -> Iterator[tuple[str, str]]:
    """Files that have another name now, known by their content; only where there is no doubt which is which."""
    before, after = _names_by_digest(lost), _names_by_digest(came)
    for content, names in before.items():
        others = after.get(content, [])
        if content and len(names) == len(others) == 1:
            yield names[0], others[0]


def _names_by_digest(files: Sequence[FileDigest]) -> dict[str, list[str]]:
    """Names by SHA-256; empty files and what cannot be read say nothing."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.sha256 if file.size else "", []).append(file.name)
    return found


def _match_moved_captions(
    lost: Iterable[str], came: Iterable[str], renamed: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The captions of pictures that have another name now have one, too."""
    new = {_stem(name): name for name in came if not _is_image(name)}
    stems = {_stem(old): _stem(here) for old, here in renamed.items() if _is_image(old)}
    for name in lost:
        other = new.get(stems.get(_stem(name), ""))
        if other is not None and not _is_image(name):
            yield name, other


def _without_paired_captions(names: Collection[str], renamed: Collection[str]) -> Iterator[str]:
    """Without captions that went or came with their picture: that is told once, of the picture."""
    pictures = {_stem(name) for name in names if _is_image(name) and name not in renamed}
    return (name for name in names if _is_image(name) or _stem(name) not in pictures)


def _changed_message(part: _InputPair, then: FileDigest, now: FileDigest) -> Message:
    if part.then.kind == "file":
        return msg(
            "{what} is a different file now: {name} has SHA-256 {now}…, the run used {was}…",
            what=_role_label(part.then.role),
            name=part.then.name,
            now=now.sha256[:DIGITS_SHOWN],
            was=then.sha256[:DIGITS_SHOWN],
        )
    return msg("{thing} changed after the run", thing=_file_label(part, then.name))


def _missing_message(part: _InputPair, name: str) -> Message:
    if part.then.kind == "file":
        return _all_missing_message(part)
    return msg("{thing} is missing; the run used it", thing=_file_label(part, name))


def _added_message(part: _InputPair, name: str) -> Message:
    """A file that the run did not see."""
    if part.then.role not in DATASET_ROLES:
        what = _role_label(part.then.role)
        return msg("a file was added to {what} {folder}: {name}", what=what, folder=part.where, name=name)
    if _is_image(name):
        return msg("an image was added: {name} ({folder})", folder=part.where, name=name)
    return msg("a caption was added: {name} ({folder})", folder=part.where, name=name)


def _all_missing_message(part: _InputPair) -> Message:
    then = part.then
    if then.role in ROLE_LABELS:
        return msg("{what} {name} is missing", what=_role_label(then.role), name=then.name)
    if then.role == "caches":
        return msg("the caches of {folder} are missing", folder=part.where)
    return msg(
        "the folder {folder} is missing (images used by the run: {n})",
        n=sum(_is_image(file.name) for file in then.files),
        folder=part.where,
    )


def _file_label(part: _InputPair, name: str) -> Message:
    """A file in a folder, as a person calls it: a caption belongs to its picture."""
    role = part.then.role
    if role == "caches":
        return msg("the cache {name} ({folder})", name=name, folder=part.where)
    if role in ROLE_LABELS:
        if part.then.kind == "file":
            return msg("{what} {name}", what=_role_label(role), name=part.then.name)
        return msg("{file} in {what} {folder}", file=name, what=_role_label(role), folder=part.where)
    if _is_image(name):
        return msg("the image {name} ({folder})", name=name, folder=part.where)
    picture = part.pictures.get(_stem(name))
    if picture is None:
        return msg("the caption {name} ({folder})", name=name, folder=part.where)
    return msg("the caption of {picture} ({folder})", picture=picture, folder=part.where)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _stem(name: str) -> str:
    return splitext(name)[0]


def _role_label(role: InputRole) -> Message:
    return ROLE_LABELS.get(role) or literal(role)
