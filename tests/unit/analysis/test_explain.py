"""Asking the book: what is found for a topic."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lorabake.analysis import explain
from lorabake.errors import UnknownNameError
from lorabake_schemas.guide.book import load_book
from lorabake_schemas.guide.rules.extra_options import RESERVED_OPTIONS
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import list_recipe_keys
from situations import concept, dataset, folder, plan_of, recipe


def ids(topic: str) -> list[str]:
    return [entry.id for entry in explain.explain(topic).entries]


@pytest.mark.parametrize(
    ("topic", "found"),
    [
        ("G4.90", "G4.90"),
        ("g4.90", "G4.90"),
        (" gc.12 ", "GC.12"),
        ("s35", "S35"),
        ("S5.needs", "S5"),
        ("g3.3.TOKENS", "G3.3"),
        ("GL.1", "GL.1"),
    ],
)
def test_an_id_finds_its_entry_alone(topic: str, found: str) -> None:
    assert ids(topic) == [found]


def test_every_id_finds_itself() -> None:
    assert [ids(entry.id) for entry in load_book()] == [[entry.id] for entry in load_book()]


@pytest.mark.parametrize(
    ("topic", "among"),
    [
        ("learning_rate", {"G4.52", "GC.23", "S26"}),
        ("train.resolution", {"G2.7", "G4.59", "S6"}),
        ("keep_tokens", {"G4.90", "G6.17"}),
        ("rank", {"G4.70", "G4.76"}),
        ("network.network_dim", {"G4.70", "G4.76"}),
        ("v_parameterization", {"G4.11"}),
        ("base.v_prediction", {"G4.11"}),
        ("train.attention", {"G4.96"}),
        ("Images", {"G1.2", "G35.7"}),
        ("Prodigy", {"G4.46", "G4.50", "G4.52", "S27"}),
        ("prodigy", {"G4.46"}),
        ("DAdaptLion", {"G4.49", "G4.52"}),
        ("PagedAdamW8bit", {"G4.51", "GC.12"}),
        ("PagedAdamW", {"G4.51"}),
        ("Lion", {"G4.45"}),
        ("LoCon", {"G4.21", "G7.14", "S35"}),
        ("dora", {"G4.22", "GC.29"}),
        ("diag-oft", {"G7.28", "S33"}),
        ("style", {"G8.1", "G8.5"}),
        ("webp", {"G2.3"}),
        ("clip skip", {"G4.91"}),
        ("trigger", {"G3.10"}),
        ("trigger word", {"G3.10"}),
        ("cosine", {"G4.42", "G4.43"}),
        ("Keep n tokens", {"G4.90", "G6.17"}),
        ("LR Scheduler", {"G4.42"}),
        ("Network Rank (Dimension)", {"G4.70", "G4.76"}),
        ("train batch size", {"G4.24"}),
        ("LR WARMUP (% of total steps)", {"G4.54"}),
        ("Manter n tokens", {"G4.90"}),
        ("epoca maxima de treino", {"G4.32"}),
        ("Taxa de Aprendizado", {"G4.52"}),
        ("Verificação de ponto de gradiente", {"G4.92"}),
        ("blip", {"G3.2"}),
        ("object", {"G1.17"}),
        ("sd15", {"G4.10"}),
        ("sd2", {"G4.10"}),
    ],
)
def test_a_topic_finds_what_concerns_it(topic: str, among: set[str]) -> None:
    assert among <= set(ids(topic))


def test_a_recipe_key_does_not_find_its_namesakes() -> None:
    assert "G35.7" not in ids("concept.images")
    assert "G1.2" not in ids("regularization.images")
    assert {"G1.2", "G35.7"} <= set(ids("images"))
    assert set(ids("AdamW")).isdisjoint({"G4.52", "G4.46"})


def test_what_is_found_keeps_the_order_of_the_book() -> None:
    order = [entry.id for entry in load_book()]
    for topic in ("learning_rate", "Prodigy", "locon", "images"):
        places = [order.index(identity) for identity in ids(topic)]
        assert len(places) > 3
        assert places == sorted(places)


def test_every_topic_that_is_offered_finds_something() -> None:
    assert len(explain.list_topics()) >= 590
    for topic, name in explain.list_topics().items():
        found = explain.explain(topic)
        assert found.entries or found.keys or found.code, name


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("learnin_rate", "did you mean learning_rate"),
        ("Prodgy", "did you mean Prodigy?"),
        ("G4.900", "did you mean G4.9"),
        ("G3.6.x", "did you mean G3.6"),
        ("S12.steam", "did you mean S12.stem"),
        ("sd-concept-xl", "`lorabake explain --all` shows every entry"),
        ("bla", "`lorabake explain --all` shows every entry"),  # in "may stay blank"
        ("qqqqqqqq", "`lorabake explain --all` shows every entry"),
        ("", "`lorabake explain --all` shows every entry"),
        ("a of", "`lorabake explain --all` shows every entry"),
    ],
)
def test_an_unknown_topic_names_the_nearest(topic: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        explain.explain(topic)
    assert caught.value.exit_code == 2
    assert topic in caught.value.message
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize("topic", ["flux", "SD3", "sd3.5"])
def test_what_is_not_trained_is_told_as_such(topic: str) -> None:
    with pytest.raises(UnknownNameError, match="not supported yet"):
        explain.explain(topic)


@pytest.mark.parametrize(
    ("topic", "axis", "name"),
    [
        ("learning_rate", "option", "learning_rate"),
        ("train.resolution", "option", "resolution"),
        ("rank", "option", "network_dim"),
        ("train.optimizer", "option", "optimizer_type"),
        ("train.train_batch_size", "option", "batch_size"),
        ("batch_size", "option", "batch_size"),
        ("concept.images", "option", "image_dir"),
        ("prodigy", "optimizer", "Prodigy"),
        ("Adafactor", "optimizer", "Adafactor"),
        ("LoKr", "network", "lokr"),
        ("style", "kind", "style"),
        ("SDXL", "family", "sdxl"),
    ],
)
def test_what_a_topic_is(topic: str, axis: str, name: str) -> None:
    found = explain.explain(topic)
    assert (found.axis, found.name) == (axis, name)
    assert bool(found.defaults) is (topic != "concept.images")


@pytest.mark.parametrize("topic", ["G4.90", "s35", "bucket_no_upscale ignores limits"])
def test_an_id_and_words_of_a_title_have_no_values(topic: str) -> None:
    found = explain.explain(topic)
    assert found.entries
    assert not found.axis
    assert not found.defaults


@pytest.mark.parametrize(
    ("topic", "keys", "option"),
    [
        ("save_state", ["save.save_state"], "save_state"),
        ("Save training state", ["save.save_state"], "save_state"),
        ("rank", ["network.network_dim"], "network_dim"),
        ("optimizer_type", ["train.optimizer"], "optimizer_type"),
        (
            "shuffle_caption",
            ["concept.shuffle_caption", "regularization.shuffle_caption", "captions.shuffle_caption"],
            "shuffle_caption",
        ),
        ("concept.class", ["concept.class"], "class_tokens"),
        ("huber_c", ["kohya.huber_c"], "huber_c"),
        ("IP noise gamma", ["kohya.ip_noise_gamma"], "ip_noise_gamma"),
        ("metadata_author", ["metadata.author"], "metadata_author"),
        ("sample_sampler", ["sample.sample_sampler"], "sample_sampler"),
    ],
)
def test_a_setting_by_any_name_leads_to_its_key(topic: str, keys: list[str], option: str) -> None:
    found = explain.explain(topic)
    assert [key.key for key in found.keys] == keys
    assert (found.axis, found.name) == ("option", option)


def test_every_key_of_a_recipe_is_a_topic() -> None:
    for name, key in list_recipe_keys().items():
        assert name in [each.key for each in explain.explain(name).keys] or name in ("ignore", "concept")
        assert explain.is_topic(key.name.rpartition(".")[2])
    assert explain.explain("sample_sampler").keys[0].choices[:2] == ("ddim", "pndm")


def planned(topic: str, recipe: Recipe) -> list[tuple[str, object, str, str]]:
    plan = plan_of(recipe, dataset(*(folder(each.images, 10) for each in recipe.concept)))
    found = explain.explain(topic, plan).planned
    return [(each.option, each.value, each.source.origin.value, each.where) for each in found]


def test_the_values_of_a_recipe() -> None:
    two = [concept("one", "a", keep_tokens=5), concept("two", "b")]
    made = recipe(concepts=two, train={"optimizer": "AdamW8bit"}, network={"type": "locon", "conv_dim": 8})
    titles = [subset.title for subset in plan_of(made, dataset(folder("a", 10), folder("b", 10))).subsets]
    assert planned("keep_tokens", made) == [
        ("keep_tokens", 5, "recipe", titles[0]),
        ("keep_tokens", 2, "guide", titles[1]),
    ]
    assert planned("G4.90", made) == planned("keep_tokens", made)
    assert planned("shuffle_caption", made) == [("shuffle_caption", True, "guide", "")]
    assert planned("train.optimizer", made) == [("optimizer_type", "AdamW8bit", "recipe", "")]
    assert [(option, value) for option, value, _, _ in planned("conv_dim", made)] == [("conv_dim", "8")]
    assert {"learning_rate", "unet_lr", "lr_scheduler"} <= {option for option, *_ in planned("AdamW8bit", made)}
    assert planned("S12", made) == [("caption_extension", ".txt", "guide", "")]
    assert explain.explain("keep_tokens").planned == ()


def test_the_rules_that_carry_an_entry_out() -> None:
    by_id = {entry.id: entry for entry in load_book()}
    assert {rule.id for rule in explain.list_entry_rules(by_id["G4.90"])} >= {"G4.90"}
    assert all(rule.id.startswith("S5.") or rule.id == "S5" for rule in explain.list_entry_rules(by_id["S5"]))
    assert len(explain.list_entry_rules(by_id["S5"])) >= 2
    assert explain.list_entry_rules(by_id["G4.1"]) == ()


def test_counts_add_up_to_the_whole_book() -> None:
    table = explain.count_statuses()
    assert sum(sum(row.values()) for row in table.values()) == len(load_book())
    assert sum(table["G4"].values()) == 103
    assert sum(table["S"].values()) == len(load_book()) - 311


def test_an_import_builds_no_validator() -> None:
    """A table or a plan that is a default is made with model_construct: the first validator costs 20 ms of CPU."""
    code = (
        "import lorabake.commands.output.explain\n"
        "from lorabake_schemas.base import StrictModel\n"
        "def models(of):\n    return [of, *(each for sub in of.__subclasses__() for each in models(sub))]\n"
        "print([each.__name__ for each in models(StrictModel)[1:] if each.__pydantic_complete__])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("option", sorted(RESERVED_OPTIONS))
def test_an_option_that_is_not_allowed_is_never_said_to_go_under_kohya(option: str) -> None:
    try:
        found = explain.explain(f"kohya.{option}")
    except UnknownNameError:
        return  # not an option of the LoRA scripts at the pin
    (key,) = found.keys
    assert "is not allowed under [kohya]" in str(key.description)


@pytest.mark.parametrize("topic", ["loraplus_lr_ratio", "network.args.loraplus_lr_ratio", "LoRA+", "loraplus"])
def test_an_argument_of_networks_is_a_topic(topic: str) -> None:
    (key,) = explain.explain(topic).keys
    assert key.key == "network.args.loraplus_lr_ratio"
    assert {"lora", "lokr"} <= set(str(key.description).replace(";", ",").split(", ")) | {"lora"}


def test_an_argument_of_some_networks_names_them() -> None:
    (key,) = explain.explain("decompose_both").keys
    assert "lokr" in str(key.description)
    assert "loha" not in str(key.description)
