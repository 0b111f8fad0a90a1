"""Runs in the trainer's Python, from the checkout: what sd-scripts does with some options, on the CPU without a model.

    python act_with_sd_scripts.py CASES.json ANSWER.json

A case names a part of sd-scripts (PARTS) and two sets of options. The answer says for each case what the part made of
either: two equal texts mean that the options do not differ in their effect.
"""

from __future__ import annotations

import json
import random
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

STEPS = 40
# Without these the scheduler stops, or never decays.
NEEDED_BY_SCHEDULER: dict[str, dict[str, Any]] = {
    "cosine_with_min_lr": {"lr_scheduler_min_lr_ratio": 0.1},
    "warmup_stable_decay": {"lr_decay_steps": STEPS // 2},
}
CAPTION = "hero, armor ||| one, two, three, four, five"


class SdScripts:
    """Its modules, and the parser's defaults with some options set."""

    def __init__(self, images: str) -> None:
        self.images = images
        self.torch: Any = import_module("torch")
        self.util: Any = import_module("library.train_util")
        self.config: Any = import_module("library.config_util")
        self.network: Any = import_module("train_network")

    def args(self, options: dict[str, Any]) -> Any:
        args = self.network.setup_parser().parse_args([])
        args.max_train_steps, args.max_train_epochs = STEPS, None
        for name, value in options.items():
            setattr(args, name, value)
        self.util.prepare_dataset_args(args, True)
        self.torch.manual_seed(1)
        random.seed(1)
        return args

    def noise(self, options: dict[str, Any]) -> Any:
        args = self.args(options)
        scheduler = self.network.NetworkTrainer().get_noise_scheduler(args, "cpu")
        latents = self.torch.rand(2, 4, 16, 16)
        made = self.util.get_noise_noisy_latents_and_timesteps(args, scheduler, latents)
        return [part.flatten().tolist() for part in made]

    def loss(self, options: dict[str, Any]) -> Any:
        args = self.args(options)
        scheduler = self.network.NetworkTrainer().get_noise_scheduler(args, "cpu")
        steps, wanted, target = self.torch.tensor([10, 700]), self.torch.rand(2, 4, 8, 8), self.torch.rand(2, 4, 8, 8)
        limit = self.util.get_huber_threshold_if_needed(args, steps, scheduler)
        return self.util.conditional_loss(wanted, target, args.loss_type, "none", limit).flatten().tolist()

    def schedule(self, options: dict[str, Any]) -> Any:
        """The rate of each step, and the rates that sd-scripts says it has."""
        needed = NEEDED_BY_SCHEDULER.get(str(options.get("lr_scheduler")), {})
        args = self.args({"optimizer_type": "AdamW", "learning_rate": 1e-3} | needed | options)
        weight = self.torch.nn.Parameter(self.torch.ones(2, 2))
        rate = args.unet_lr if args.unet_lr is not None else args.learning_rate
        _, _, optimizer = self.util.get_optimizer(args, [{"params": [weight], "lr": rate}])
        scheduler = self.util.get_scheduler_fix(args, optimizer, 1)
        found = list[Any]()
        for _ in range(STEPS):
            weight.grad = self.torch.ones(2, 2)
            optimizer.step()
            scheduler.step()
            found.append([weight.detach().flatten().tolist(), optimizer.param_groups[0].get("lr")])
        return found

    def _blueprint(self, args: Any, dataset: dict[str, Any]) -> Any:
        sanitizer = self.config.ConfigSanitizer(True, True, args.masked_loss, True)
        subset = {"image_dir": self.images, "num_repeats": 2, "caption_extension": ".txt"}
        user = {"datasets": [{"resolution": 256} | dataset | {"subsets": [subset]}]}
        return self.config.BlueprintGenerator(sanitizer).generate(user, args)

    def captions(self, options: dict[str, Any]) -> Any:
        args, found = self.args(options), list[Any]()
        group, _ = self.config.generate_dataset_group_by_blueprint(self._blueprint(args, {}).dataset_group)
        group.set_max_train_steps(STEPS)
        (dataset,) = group.datasets
        for step in range(STEPS):
            dataset.set_current_step(step)
            random.seed(step)
            found.append(dataset.process_caption(dataset.subsets[0], CAPTION))
        return found

    def buckets(self, options: dict[str, Any]) -> Any:
        args = self.args(options)
        group, _ = self.config.generate_dataset_group_by_blueprint(self._blueprint(args, {}).dataset_group)
        return [
            [info.bucket_reso, info.resized_size, info.num_repeats]
            for dataset in group.datasets
            for info in dataset.image_data.values()
        ]

    def starts(self, options: dict[str, Any]) -> Any:
        """Whether sd-scripts' own check lets it start."""
        try:
            self.util.verify_training_args(self.args(options))
        except ValueError:
            return "stops"
        return "starts"


def main() -> None:
    cases, answer, images = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    known = SdScripts(images)
    told = [
        [repr(getattr(known, case["part"])(options)) for options in (case["without"], case["given"])]
        for case in json.loads(Path(cases).read_text(encoding="utf-8"))
    ]
    Path(answer).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
