"""Folders of images as people have them, small: each function makes one and returns the one that is named to init."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

SEEN = ("smile", "sitting", "from side", "outdoors", "night", "close-up", "running", "upper body", "forest", "rain")
PLACES = ("a rainy street", "an old library", "the beach at noon", "a kitchen", "a stage with red lights")
Layout = Callable[[Path], Path]
LAYOUTS: dict[str, Layout] = {}


def layout(make: Layout) -> Layout:
    LAYOUTS[make.__name__] = make
    return make


def draw(folder: Path, count: int, caption: Callable[[int], str] | None = None, *, name: str = "img{:02d}",
         ends: Sequence[str] = (".png",), text: str = ".txt", first: int = 0) -> Path:  # fmt: skip
    """``count`` images that differ, with captions in files that end in ``text``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        image = Image.new("RGB", (96 + 8 * (number % 3), 120 - 8 * (number % 2)), (number * 37 % 256, 90, 60))
        ImageDraw.Draw(image).ellipse((4 + number, 6, 60 + number, 70), fill=(200, number * 53 % 256, 10))
        ending = ends[number % len(ends)]
        image.save(folder / (name.format(number) + ending))
        if caption is not None:
            (folder / (name.format(number) + text)).write_text(f"{caption(number)}\n", encoding="utf-8")
    return folder


def tags(*front: str) -> Callable[[int], str]:
    return lambda n: ", ".join([*front, SEEN[n % 10], SEEN[(n * 3 + 1) % 10], SEEN[(n * 7 + 2) % 10]])


def sentences(start: str) -> Callable[[int], str]:
    return lambda n: f"{start} wearing a blue coat number {n}, standing in {PLACES[n % 5]} and looking at the camera."


@layout
def kohya_tree(root: Path) -> Path:
    """What kohya_ss' dataset preparation makes."""
    draw(root / "img" / "20_ohwx man", 16, tags("ohwx", "man"))
    draw(root / "reg" / "1_man", 8)
    draw(root / "model" / "sample", 2)
    (root / "log").mkdir()
    return root


@layout
def kohya_img_itself(root: Path) -> Path:
    kohya_tree(root)
    return root / "img"


@layout
def kohya_numbered_folder_itself(root: Path) -> Path:
    kohya_tree(root)
    return root / "img" / "20_ohwx man"


@layout
def kohya_no_captions(root: Path) -> Path:
    draw(root / "img" / "40_zkw woman", 15, ends=(".jpg",))
    return root / "img"


@layout
def flat_with_tags(root: Path) -> Path:
    return draw(root / "mizutsune", 16, tags("mztsn", "feral", "blue scales"))


@layout
def flat_tagged_without_trigger(root: Path) -> Path:
    """As a WD14 tagger leaves it."""
    return draw(root / "hatsune miku", 16, tags("1girl", "solo", "blue hair", "twintails"))


@layout
def flat_photographs(root: Path) -> Path:
    return draw(root / "photos", 15, name="IMG_{:04d}", ends=(".jpg",))


@layout
def photographs_by_name(root: Path) -> Path:
    return draw(root / "Anna Schmidt", 15, name="DSC{:05d}", ends=(".JPG",))


@layout
def folder_per_concept(root: Path) -> Path:
    draw(root / "bluecatx", 8, tags("bluecatx", "cat"))
    draw(root / "redfoxy", 6, tags("redfoxy", "fox"))
    return root


@layout
def folder_per_concept_numbered(root: Path) -> Path:
    draw(root / "10_bluecatx cat", 8, tags("bluecatx", "cat"))
    draw(root / "14_redfoxy fox", 6, tags("redfoxy", "fox"))
    return root


@layout
def folders_of_one_concept(root: Path) -> Path:
    draw(root / "closeups", 8, tags("hmbrgr", "food"))
    draw(root / "from afar", 8, tags("hmbrgr", "food"), first=20)
    return root


