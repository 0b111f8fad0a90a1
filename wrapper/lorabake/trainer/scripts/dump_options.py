"""Writes what the sd-scripts in the current folder understands, as JSON, into the given folder.

    cd SD-SCRIPTS && TRAINER-PYTHON dump_options.py FOLDER SCRIPT...

options-train_network.json has one entry for each option of the parser of train_network.py, and so on;
options-dataset.json has the keys of the dataset file, level by level. Help texts are sd-scripts' own and are left out.
Where scripts lack something that they import, failed.json has the exception of each instead, and the exit code is 1.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

# One value of each shape that TOML has and sd-scripts looks for; voluptuous shows which it accepts.
SAMPLES = {
    "bool": True,
    "int": 1,
    "float": 0.5,
    "str": "x",
    "table": {},
    "int-pair": [1, 1],
    "float-pair": [0.5, 0.5],
}


def type_name(kind):
    return None if kind is None else getattr(kind, "__name__", str(kind))


def plain(value):
    """A default as JSON can represent it."""
    return value if value is None or isinstance(value, (bool, int, float, str, list)) else str(value)


def option(action):
    return {
        "name": action.dest,
        "type": type_name(action.type),
        "default": plain(action.default),
        "choices": None if action.choices is None else [plain(choice) for choice in action.choices],
        "nargs": action.nargs,
        "action": type(action).__name__.lstrip("_"),
    }


def options(script):
    parser = importlib.import_module(script).setup_parser()
    return [option(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)]


def accepts(validator):
    """Names of the samples a validator takes. voluptuous lets a bool pass as an int; that is not meant."""
    import voluptuous

    taken = []
    for name, sample in SAMPLES.items():
        try:
            voluptuous.Schema(validator)(sample)
        except voluptuous.Invalid:
            continue
        taken.append(name)
    return [name for name in taken if name != "bool" or "int" not in taken]


def level(schema):
    import voluptuous

    return [
        {"name": str(key), "accepts": accepts(validator), "required": isinstance(key, voluptuous.Required)}
        for key, validator in schema.items()
        if str(key) != "subsets"
    ]


def dataset():
    """The levels as train_network.py asks for them: subsets with caption files (DreamBooth), with masks (ControlNet)
    and with a metadata file (fine-tuning). An old commit may not have the second kind."""
    from library.config_util import ConfigSanitizer

    sanitizer = ConfigSanitizer(True, True, False, True)  # as in train_network.py, without masked loss
    return {
        "general": level(sanitizer.general_schema),
        "datasets": level(sanitizer.db_dataset_schema),
        "subsets": level(sanitizer.db_subset_schema),
        "masked_subsets": level(getattr(sanitizer, "cn_subset_schema", {})),
        "metadata_subsets": level(sanitizer.ft_subset_schema),
    }


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


def main():
    folder = Path(sys.argv[1])
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(Path.cwd()))
    failed = {}
    for script in sys.argv[2:]:
        name = script.removesuffix(".py")
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed[script] = f"{type(error).__name__}: {error}"
            write(folder, "failed.json", failed)
            continue
        write(folder, f"options-{name}.json", options(name))
    if failed:
        sys.exit("\n".join(failed.values()))
    write(folder, "options-dataset.json", dataset())


if __name__ == "__main__":
    main()
