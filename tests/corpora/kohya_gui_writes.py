#!/usr/bin/env python3
"""Has the kohya_ss GUI write the TOML of saved presets: runs in the GUI's own Python, and imports nothing of lorabake.

kohya_gui_writes.py CHECKOUT PRESETS WRITTEN

CHECKOUT is a clone of bmaltais/kohya_ss, whose Python needs gradio, toml, psutil, rich, safetensors and packaging as in
its requirements.txt. Each preset is loaded and printed ("Print training command") as the buttons of the LoRA tab do it,
in a page with fresh values, and each value goes through its widget as in a browser. For PRESETS/NAME.json writes
WRITTEN/NAME.toml, and NAME.words with the script and the words that follow it; NAME.error if the GUI refuses it. What
only a widget refuses (a rank above its maximum) is passed on as it is, and listed in NAME.widgets.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def find_window(_: str) -> Callable[..., bool]:
    """Any function of easygui."""

    def agree(*_: object, **__: object) -> bool:
        return True

    return agree


def prepare(checkout: Path) -> None:
    """What the GUI expects of its machine: its folder, an accelerate on the path, windows that nobody sees."""
    os.chdir(checkout)
    sys.path.insert(0, str(checkout))
    tools = Path(tempfile.mkdtemp())
    (tools / "accelerate").write_text("#!/bin/sh\n")
    (tools / "accelerate").chmod(0o755)
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    windows: Any = types.ModuleType("easygui")
    windows.__getattr__ = find_window
    sys.modules["easygui"] = windows


class Page:
    """The LoRA tab with what a fresh page shows."""

    def __init__(self) -> None:
        blocks: Any = import_module("gradio").Blocks
        lora_gui: Any = import_module("kohya_gui.lora_gui")
        config: Any = import_module("kohya_gui.class_gui_config").KohyaSSGUIConfig
        with blocks():
            lora_gui.lora_tab(headless=True, config=config())
        self.gui = lora_gui
        self.entries = lora_gui.last_built_gui_entries
        self.fields = dict(lora_gui.last_built_field_registry)
        self.commands: list[list[str]] = []
        self.refused: dict[str, str] = {}
        lora_gui.print_command_and_toml = self.take_command

    def take_command(self, command: list[str], toml: str) -> None:
        self.commands.append([*command, toml])

    def press_print(self, preset: Path) -> list[str] | None:
        """The command line, with the name of the TOML at its end; None if the GUI refuses."""
        parts = self.entries["components"]
        data = {widget: show_fresh(widget) for widget in self.fields.values()}
        data |= {parts["dummy_headless"]: True, parts["dummy_db_false"]: False, parts["dummy_db_true"]: True,
                 parts["training_preset"]: "none", parts["config_file_name"]: str(preset)}  # fmt: skip
        self.commands.clear()
        self.refused.clear()
        loaded = self.entries["load_configuration"](data)
        for name, component in self.fields.items():
            data[component] = self.pass_through(name, component, loaded[component])
        self.entries["print_command"](data)
        return self.commands[0] if self.commands else None

    def pass_through(self, name: str, widget: Any, value: Any) -> Any:
        """The value as the page shows it and sends it back."""
        try:
            shown = widget.postprocess(value)
            return widget.preprocess(getattr(shown, "root", shown))
        except Exception as error:  # noqa: BLE001 - gradio's own
            self.refused[name] = f"{value!r}: {error}"
            return value


def show_fresh(widget: Any) -> Any:
    """What a widget has before anybody types: a browser sends "" for an empty line of text."""
    return "" if widget.value is None and type(widget).__name__ == "Textbox" else widget.value


def main(checkout: Path, presets: Path, written: Path) -> None:
    presets, written = presets.absolute(), written.absolute()
    prepare(checkout.absolute())
    page = Page()
    said: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    page.gui.log.addHandler(listener)
    for preset in sorted(presets.glob("*.json")):
        said.clear()
        try:
            command = page.press_print(preset)
        except Exception as error:  # noqa: BLE001 - whatever stops the GUI
            said.append(f"{type(error).__name__}: {error}")
            command = None
        made = {"widgets": json.dumps(page.refused)}
        if command is None:
            made["error"] = "\n".join(said)
        else:
            toml, at = command.pop(), next(place for place, word in enumerate(command) if word.endswith(".py"))
            made |= {"toml": Path(toml).read_text("utf-8"), "words": json.dumps(command[at:])}
        for kind, text in made.items():
            (written / f"{preset.stem}.{kind}").write_text(text, "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