@layout
def series_tree(root: Path) -> Path:
    series = root / "Monster Series"
    draw(series / "Arzaros" / "1_armoroutfit", 8, tags("Arzaros", "armoroutfit", "anthro"))
    draw(series / "Arzaros" / "1_casualoutfit", 6, tags("Arzaros", "casualoutfit", "anthro"))
    draw(series / "Belmira" / "1_swimoutfit", 6, tags("Belmira", "swimoutfit", "anthro"))
    return series


@layout
def outfits_by_comma(root: Path) -> Path:
    draw(root / "1_arzarm, armoroutfit", 8, tags("arzarm", "armoroutfit"))
    draw(root / "1_arzarm, casualoutfit", 8, tags("arzarm", "casualoutfit"))
    return root


@layout
def style_from_tags(root: Path) -> Path:
    subjects = ("1girl", "2boys", "lighthouse", "forest", "cat", "mountain", "1boy", "city")
    return draw(root / "set", 16, lambda n: f"{subjects[n % 8]}, {SEEN[n % 10]}, {SEEN[(3 * n + 1) % 10]}, sky")


@layout
def style_with_trigger(root: Path) -> Path:
    subjects = ("1girl", "2boys", "lighthouse", "forest", "cat", "mountain", "1boy", "city")
    return draw(root / "30_nkwsh style", 16, lambda n: f"nkwsh, style, {subjects[n % 8]}, {SEEN[n % 10]}")


@layout
def caption_sentences(root: Path) -> Path:
    return draw(root / "anna", 16, sentences("A photo of ohwxlena woman"), text=".caption", ends=(".jpg",))


@layout
def short_sentences(root: Path) -> Path:
    return draw(root / "dataset", 12, lambda n: f"a photo of zkwdog dog in {PLACES[n % 5]}")


@layout
def metadata_json(root: Path) -> Path:
    folder = draw(root / "train", 12)
    table = {f"img{n:02d}.png": {"tags": tags("lumhouse", "lighthouse")(n)} for n in range(12)}
    (root / "meta_cap.json").write_text(json.dumps(table), encoding="utf-8")
    return folder


@layout
def with_regularization(root: Path) -> Path:
    """As often seen: the class beside the concept."""
    draw(root / "10_zkw woman", 15, tags("zkw", "woman"))
    draw(root / "1_woman", 10)
    draw(root / "regularization", 5, first=30)
    return root


@layout
def with_masks(root: Path) -> Path:
    draw(root / "set", 12, tags("lumgirl", "1girl"))
    (root / "masks").mkdir()
    for file in sorted((root / "set").glob("*.png")):
        with Image.open(file) as image:
            mask = Image.new("L", image.size)
        ImageDraw.Draw(mask).rectangle((9, 9, 60, 60), fill=255)
        mask.save(root / "masks" / file.name)
    return root


@layout
def masks_and_no_captions(root: Path) -> Path:
    with_masks(root)
    for file in (root / "set").glob("*.txt"):
        file.unlink()
    return root


@layout
def made_on_windows(root: Path) -> Path:
    folder = draw(
        root / "Müllers Hund (Kopie)", 15, tags("mllrhnd", "dog"), name="Foto {:02d} \u2013 größer", ends=(".JPG",)
    )
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "desktop.ini").write_text("[.ShellClassInfo]\r\n", encoding="utf-8")
    return folder


@layout
def captions_of_windows(root: Path) -> Path:
    """Extensions in capitals."""
    return draw(root / "vase", 12, tags("vzvase", "vase"), text=".TXT")


@layout
def two_levels_and_mixed_formats(root: Path) -> Path:
    folder = root / "datasets" / "my set" / "img"
    draw(folder, 12, tags("kazelum", "1girl"), ends=(".webp", ".png", ".jpg"))
    draw(folder, 3, tags("kazelum", "1girl"), ends=(".avif",), first=40)
    (folder / "new.jxl").write_bytes(b"\xff\x0a")
    return root / "datasets"


@layout
def separator_captions(root: Path) -> Path:
    return draw(root / "set", 12, lambda n: f"1girl, lumgirl, lumiere ||| {SEEN[n % 10]}, {SEEN[n % 7]} ||| good")


@layout
def several_lines(root: Path) -> Path:
    lines = "lumhouse, lighthouse, {}\nA picture of lumhouse, a tall lighthouse that stands on a cliff by the sea."
    return draw(root / "set", 12, lambda n: lines.format(SEEN[n % 10]))


