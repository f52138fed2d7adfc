# ruff: noqa: E501
# An answer to a mistake is one line, however long.

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.config.check import check_config
from emloop_mtl.config.create import create_dataset, create_hooks, create_model, create_training
from emloop_mtl.config.load import dump_config, load_config
from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.errors import ConfigError

Write = Callable[..., Path]

CONFIG = """
    dataset: {class: parts.Numbers, size: 4}
    model: {class: parts.Line, width: 3}
    main_loop: {skip_zeroth_epoch: true}
    hooks:
      - parts.Count: {every: 2}
      - parts.Greedy: {extra: 5, name: greedy one}
      - StopAfter: {epochs: 1}
"""


def model_of(write: Write, arguments: str) -> dict[str, Any]:
    """What the model's constructor was given."""
    path = write("dataset: {class: parts.Numbers}\nmodel:\n  class: parts.Line\n" + arguments)
    given: dict[str, Any] = create_training(path).model.given
    return given


def complaint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(LocatedError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_a_training_is_built_and_runs(write: Write) -> None:
    training = create_training(write(CONFIG), "out")
    assert training.output_dir == "out"
    assert Path("out").is_dir()
    assert (training.dataset.size, training.dataset.seed, training.dataset.output_dir) == (4, 0, "out")
    given = training.model.given
    assert given["dataset"] is training.dataset
    assert (given["width"], given["log_dir"], given["restore_from"]) == (3, "out", None)
    hooks: list[Any] = training.hooks
    count, greedy, stop = hooks
    assert (count.every, count.dataset) == (2, training.dataset)
    assert greedy.extra == 5
    assert greedy.others == {"model": training.model, "dataset": training.dataset, "output_dir": "out"}
    assert [hook.name for hook in training.hooks] == ["Count", "greedy one", "StopAfter"]
    assert [hook.config_path for hook in training.hooks] == [
        ("hooks", 0, "parts.Count"),
        ("hooks", 1, "parts.Greedy"),
        ("hooks", 2, "StopAfter"),
    ]
    training.main_loop.run_training()
    assert training.main_loop.position.step == 1
    assert stop.main_loop is training.main_loop


def test_a_missing_seed_is_0_and_written_down(write: Write) -> None:
    path = write(CONFIG)
    training = create_training(path)
    assert training.config.data["seed"] == 0
    assert "seed: 0\n" in dump_config(training.config)
    assert create_training(path, overrides=["seed=5"]).dataset.seed == 5


def test_everything_random_follows_the_seed(write: Write) -> None:
    def draws(seed: int) -> tuple[float, float, float]:
        create_training(write(CONFIG), overrides=[f"seed={seed}"])
        return random.random(), float(np.random.random()), float(torch.rand(()))

    expected = draws(3)
    assert draws(3) == expected
    create_training(write(CONFIG + "      - parts.Draw\n"), overrides=["seed=3"])
    with_a_hook_that_draws = random.random(), float(np.random.random()), float(torch.rand(()))
    assert with_a_hook_that_draws == expected
    assert all(one != other for one, other in zip(draws(3), draws(4), strict=True))


def test_parts_can_be_built_one_by_one(write: Write) -> None:
    config = load_config(write(CONFIG))
    dataset = create_dataset(config, "out")
    model = create_model(config, dataset, Path("out"))
    hooks = create_hooks(config, model, dataset, "out")
    assert model.given["log_dir"] == "out"
    assert [type(hook).__name__ for hook in hooks] == ["Count", "Greedy", "StopAfter"]
    assert all(hook._main_loop is None for hook in hooks)


def test_a_config_may_be_data_or_loaded_or_a_path(write: Write) -> None:
    path = write(CONFIG)
    config = load_config(path)
    assert create_training(config).dataset.size == 4
    assert create_training(config.data).dataset.size == 4
    with pytest.raises(ConfigError, match="overrides need the path of a config file"):
        create_training(config, overrides=["seed=1"])
    expected = "config: dataset.size: expected int, got 'x'"
    assert complaint(create_training, {**config.data, "dataset": {"class": "parts.Numbers", "size": "x"}}) == expected


def test_a_dataset_of_emloop_gets_its_section_as_text(write: Write) -> None:
    path = write(
        "dataset: {class: parts.TextDataset, sizes: [1], deep: {class: no.Thing}}\nmodel: {class: parts.Line}\n"
    )
    text = create_dataset(load_config(path), "out").text
    expected = {"sizes": [1], "deep": {"class": "no.Thing"}, "output_dir": "out"}
    assert read_yaml(text, lambda line, column: "")[0] == expected
    assert "output_dir" not in create_dataset(load_config(path)).text


def test_objects_are_built_recursively(write: Write) -> None:
    given = model_of(
        write, "  layers: {a: {class: parts.Layer, args: [1, 2, 3], bias: false}, b: {class: parts.Layer, width: 4}}\n"
    )
    a, b = given["layers"]["a"], given["layers"]["b"]
    assert (a.width, a.more, a.bias) == (1, (2, 3), False)
    assert (b.width, b.more, b.bias) == (4, (), True)


def test_raw_arguments_stay_data(write: Write) -> None:
    given = model_of(write, "  optimizer: {class: adamw, lr: 0.1}\n")
    assert given["optimizer"] == {"class": "adamw", "lr": 0.1}


def test_an_optimizer_may_be_named_by_any_path(write: Write) -> None:
    (Path(write("")).parent / "own_optimizer.py").write_text("import torch\n\nclass Mine(torch.optim.SGD):\n    pass\n")
    kind = model_of(write, "  optimizer: {class: own_optimizer.Mine, lr: 0.1}\n")["optimizer"]["class"]
    assert kind.__mro__[1].__name__ == "SGD"


def test_items_are_objects_of_the_declared_class(write: Write) -> None:
    parts = model_of(
        write, "  parts:\n    a: {layer: {class: parts.Layer, width: 2}, loss: parts.double}\n    b: {loss: mse}\n"
    )["parts"]
    assert [type(part).__name__ for part in parts.values()] == ["Part", "Part"]
    assert (parts["a"].name, parts["a"].layer.width, parts["a"].loss(4)) == ("a", 2, 8)
    assert (parts["b"].name, parts["b"].loss) == ("b", "mse")
    [part] = model_of(write, "  parts: [{name: c}]\n")["parts"]
    assert part.name == "c"
    other = model_of(write, "  parts: {d: {class: parts.Part, loss: l1}}\n")["parts"]["d"]
    assert (other.name, other.loss) == ("d", "l1")


def test_items_may_come_from_a_function(write: Write) -> None:
    [part] = model_of(write, "  parts: parts.make_parts\n")["parts"]
    assert (part.name, part.loss) == ("of 8", "mse")
    [part] = model_of(write, "  parts: {class: parts.make_parts, loss: l1}\n")["parts"]
    assert (part.name, part.loss) == ("of 8", "l1")


def test_dotted_paths_name_functions_and_text_names_files(write: Write) -> None:
    given = model_of(write, "  activation: torch.nn.functional.relu\n  file: a/b.txt\n")
    assert given["activation"] is torch.nn.functional.relu
    assert given["file"] == Path("a/b.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dataset: {class: parts.Numbers, size: 0}\nmodel: {class: parts.Line}\n", "1:1: dataset: parts.Numbers: size must be positive"),
        ("dataset: {class: parts.Absent}\nmodel: {class: parts.Line}\n", "1:1: dataset: parts.Absent: FileNotFoundError: [Errno 2] No such file or directory: 'absent.csv'"),
        ("dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\nhooks: [parts.Complaining: {every: 2}]\n", "3:29: hooks[0] parts.Complaining.every: must be odd"),
        ("dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\nhooks:\n  - parts.Greedy: {other: 2}\n", "4:20: hooks[0] parts.Greedy: unknown argument 'other'"),
        ("dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\nhooks:\n  - WriteCSV: {output_dir: x}\n", "4:16: hooks[0] WriteCSV: unknown argument 'output_dir'"),
        ("dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\nmain_loop: {buffer: -1}\n", "3:13: main_loop.buffer: -1 is less than 0"),
    ],
)  # fmt: skip
def test_what_a_constructor_refuses_is_one_line_with_its_position(write: Write, text: str, expected: str) -> None:
    assert complaint(create_training, write(text)).startswith(f"config.yaml:{expected}")


