"""What `lorabake init --json` prints."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.check_report import CheckReport
from lorabake_schemas.guide.folder_names import FolderRole
from lorabake_schemas.recipe import TagStyle


class InitFolder(StrictModel):
    """A folder with images that was found. ``captions`` counts images that have one, ``style`` is what they are made
    of; ``unreadable`` counts those whose caption cannot be read. ``used`` is whether the recipe names it.
    ``converted`` are the files with captions in a form that sd-scripts cannot read, which were written to ``metadata``:
    in files of other names, in lines of one tag each, with spaces between tags, in a web UI's generation parameters, or
    with a placeholder for the trigger word, or in another encoding. ``companions`` counts OneTrainer's masks and
    conditioning images. ``copy_of`` is the folder that has
    the same images at another size."""

    path: EscapedText
    role: FolderRole
    used: bool = True
    images: int = 0
    captions: int = 0
    unreadable: int = 0
    style: TagStyle | None = None
    token: EscapedText | None = None
    converted: EscapedText | None = None
    form: Literal["files", "lines", "spaces", "comments", "parameters", "placeholder", "encoding"] | None = None
    metadata: EscapedText | None = None
    copy_of: EscapedText | None = None
    companions: int = 0


class InitAssumption(StrictModel):
    """Something that could not be seen: a question, and the answer that the recipe has. Empty is none."""

    key: EscapedText
    question: MessageText
    answer: EscapedText = ""


class InitReport(StrictModel):
    """``recipe`` is the file that was written, ``folder`` where was looked; paths of ``folders`` are relative to it.
    ``model`` is null if no base model was found: the recipe has a placeholder then. ``tags`` is base.tags where no
    caption shows them. ``unread`` counts files in other folders in formats that sd-scripts does not read, by
    extension."""

    version: Literal[1] = 1
    recipe: EscapedText
    folder: EscapedText
    model: EscapedText | None
    folders: TupleOf[InitFolder]
    tags: TupleOf[EscapedText] = ()
    assumed: TupleOf[InitAssumption]
    unread: dict[str, int]
    check: CheckReport
