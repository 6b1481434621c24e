import sys
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_module

from daafl.config.composition import compose
from daafl.config.overrides import expanded, swept_keys
from daafl.errors import ConfigError

# What a user writes, and what the sentence must name: the key and value, the rule or nearest name.
MISTAKES = [
    (["strategey=fedavg"], "strategey=fedavg is not known", "did you mean strategy?"),
    (["tsak=digits"], "tsak=digits is not known", "did you mean task?"),
    (["num_round=3"], "num_round=3 is not known", "did you mean num_rounds?"),
    (["task=digit"], "task=digit is not known", "did you mean digits?"),
    (["task=cifar"], "task=cifar is not known", "choose among breast_cancer"),
    (["experiment=qickstart"], "experiment=qickstart is not known", "did you mean quickstart?"),
    (["loop/learning_rat=off"], "no group loop/learning_rat", "did you mean loop/learning_rate?"),
    (["loop/health=on"], "loop/health=on is not known", "choose among default, off"),
    (
        ["loop=off"],
        "loop=off is not known",
        "choose loop/health=... or loop/learning_rate=... or loop/quality=...",
    ),
    (["strategy=null"], "strategy=null is not known", "choose among bucketing"),
    (["strategy="], "strategy= is not known", "choose among bucketing"),
    (["strategy=fedadam", "strategy.eeta=1"], "strategy has no eeta", "did you mean eta?"),
    (["strategy.etta=1"], "strategy.etta=1 is not known", "it takes none"),
    (["loop.learning_rate.kapa=1"], "loop.learning_rate has no kapa", "did you mean kappa?"),
    (
        ["loop/learning_rate=off", "loop.learning_rate.kappa=1"],
        "loop.learning_rate.kappa=1 is not known",
        "loop.learning_rate is off, so it has no kappa",
    ),
    (["seed.x=1"], "seed.x=1 is not known", "seed is a single value"),
    (["+foo=1"], "foo is not known", "choose among attack"),
    (["+sed=1"], "sed is not known", "did you mean seed?"),
    (["~num_rounds"], "num_rounds has no value", "every run needs one"),
    (["~sed"], "~sed is not known", "did you mean seed?"),
    (["num_rounds=ten"], "num_rounds is 'ten'", "must be an integer"),
    (["num_rounds=1.5"], "num_rounds is 1.5", "must be an integer"),
    (["num_rounds="], "num_rounds is ''", "must be an integer"),
    (["num_rounds=-1"], "num_rounds is -1", "must be 1 or more"),
    (["num_nodes=0"], "num_nodes is 0", "must be 1 or more"),
    (["evaluate_every=-1"], "evaluate_every is -1", "must be 0 or more"),
    (["seed=-1"], "seed is -1", "must be within [0, 4294967295]"),
    (["workers=-2"], "workers is -2", "must be null, 0 or more"),
    (["workers=many"], "workers is 'many'", "must be an integer or null"),
    (["baseline=1"], "baseline is 1", "must be true or false"),
    (["knowledge=3"], "knowledge is 3", "must be a text"),
    (["overrides=3"], "overrides is 3", "must be a list of mappings"),
    (["output_dir="], "output_dir is empty", "must be a path"),
    (["seed"], "'seed' is not an override", "write key=value"),
    (["=3"], "'=3' is not an override", "write key=value"),
    (["--jsn"], "'--jsn' is not an override", "write key=value"),
    (["seed=[1"], "'seed=[1' cannot be read", "quote a value with special characters"),
    (["seed=0,1"], "seed=0,1 names several values", "add --multirun"),
    (["hydra.run.dir=x"], "hydra.run.dir=x is not used here", "output_dir=PATH"),
    (["task=custom"], "task.path has no value", "write task.path=VALUE"),
    (["seed=${nope}"], "nope", "not found"),
    (["seed=${oc.env:DAAFL_UNSET}"], "DAAFL_UNSET", "not found"),
]