COLUMNS = """
import torch

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader


class Rows(MultiTaskDataset):
    def __init__(self, data=None, late=False, **settings):
        super().__init__(**settings)
        self.data = data if data is None or isinstance(data, ColumnDataset) else columns(data)
        self.late = late

    def loaders(self):
        return [TaskLoader(columns([[1, 2], [0]]) if self.late else self.data, batch_size=2)]


def columns(values):
    return ColumnDataset("rows", {"x": values[0]}, {"y": values[1]})
"""


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("late: true", "1:1: dataset"),
        ("data: [[1, 2], [0]]", "1:1: dataset"),
        ("data: {class: ColumnDataset, name: rows, features: {x: [1, 2]}, labels: {y: [0]}}", "3:3: dataset.data"),
    ],
)
def test_columns_of_different_lengths_have_a_place_in_the_config(
    write: Write, folder: Path, setting: str, place: str
) -> None:
    (folder / "columned.py").write_text(COLUMNS)
    path = write(f"dataset:\n  class: columned.Rows\n  {setting}\nmodel: {{class: parts.Line}}\n")
    text = complaint(create_training, path)
    says = "dataset 'rows': 'x' has 2 rows, 'y' has 1; all columns must have the same length"
    assert text == f"{path}:{place}: {says}"


