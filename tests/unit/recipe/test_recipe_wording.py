"""What people write in a recipe, in the forms of other programs and systems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorabake.planning.compile import compile_plan
from lorabake.recipe.load import LoadedRecipe, load_recipe, with_positions
from lorabake.recipe.paths import find_windows_path
from lorabake.util import resources
from lorabake_schemas.families.known_models import find_known_boards
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal
from lorabake_schemas.recipe import Recipe
from situations import base_facts, folder, pictures_for, plan_of, recipe, situation, spoken, values

START = 'name = "a"\nkind = "object"\n[base]\nmodel = "{model}"\n[[concept]]\ntoken = "a"\nimages = "{images}"\n'


def load(where: Path, text: str = START, home: str | None = None, **keys: str) -> LoadedRecipe:
    filled = {"model": "m.safetensors", "images": "set", **keys}
    for name, value in filled.items():
        text = text.replace(f'"{{{name}}}"', value if value.startswith(("'", '"')) else f'"{value}"')
    return load_recipe(where / "recipe.toml", text.encode(), home=home)


def found(loaded: LoadedRecipe) -> list[tuple[str, str]]:
    return [(finding.rule, finding.key) for finding in loaded.findings]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("640,768", (640, 768)), ("640x768", (640, 768)), ("512", 512), (" 512 X 640 ", (512, 640)), (768, 768)],
)
def test_a_resolution_as_in_other_programs(written: Any, meant: Any) -> None:
    assert recipe(train={"resolution": written}).train.resolution == meant


@pytest.mark.parametrize(("written", "meant"), [("10%", 0.1), ("7 %", 0.07), ("2.5%", 0.025), (100, 100), (0.1, 0.1)])
def test_a_warm_up_in_percent(written: Any, meant: Any) -> None:
    made = recipe(train={"lr_warmup_steps": written})
    assert made.train.lr_warmup_steps == meant
    assert values(plan_of(made).train)["lr_warmup_steps"] == meant


@pytest.mark.parametrize("key", ["resolution", "lr_warmup_steps"])
@pytest.mark.parametrize("written", ["a lot", "10", "100%", "512,512,512", "", "1e3"])
def test_what_is_neither(tmp_path: Path, key: str, written: str) -> None:
    if (key, written) == ("resolution", "10"):
        assert found(load(tmp_path, START + f'[train]\n{key} = "{written}"')) == [("out-of-range", "train.resolution")]
        return
    assert [where for _, where in found(load(tmp_path, START + f'[train]\n{key} = "{written}"'))] == [f"train.{key}"]


def test_home_in_every_path(tmp_path: Path) -> None:
    text = START + (
        '[save]\nruns = "~/runs"\n[network]\nnetwork_weights = "~/a"\n[kohya]\nbase_weights = ["~/b"]\n'
        '[[regularization]]\nclass = "x"\nimages = "~/reg"\n'
    )
    made = load(tmp_path, text, "/home/me/", model="~/m.safetensors", images="~").recipe
    assert made is not None
    assert (made.base.model, made.concept[0].images, made.save.runs) == (
        "/home/me/m.safetensors",
        "/home/me",
        "/home/me/runs",
    )
    assert (made.network.network_weights, made.regularization[0].images) == ("/home/me/a", "/home/me/reg")
    assert made.kohya["base_weights"] == ("/home/me/b",)
    unknown = load(tmp_path, model="~/m.safetensors", images="a~/b").recipe
    assert unknown is not None
    assert (unknown.base.model, unknown.concept[0].images) == ("~/m.safetensors", "a~/b")


@pytest.mark.parametrize("images", [r"'D:\train\img'", "D:/train/img", r"'\\nas\img'", r'"D:\train\new"'])
def test_a_path_of_windows(tmp_path: Path, images: str) -> None:
    assert found(load(tmp_path, images=images)) == [("windows-path", "concept[0].images")]


def test_a_path_with_backslashes_is_named_as_it_is_here(tmp_path: Path) -> None:
    (tmp_path / "train" / "img").mkdir(parents=True)
    loaded = load(tmp_path, images=r"'train\img'")
    assert found(loaded) == [("windows-path", "concept[0].images")]
    assert '"train/img"' in loaded.findings[0].fix
    (tmp_path / r"train\img").mkdir()
    assert load(tmp_path, images=r"'train\img'").findings == ()  # a name on Linux
    assert found(load(tmp_path, images=r"'no\img'")) == []  # missing-file says the rest


def test_a_drive_is_named_as_wsl_mounts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: Path) -> bool:
        return str(path) == "/mnt/d/train/img"

    monkeypatch.setattr("lorabake.recipe.paths.exists", exists)
    assert find_windows_path(r"D:\train\img", tmp_path) == "/mnt/d/train/img"
    assert find_windows_path(r"E:\train\img", tmp_path) is None


PROMPTS_TOML = """[prompt]
negative_prompt = "blurry"
width = 512
[[prompt.subset]]
prompt = "a cat"
seed = 3
[[prompt.subset]]
prompt = "a dog"
"""
PROMPTS_JSON = [{"prompt": "a cat", "sample_steps": 20, "scale": 7.5, "sample_sampler": "euler"}, "a dog --w 512"]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("p.txt", "# mine\na cat --w 512\n\n  a dog  \n", ("a cat --w 512", "a dog")),
        ("p.toml", PROMPTS_TOML, ("a cat --n blurry --w 512 --d 3", "a dog --n blurry --w 512")),
        ("p.json", json.dumps(PROMPTS_JSON), ("a cat --s 20 --l 7.5 --ss euler", "a dog --w 512")),
    ],
)
def test_prompts_from_a_file(tmp_path: Path, name: str, text: str, lines: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)
    made = load(tmp_path, START + f'[sample]\nprompts = "{name}"').recipe
    assert made is not None
    assert made.sample is not None
    assert made.sample.prompts == lines
    plan = plan_of(recipe(sample={"prompts": list(made.sample.prompts)}))
    compiled = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
    assert compiled.prompts.decode().splitlines() == list(lines)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "# nothing\n"), ("p.txt", "\xff"), ("p.md", "a cat"), ("p.toml", "prompt = 1"), ("p.json", "{}"),
        ("p.json", "[1]"), ("p.json", '[{"prmpt": "a"}]'), ("p.json", "[["), ("p.txt", None),
    ],
)  # fmt: skip
def test_a_file_without_prompts(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    loaded = load(tmp_path, START + f'[sample]\nprompts = "{name}"')
    assert found(loaded) == [("wrong-file", "sample.prompts")]
    assert loaded.salvage is not None


def test_a_bad_line_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog --w wide\n")
    loaded = load(tmp_path, START + '[sample]\nprompts = "p.txt"')
    assert found(loaded) == [("out-of-range", "sample.prompts")]
    assert loaded.findings[0].message.startswith("p.txt, prompt 2: --w")


@pytest.mark.parametrize(
    "line",
    ["a --w abc", "a --h",
     "a --d xx", "a --s many", "a --l high", "a --g .", "a --n", "a --ss  ", "a --W x", "a --ctr x",
     "a --d 99999999999999999999", "a --w 99999"],
)  # fmt: skip
def test_flags_that_sd_scripts_passes_over(tmp_path: Path, line: str) -> None:
    assert found(load(tmp_path, START + f'[sample]\nprompts = ["a cat", "{line}"]')) == [
        ("out-of-range", "sample.prompts[1]")
    ]


@pytest.mark.parametrize(
    "line",
    ["a --w 512 --h 768 --d 1 --s 20 --l 7.5 --g 3", "a --n bad, hands --ss euler_a", "a -- b", "a --D 5 --cn x.png"],
)
def test_flags_that_it_reads(tmp_path: Path, line: str) -> None:
    assert found(load(tmp_path, START + f'[sample]\nprompts = ["{line}"]')) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"LoRA_type": "Standard", "train_data_dir": "a"}',
        '{"training_method": "LORA", "concept_file_name": "a"}',
        '{"job": "extension", "config": {}}',
        '{"a": 1}',
        "---\njob: extension\nconfig:\n  name: a\n",
        "[general]\nshuffle_caption = true\n[[datasets]]\nresolution = 512\n",
        'pretrained_model_name_or_path = "a"\nnetwork_dim = 8\n',
        '[model_arguments]\npretrained_model_name_or_path = "a"\n',
        'model_train_type = "sd-lora"\npretrained_model_name_or_path = "a"\n',
        "[[subsets]]\nnum_repeats = 1\n[general_args.args]\nmax_data_loader_n_workers = 1\n",
    ],
)
def test_a_file_of_another_program(tmp_path: Path, text: str) -> None:
    loaded = load_recipe(tmp_path / "recipe.toml", text.encode())
    assert found(loaded) == [("foreign-file", "")]


@pytest.mark.parametrize("text", ["", "nothing = 1", "name = 'a'\n[base]\npretrained_model_name_or_path = 'a'"])
def test_what_is_only_a_faulty_recipe(tmp_path: Path, text: str) -> None:
    assert "foreign-file" not in dict(found(load_recipe(tmp_path / "recipe.toml", text.encode())))


MIXED = "hmbrgr, food, 1boy, canine, male, solo"


def boards(**base: Any) -> list[str]:
    made = recipe(base=base)
    facts = pictures_for(made)
    mixed = type(facts)(tuple(folder(part.images, 30, caption=MIXED) for part in made.concept), ())
    return [f.rule for name in ("GC.27", "G3.6", "G36.1") for f in spoken(name, situation(made, mixed))]


def test_a_model_that_knows_two_boards() -> None:
    assert boards() != []
    assert boards(tags=["danbooru", "e621"]) == []
    assert boards(model="Laxhar/noobai-XL-1.0", family="sdxl") == []
    assert boards(tags="danbooru") == boards(tags=["danbooru"]) != []
    assert find_known_boards("models/noobaiXL_vPred10.safetensors") == ("danbooru", "e621")
    assert find_known_boards("animefull-final-pruned.safetensors") == ()


def test_several_styles_of_tags_count_as_each() -> None:
    one, two = recipe(base={"tags": "danbooru"}), recipe(base={"tags": ["danbooru", "e621"]})
    assert values(plan_of(one).train)["clip_skip"] == values(plan_of(two).train)["clip_skip"] == 2
    assert isinstance(Recipe.model_validate(one.model_dump(by_alias=True)), Recipe)
    assert base_facts("sd15").family == "sd15"


def test_prompts_of_a_file_are_in_the_run_folder(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text('a "cat" --w 512\n# no\na dog\n')
    text = START.format(model="m", images="i") + '[sample]  # now and then\nprompts = "p.txt"  # mine\n'
    made = load_recipe(tmp_path / "recipe.toml", text.encode())
    (tmp_path / "p.txt").unlink()
    again = load_recipe(tmp_path / "recipe.toml", made.content)
    assert (again.recipe, again.findings) == (made.recipe, ())
    assert b"# now and then" in made.content
    assert made.source == text.encode()
    finding = situation_finding()
    assert with_positions([finding], made)[0].line == text.splitlines().index('prompts = "p.txt"  # mine') + 1


def situation_finding() -> Finding:
    where = ("sample", "prompts")
    return Finding(rule="x", severity=Severity.ERROR, where=where, message=literal("a"), fix=literal("b"))


def test_null_in_a_file_of_prompts_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('[{"prompt": "a cat", "negative_prompt": null, "width": 512}]')
    made = load(tmp_path, START + '[sample]\nprompts = "p.json"').recipe
    assert made
    assert made.sample
    assert made.sample.prompts == ("a cat --w 512",)


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("[save]\nprecision = 'fp16'", "use `save_precision`"),
        ("[captions]\ndropout = 0.1", "use `caption_dropout_rate`"),
        ("[train]\nepochs = 10", "use `max_train_epochs`"),
        ("[network]\nepochs = 10", "use `train.max_train_epochs`"),
        ("[train]\ntrain.max_train_epochs = 10", "write only max_train_epochs"),
        ("[network]\ntrain.max_train_epochs = 10", "write max_train_epochs under [train]"),
        ("[train]\nnoise_offset_type = 'Original'", "use `noise_offset`"),
        ("[train]\nd_coef = 2", "use `train.optimizer_args.d_coef`"),
        ("[train]\nbetas = [0.9, 0.99]", "use `train.optimizer_args.betas`"),
        ("[network]\ntype = 'loha'\nbypass_mode = true", "use `network.args.bypass_mode`"),
        ("is_reg = true", "use `[[regularization]]`"),
        ("[train]\nadditional_parameters = '--x'", "write each of these options under [kohya], under its own name"),
    ],
)
def test_what_to_write_for_an_unknown_key(tmp_path: Path, written: str, fix: str) -> None:
    loaded = load(tmp_path, START + written)
    assert [str(each.fix) for each in loaded.findings if each.rule == "unknown-key"] == [fix]


def test_an_argument_that_this_network_does_not_have(tmp_path: Path) -> None:
    loaded = load(tmp_path, START + "[network]\nbypass_mode = true")
    (finding,) = loaded.findings
    assert "locon" in str(finding.fix)
    assert "network.args" not in str(finding.fix)


def test_prompts_end_where_they_do_for_sd_scripts(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\u2028cat\r\na\u0085dog\n\n", encoding="utf-8", newline="")
    made = load(tmp_path, START + '[sample]\nprompts = "p.txt"').recipe
    assert made
    assert made.sample
    assert made.sample.prompts == ("a\u2028cat", "a\u0085dog")
