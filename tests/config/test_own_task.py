import subprocess
import sys
from pathlib import Path

import pytest

from daafl.config.composition import compose
from daafl.config.launching import parts
from daafl.config.own_task import own_task
from daafl.data.partition import Dirichlet, Iid
from daafl.errors import ConfigError

GOOD = """
import numpy as np
from torch import nn

import daafl
from daafl.learning import Examples


class Mine(daafl.Task):
    def __init__(self, width: int = 4):
        if width < 1:
            raise ValueError("width must be positive")
        self.width = width

    def model(self):
        return nn.Linear(self.width, 2)

    def training(self):
        points = np.random.default_rng(0).normal(size=(60, self.width)).astype("float32")
        return Examples(points, (points[:, 0] > 0).astype(int))


class Empty(daafl.Task):
    pass


class Loud(Mine):
    def training(self):
        raise RuntimeError("no disk")


class Few(Mine):
    def training(self):
        return Examples(np.zeros((2, 4), "float32"), np.zeros(2, int))


helper = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "syntax.py").write_text("x = 1\nclass (:\n")
    (tmp_path / "raises.py").write_text("def f():\n    return 1 / 0\n\n\nf()\n")
    (tmp_path / "imports.py").write_text("import daafl_missing_package\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


MISTAKES = [
    ("good.py", "write it as my_task.py:MyTask"),
    (":Mine", "write it as my_task.py:MyTask"),
    ("good.py:", "write it as my_task.py:MyTask"),
    ("nope.py:Mine", "there is no file nope.py"),
    ("no_such_module:Mine", "there is no module no_such_module"),
    ("own_package.nope:Mine", "there is no module own_package.nope"),
    ("good.py:Mne", "there is no class Mne; did you mean Mine?"),
    ("good.py:helper", "helper is not a class that inherits from daafl.Task"),
    ("good.py:Examples", "Examples is not a class that inherits from daafl.Task"),
    ("good.py:Empty", "Empty does not define model()"),
    ("syntax.py:X", "syntax.py, line 2: SyntaxError"),
    ("raises.py:X", "raises.py, line 2, in f: ZeroDivisionError: division by zero"),
    ("imports.py:X", "imports.py, line 1, in <module>: ModuleNotFoundError"),
    ("exits.py:X", "exits.py, line 2, in <module>: SystemExit: 0"),
]


@pytest.mark.parametrize(("path", "sentence"), MISTAKES)
def test_a_task_that_cannot_be_used_is_refused(folder: Path, path: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own_task(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["good.py:Mine", "own_package.tasks:Mine", "./good.py:Mine"])
def test_a_task_is_found_by_file_and_by_module(folder: Path, path: str) -> None:
    task = own_task(path, Dirichlet(0.5), {"width": 3})
    assert task.name == "Mine"
    assert task.partitioner == Dirichlet(0.5)
    assert task.model().in_features == 3


def test_without_a_partitioner_the_task_keeps_its_own(folder: Path) -> None:
    assert own_task("good.py:Mine").partitioner == Iid()


def test_a_constructor_that_takes_a_partitioner_gets_it() -> None:
    task = own_task("daafl.learning.tasks.digits:Digits", Dirichlet(0.7), {"hidden": 8})
    assert task.partitioner == Dirichlet(0.7)


def test_arguments_are_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean width"):
        own_task("good.py:Mine", None, {"widht": 3})
    with pytest.raises(ConfigError, match=r"task\.arguments\.width is 'x', but must be an int"):
        own_task("good.py:Mine", None, {"width": "x"})
    with pytest.raises(ConfigError, match=r"line 12, in __init__: ValueError: width must be posi"):
        own_task("good.py:Mine", None, {"width": 0})


def test_the_command_line_names_it_in_short(folder: Path) -> None:
    task = parts(compose(["task=good.py:Mine", "num_nodes=5", "partition=iid"]))["task"]
    assert len(task.node_data(0, 5)) == 12


def test_data_that_cannot_be_divided_is_refused_before_the_run(folder: Path) -> None:
    with pytest.raises(ConfigError, match="num_nodes=5: 2 examples cannot be divided"):
        parts(compose(["task=good.py:Few", "num_nodes=5"]))


def test_what_the_task_raises_comes_with_its_place(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"good\.py, line 29, in training: RuntimeError: no disk"):
        parts(compose(["task=good.py:Loud", "num_nodes=5"]))


def test_a_file_named_like_a_library_does_not_replace_it(folder: Path) -> None:
    (folder / "random.py").write_text(GOOD)
    own_task("random.py:Mine")
    code = "import random; random.random()"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd="/").returncode == 0
    assert hasattr(sys.modules["random"], "Random")