def test_streams_that_a_constructor_does_not_hand_on_are_refused(write: Write) -> None:
    Path("deaf.py").write_text(
        dedent("""
        from emloop_mtl import MultiTaskDataset

        class Deaf(MultiTaskDataset):
            def __init__(self, **kwargs):
                super().__init__()

            def loaders(self):
                raise AssertionError("asked too late")
        """)
    )
    path = write("dataset: {class: deaf.Deaf, streams: {train: {splits: [valid]}}}\nmodel: {class: parts.Line}\n")
    assert complaint(create_training, path).startswith("config.yaml:1:29: dataset.streams: deaf.Deaf does not hand")


def test_the_seed_reaches_a_dataset_whose_constructor_takes_none(write: Write) -> None:
    Path("rows.py").write_text(
        dedent("""
        import torch
        from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

        class Rows(MultiTaskDataset):
            def __init__(self, own=None):
                super().__init__(seed=own)

            def loaders(self):
                columns = ColumnDataset("rows", {"x": torch.arange(50)})
                return [TaskLoader(columns, split="train", batch_size=50)]
        """)
    )

    def order(seed: int, own: str = "null") -> list[int]:
        path = write(f"seed: {seed}\ndataset: {{class: rows.Rows, own: {own}}}\nmodel: {{class: parts.Line}}\n")
        (batch,) = create_dataset(load_config(path)).train_stream()
        rows: list[int] = batch["x"].tolist()
        return rows

    assert order(3) == order(3)
    assert order(3) != order(4)
    assert order(3, own="4") == order(4)


def test_the_cause_is_kept_for_those_who_want_the_traceback(write: Write) -> None:
    path = write("dataset: {class: parts.Numbers, size: 0}\nmodel: {class: parts.Line}\n")
    with pytest.raises(LocatedError) as caught:
        create_training(path)
    assert isinstance(caught.value.__cause__, ConfigError)
    assert type(caught.value.__cause__.__cause__) is ValueError
    assert caught.value.path == ("dataset",)


def test_nothing_is_built_or_written_if_a_later_section_is_wrong(write: Write) -> None:
    path = write(CONFIG + "      - SaveBets\n")
    assert "unknown hook 'SaveBets'" in complaint(create_training, path, "out")
    assert sys.modules["parts"].BUILT == []
    assert not Path("out").exists()


def test_the_folder_of_the_config_is_on_the_path_and_stays(write: Write, folder: Path) -> None:
    path = write("dataset: {class: near.Near}\nmodel: {class: parts.Line}\n", "deep/config.yaml")
    Path("deep/near.py").write_text("from helper import Near\n")
    Path("deep/helper.py").write_text("class Near:\n    def train_stream(self):\n        return []\n")
    Path("parts.py").rename("deep/parts.py")
    create_training(path)
    assert sys.path[0] == str(folder / "deep")


def test_modules_of_one_name_from_two_configs_are_told_apart(write: Write) -> None:
    text = "dataset: {class: mine.Mine}\nmodel: {class: mine.Mine}\n"
    for name in ("one", "two"):
        path = write(text, f"{name}/config.yaml")
        Path(f"{name}/mine.py").write_text(f"class Mine:\n    run = None\n    origin = {name!r}\n")
        assert create_dataset(load_config(path)).origin == name


def test_the_source_folder_replaces_the_folder_of_the_config(write: Write, folder: Path) -> None:
    path = write(CONFIG, "log/run/config.yaml")
    assert create_training(path, source_folder=folder).dataset.size == 4
    assert str(folder / "log" / "run") not in sys.path


def test_a_plan_can_be_made_again_and_again(write: Write) -> None:
    config = load_config(write(CONFIG))
    before = dump_config(config)
    check_config(config)
    create_training(config)
    create_training(config)
    assert dump_config(config) == before
