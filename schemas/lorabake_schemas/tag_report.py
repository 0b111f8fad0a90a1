"""What `lorabake tags` prints: which tags the captions have, and what an edit of them changes."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf

EditKind = Literal["add", "remove", "rename", "front"]


class Spelling(StrictModel):
    """A tag exactly as captions have it, and how many images have it so."""

    tag: EscapedText
    images: int


class TagCount(StrictModel):
    """A tag in its most frequent spelling. ``share`` is that of the concept's images with a caption, 0 to 1."""

    tag: EscapedText
    images: int
    share: float


class ConceptTags(StrictModel):
    """The tags of one concept, the most frequent first.

    ``images`` are those in its ``folders``, ``captioned`` those with a caption that can be read, ``unreadable`` those
    with one that cannot be (it is not UTF-8, or may not be opened), ``sentences`` those
    whose captions are sentences, whose tags are not counted. ``constant`` are tags besides token, outfit and class that
    all captions have: they are learned as part of the token (G3.15). ``single`` are tags of one image only (GC.3).
    ``alike`` are groups of spellings of what may be one tag: capitals, underscores, hyphens, the order of words,
    plurals.
    """

    name: EscapedText
    folders: TupleOf[EscapedText]
    images: int
    captioned: int
    unreadable: int = 0
    sentences: int
    mean: float
    tags: TupleOf[TagCount]
    constant: TupleOf[EscapedText]
    single: TupleOf[EscapedText]
    alike: TupleOf[tuple[Spelling, ...]]


class Companion(StrictModel):
    """A tag that comes together with another one: on how many images, and its share of the images with and without
    the other one, 0 to 1."""

    tag: EscapedText
    together: int
    share: float
    share_elsewhere: float


class TagCompany(StrictModel):
    """What comes together with ``tag``, which ``images`` have, and the tags that ``never`` do, the most frequent
    first."""

    tag: EscapedText
    images: int
    together: TupleOf[Companion]
    never: TupleOf[TagCount]


class TagReport(StrictModel):
    """``version`` changes only if a reader of this one would stumble."""

    version: Literal[1] = 1
    recipe: EscapedText
    concepts: TupleOf[ConceptTags]
    company: TagCompany | None = None


class EditCount(StrictModel):
    """One edit, and the number of captions that it changes. ``given`` is the option's value. ``why`` is why it leaves
    captions as they are that a person may have meant."""

    kind: EditKind
    given: EscapedText
    captions: int
    why: MessageText | None = None


class CaptionChange(StrictModel):
    """A changed caption. ``image`` is the first image that has it, if the file has the captions of several."""

    file: EscapedText
    image: EscapedText
    before: EscapedText
    after: EscapedText


class SkippedCaption(StrictModel):
    """A caption file that is left as it is."""

    file: EscapedText
    why: MessageText


class CaptionEditReport(StrictModel):
    """What edits change, or have changed: ``written`` are the files that were written, ``undo`` the file that restores
    them, ``copy`` the recipe of the copy that was made. ``captions`` is the number that were looked at, ``tokenless``
    are the files of those that start with the token before and not after (FILE: IMAGE in a metadata file)."""

    version: Literal[1] = 1
    recipe: EscapedText
    edits: TupleOf[EditCount]
    captions: int
    changes: TupleOf[CaptionChange]
    skipped: TupleOf[SkippedCaption] = ()
    tokenless: TupleOf[EscapedText] = ()
    written: int = 0
    undo: EscapedText | None = None
    copied_recipe: EscapedText | None = None


class UndoEntry(StrictModel):
    """A changed file: its path from the undo file's folder or absolute, its text before, and the SHA-256 of its bytes
    before and after."""

    file: str
    before: str
    before_sha256: str
    after_sha256: str


class UndoFile(StrictModel):
    """Written before an edit in place. Its texts are UTF-8 exactly as the files had them, with line ends and BOM."""

    lorabake_undo: Literal[1] = 1
    files: TupleOf[UndoEntry]