@layout
def images_and_leftovers(root: Path) -> Path:
    """A dataset with others inside: sorted out, and closer looks."""
    draw(root / "kettle", 14, tags("kttlx", "kettle"))
    draw(root / "kettle" / "unused", 4, tags("kttlx", "kettle"), first=50)
    draw(root / "kettle" / "closeups", 4, tags("kttlx", "kettle"), first=60)
    return root / "kettle"


@layout
def some_captions_missing(root: Path) -> Path:
    folder = draw(root / "10_brg food", 12, tags("brg", "food"))
    (folder / "img03.txt").unlink()
    return root


@layout
def e621_tags(root: Path) -> Path:
    return draw(root / "wolf", 14, tags("lumwolf", "anthro", "canine", "male"))


@layout
def booru_download(root: Path) -> Path:
    """imgbrd: the caption's name has the image's extension."""
    folder = draw(root / "set", 12, tags("1girl", "solo"), name="{:032x}")
    for file in folder.glob("*.txt"):
        file.rename(file.with_name(f"{file.stem}.png.txt"))
    return folder


@layout
def japanese(root: Path) -> Path:
    draw(root / "10_灯台 建物", 12, tags("灯台ルミ", "建物"), name="灯台\uff08{}\uff09スクリーンショット")
    return root


@layout
def names_alone(root: Path) -> Path:
    """No captions, and names that mean something."""
    draw(root / "cat", 6)
    draw(root / "dog", 6, first=20)
    return root


@layout
def artist_in_front(root: Path) -> Path:
    return draw(root / "set", 12, lambda n: f"by nkwash, {('cat', 'city', 'tree')[n % 3]}, {SEEN[n % 10]}")


@layout
def portuguese_sentences(root: Path) -> Path:
    return draw(root / "fotos", 12, lambda n: f"uma foto de zkwmaria em uma praia com {n} pessoas, de vestido azul")


@layout
def named_like_something_else(root: Path) -> Path:
    draw(root / "model", 8, tags("qqx", "1girl"))
    return root


@layout
def deep_inside(root: Path) -> Path:
    draw(root / "train" / "series" / "char" / "img" / "10_xqzz", 8, tags("xqzz", "1girl"))
    return root


@layout
def links(root: Path) -> Path:
    """A link to the folder itself, and another name of a subfolder."""
    draw(root / "10_qqx vase", 8, tags("qqx", "vase"))
    (root / "loop").symlink_to(root)
    (root / "20_again vase").symlink_to(root / "10_qqx vase")
    return root


@layout
def one_image(root: Path) -> Path:
    return draw(root / "x", 1)


@layout
def hostile_names(root: Path) -> Path:
    folder = root / "a \"quoted\"\\ [table] 'name'\t#x"
    return draw(folder, 8, tags("qtx", "vase"), name='i "{}" = 1\\')


@layout
def outfits_in_captions(root: Path) -> Path:
    """A word that the model knows, and a folder for each outfit."""
    for outfit in ("casual", "armor"):
        draw(root / "rem" / outfit, 8, tags("rem", f"rem_{outfit}", "1girl", "blue hair"))
    return root / "rem"


@layout
def views_of_one(root: Path) -> Path:
    for view in ("face", "full body", "2023-07-01"):
        draw(root / "Laura" / view, 5, tags("1girl", "solo", "long hair", "blue eyes"))
    return root / "Laura"


@layout
def on_a_network_drive(root: Path) -> Path:
    """With the folders of systems and programs, and images that were held back."""
    draw(root / "alice", 8, tags("aliceqx", "long hair", "1girl"))
    draw(root / "alice" / "@eaDir" / "img00.png", 1, name="SYNOPHOTO_THUMB_SM")
    for name in ("#recycle", "__MACOSX", "thumbnails", "val"):
        draw(root / name, 2)
    return root


@layout
def cropped_next_to_raw(root: Path) -> Path:
    draw(root / "dog" / "cropped", 8, tags("zkwdog dog"))
    draw(root / "dog" / "raw", 8)
    return root / "dog"