@pytest.mark.parametrize(("overrides", "what", "rule"), MISTAKES, ids=lambda value: str(value))
def test_a_mistake_becomes_one_sentence(overrides: list[str], what: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    sentence = str(caught.value)
    assert what in sentence
    assert rule in sentence
    assert "\n" not in sentence


def test_values_are_resolved_and_plain() -> None:
    composition = compose(["seed=7", "num_nodes=12"])
    assert composition.config["partition"]["seed"] == 7
    assert composition.config["fleet"]["num_nodes"] == 12
    assert composition.config["task"]["partitioner"] == composition.config["partition"]
    assert type(composition.config["partition"]) is dict


def test_the_unresolved_configuration_keeps_interpolations() -> None:
    assert compose().unresolved["partition"]["seed"] == "${seed}"


def test_an_override_wins_over_an_experiment() -> None:
    assert compose(["experiment=quickstart"]).config["num_rounds"] == 60
    assert compose(["experiment=quickstart", "num_rounds=3"]).config["num_rounds"] == 3


def test_the_run_is_named_after_the_experiment_or_else_the_task() -> None:
    assert compose(["experiment=quickstart"]).name == "quickstart"
    assert compose(["task=wine"]).name == "wine"


def test_a_task_of_ones_own_is_short_for_the_custom_option() -> None:
    composition = compose(["task=my_task.py:MyTask"])
    assert composition.choices["task"] == "custom"
    assert composition.config["task"]["path"] == "my_task.py:MyTask"
    assert composition.name == "MyTask"


def test_a_key_can_be_deleted_with_its_group() -> None:
    assert "strategy" not in compose(["~strategy"]).config


def test_a_users_own_folder_adds_options_and_wins(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nnum_rounds: 4\n")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "slow.yaml").write_text(
        "_target_: daafl.strategies.LocalTraining\nlr: 0.001\n"
    )
    composition = compose(["experiment=mine", "training=slow"], folder=tmp_path)
    assert composition.config["num_rounds"] == 4
    assert composition.config["training"]["lr"] == 0.001
    with pytest.raises(ConfigError, match="did you mean mine"):
        compose(["experiment=mien"], folder=tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration folder"):
        compose(folder=tmp_path / "nope")


def test_it_works_inside_another_program_that_uses_hydra() -> None:
    with initialize_config_module("daafl.conf", version_base="1.3"):
        assert compose(["seed=3"]).config["seed"] == 3
        assert hydra_compose("config", ["seed=4"]).seed == 4


def test_secrets_are_neither_shown_nor_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAAFL_TEST_SECRET", "hunter2")
    composition = compose(
        [
            "task=my_task.py:MyTask",
            "+task.arguments.url=${oc.env:DAAFL_TEST_SECRET}",
            "+task.arguments.copy=${task.arguments.url}",
            "+task.arguments.api_key=abc",
            "+task.arguments.token=${oc.env:DAAFL_TEST_SECRET}",
            "+task.arguments.use_token=true",
            "+task.arguments.num_tokens=5",
        ]
    )
    assert composition.config["task"]["arguments"]["copy"] == "hunter2"
    assert composition.shown["task"]["arguments"] == {
        "url": "${oc.env:DAAFL_TEST_SECRET}",
        "copy": "${oc.env:DAAFL_TEST_SECRET}",
        "api_key": "***",
        "token": "${oc.env:DAAFL_TEST_SECRET}",
        "use_token": True,
        "num_tokens": 5,
    }
    for shown in (composition.shown, composition.unresolved):
        assert "hunter2" not in str(shown)
        assert "abc" not in str(shown)


def test_a_sweep_multiplies_and_the_last_key_varies_fastest() -> None:
    overrides = ["seed=0,1", "num_rounds=5", "strategy=fedavg,fedadam"]
    assert expanded(overrides) == [
        ("seed=0", "num_rounds=5", "strategy=fedavg"),
        ("seed=0", "num_rounds=5", "strategy=fedadam"),
        ("seed=1", "num_rounds=5", "strategy=fedavg"),
        ("seed=1", "num_rounds=5", "strategy=fedadam"),
    ]
    assert swept_keys(overrides) == ["seed", "strategy"]


def test_a_sweep_takes_ranges_and_tasks_of_ones_own() -> None:
    assert expanded(["seed=range(0,3)"]) == [("seed=0",), ("seed=1",), ("seed=2",)]
    jobs = expanded(["task=digits,a.py:A"])
    assert jobs[0] == ("task=digits",)
    assert compose(jobs[1]).config["task"]["path"] == "a.py:A"


@pytest.mark.parametrize("override", ["seed=interval(0,1)", "strategy=glob(fed*)"])
def test_a_sweep_without_a_list_of_values_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match="names no values to try"):
        expanded([override])


def test_composing_loads_neither_torch_nor_flower() -> None:
    import subprocess

    code = (
        "import sys; from daafl.config.composition import compose; compose(['seed=1']);"
        "sys.exit(bool({'torch', 'flwr', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