@layout
def a_pose(root: Path) -> Path:
    return draw(root / "hands_on_hips", 12, lambda n: f"hands on hips, {('1girl', '1boy')[n % 2]}, {SEEN[n % 10]}")


@layout
def a_camera(root: Path) -> Path:
    draw(root / "DCIM" / "100APPLE", 12, name="IMG_{:04d}", ends=(".JPG",))
    return root / "DCIM"


@layout
def downloaded(root: Path) -> Path:
    """gallery-dl, Hydrus: one tag per line, in files that have the image's extension, too."""
    folder = draw(
        root / "danbooru" / "wlop", 8, lambda n: tags("creator:wlop", "1girl", "long_hair")(n).replace(", ", "\n")
    )
    for file in folder.glob("*.txt"):
        file.rename(file.with_name(f"{file.stem}.png.txt"))
    return root / "danbooru"


@layout
def tags_in_lines(root: Path) -> Path:
    return draw(root / "export", 8, lambda n: tags("asuka langley", "1girl")(n).replace(", ", "\n"))


@layout
def tags_between_spaces(root: Path) -> Path:
    return draw(root / "set", 8, lambda n: f"1girl long_hair blue_eyes {SEEN[n % 10].replace(' ', '_')}")


@layout
def hugging_face(root: Path) -> Path:
    lines = [{"file_name": f"img{n:02d}.png", "text": sentences("A photo of zkwman man")(n)} for n in range(8)]
    (draw(root / "train", 8) / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return root


@layout
def a_table(root: Path) -> Path:
    rows = [f'images/img{n:02d}.png,"{tags("zkwman", "1boy")(n)}"' for n in range(8)]
    draw(root / "images", 8)
    (root / "captions.csv").write_text("\n".join(["image,caption", *rows]), encoding="utf-8")
    return root


@layout
def json_for_each(root: Path) -> Path:
    """With what a downloader knows of a file; e621's tags are in groups."""
    folder = draw(root / "wolf", 8)
    for n, file in enumerate(sorted(folder.glob("*.png"))):
        entry = {"id": n, "description": "my art!", "tags": {"character": ["zkwwolf"], "general": ["anthro", SEEN[n]]}}
        Path(f"{file}.json").write_text(json.dumps(entry), encoding="utf-8")
    return folder


@layout
def captions_in_a_folder(root: Path) -> Path:
    folder = draw(root / "images", 8, tags("zkwgirl", "1girl"))
    (root / "captions").mkdir()
    for file in folder.glob("*.txt"):
        file.rename(root / "captions" / file.name)
    return root


@layout
def metadata_by_stems(root: Path) -> Path:
    """As sd-scripts' merge_captions_to_metadata.py writes it without --full_path."""
    table = {f"img{n:02d}": {"caption": sentences("A photo of zkwman man")(n), "tags": "1boy"} for n in range(8)}
    draw(root / "train", 8)
    (root / "meta_cap.json").write_text(json.dumps(table), encoding="utf-8")
    return root / "train"


@layout
def generation_parameters(root: Path) -> Path:
    """As a web UI saves them next to its images, with its grids in another folder."""
    end = "Negative prompt: bad hands\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
    draw(root / "txt2img-grids", 2)
    return draw(root / "set", 8, lambda n: f"zkwgirl, ((1girl)), (blue hair:1.2), {SEEN[n]}, <lora:x:0.8>\n{end}")


@layout
def placeholders(root: Path) -> Path:
    """ai-toolkit's, with the images that it makes to guide a generation."""
    folder = draw(root / "jane doe", 8, lambda n: f"[trigger] standing in {PLACES[n % 5]}, wearing a coat number {n}")
    draw(folder / "_controls", 8, name="img{:02d}.depth")
    return folder


@layout
def boxes_of_a_detector(root: Path) -> Path:
    folder = draw(root / "JPEGImages", 8)
    (root / "labels").mkdir()
    for file in folder.glob("*.png"):
        (root / "labels" / f"{file.stem}.txt").write_text("0 0.5 0.5 0.2 0.3\n", encoding="utf-8")
    return folder
