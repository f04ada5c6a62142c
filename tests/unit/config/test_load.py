"""A description is read whole or refused with everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.config.load import (
    ALIASES,
    WITHOUT_SETTING,
    build_config,
    complete_key,
    dump_config,
    list_keys,
    load_config,
    parse_override,
)
from afina.config.run import RunConfig, TechniqueName
from afina.errors import ConfigError


def refuse(tree: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        build_config(tree)
    return str(caught.value)


def test_overrides_stand_on_top_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("technique: lora\nseed: 7\ntraining:\n  learning_rate: 0.1\n  dropout: model\nlora:\n  r: 4\n")
    config = load_config(file, {"learning_rate": 0.2, "data.text_column": "text", "lora_alpha": 8})
    assert (config.technique, config.seed, config.lora.r) == ("lora", 7, 4)
    assert (config.training.learning_rate, config.training.dropout) == (0.2, "model")
    assert (config.data.text_column, config.lora.lora_alpha) == ("text", 8)


def test_a_description_may_name_settings_by_their_whole_paths(tmp_path: Path) -> None:
    given = {"lora.r": 4, "lora": {"lora_alpha": 8}, "model.chat_template": "chatml"}
    file = tmp_path / "run.yaml"
    file.write_text("lora.r: 4\nlora:\n  lora_alpha: 8\nmodel.chat_template: chatml\n")
    for config in (load_config(given), load_config(file)):
        assert (config.lora.r, config.lora.lora_alpha, config.model.chat_template) == (4, 8, "chatml")
    assert given == {"lora.r": 4, "lora": {"lora_alpha": 8}, "model.chat_template": "chatml"}
    with pytest.raises(ConfigError, match=r"the setting lora\.r is given twice"):
        load_config({"lora.r": 4, "lora": {"r": 8}})
    with pytest.raises(ConfigError, match="lora holds settings and can't be a single value"):
        load_config({"lora.r": 4, "lora": 3})


def test_without_a_file_everything_has_its_default() -> None:
    assert load_config() == RunConfig()


def test_an_empty_file_and_an_empty_heading_say_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("")
    assert load_config(file) == RunConfig()
    file.write_text("technique: full\ntraining:\n#  learning_rate: 0.1\nlora:\n")
    assert load_config(file) == RunConfig(technique="full")
    assert load_config(file, {"training.learning_rate": 0.1}).training.learning_rate == 0.1


NAMES = ", ".join(sorted({*RunConfig.model_fields, *(key.rsplit(".", 1)[-1] for key in list_keys())}))


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {
            "training.learning_rte": 0.1, "technique": "full", "training.learning_rate": "fast", "seed": -1,
            "lora.r": 8, "lora.lora_alpha": 9,
        })  # fmt: skip
    assert str(caught.value) == (
        "4 problems\n"
        "1. unknown setting training.learning_rte\n"
        "     do: did you mean training.learning_rate?\n"
        "2. the setting seed doesn't fit\n"
        "     found: -1\n"
        "     expected: a whole number from 0 and below 2,147,483,648\n"
        "3. the setting training.learning_rate doesn't fit\n"
        "     found: 'fast'\n"
        "     expected: a number above 0 and up to 1, or auto\n"
        "4. the technique full doesn't read these settings\n"
        "     found: lora.lora_alpha, lora.r\n"
        "     do: leave them out, or --technique lora"
    )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"training": {"epochs": 3}},
            "unknown setting training.epochs\n  do: did you mean training.num_train_epochs?",
        ),
        ({"trainin": {"seed": 1}}, "unknown setting trainin\n  do: did you mean training?"),
        (
            {"lora": {"zzzzz": 1}},
            "unknown setting lora.zzzzz\n  expected: one of lora_alpha, lora_dropout, r, target_modules",
        ),
        (
            {"features": {"flods": 1}, "batch": 1},
            "2 problems\n1. unknown setting features.flods\n     do: did you mean features.folds?\n"
            f"2. unknown setting batch\n     expected: one of {NAMES}",
        ),
        ({"training": {"lr": 1}}, "unknown setting training.lr\n  do: did you mean training.learning_rate?"),
        ({"lr": 1}, "unknown setting lr\n  do: did you mean training.learning_rate?"),
        ({"training": {"rank": 1}}, "unknown setting training.rank\n  do: did you mean lora.r?"),
        ({"learning_rate": 1}, "unknown setting learning_rate\n  do: did you mean training.learning_rate?"),
        ({"training": 5}, "the setting training doesn't fit\n  found: 5\n  expected: key: value lines"),
        (
            {"training": {"dropout": None}},
            "the setting training.dropout doesn't fit\n  found: nothing\n"
            "  expected: a number from 0 and below 1, or model",
        ),
        (
            {"lora": {"target_modules": [], "lora_alpha": 1e300}},
            "2 problems\n"
            "1. the setting lora.lora_alpha doesn't fit\n     found: 1e+300\n"
            "     expected: a number above 0 and up to 10,000\n"
            "2. the setting lora.target_modules doesn't fit\n     found: []\n"
            "     expected: a list such as [a, b], or auto or all-linear",
        ),
        (
            {"lora": {"target_modules": "q_proj"}},
            "the setting lora.target_modules doesn't fit\n  found: 'q_proj'\n"
            "  expected: a list such as [a, b], or auto or all-linear",
        ),
        (
            {"training": {"learning_rate": float("nan")}},
            "the setting training.learning_rate doesn't fit\n  found: nan\n"
            "  expected: a number above 0 and up to 1, or auto",
        ),
        (
            {"training": {"num_train_epochs": "abc", "lr_scheduler_type": "step"}},
            "2 problems\n1. the setting training.num_train_epochs doesn't fit\n     found: 'abc'\n"
            "     expected: a whole number above 0, or auto\n"
            "2. the setting training.lr_scheduler_type doesn't fit\n     found: 'step'\n"
            "     expected: linear, cosine or constant",
        ),
        (
            {"training": {"gradient_checkpointing": 3, "dropout": 1}, "output": 7},
            "3 problems\n1. the setting output doesn't fit\n     found: 7\n     expected: text\n"
            "2. the setting training.dropout doesn't fit\n     found: 1\n"
            "     expected: a number from 0 and below 1, or model\n"
            "3. the setting training.gradient_checkpointing doesn't fit\n     found: 3\n"
            "     expected: true or false",
        ),
        (
            {"technique": "lora", "quantization": {"bnb_4bit_quant_type": "fp4"}},
            "the technique lora doesn't read these settings\n"
            "  found: quantization.bnb_4bit_quant_type\n  do: leave it out, or --technique qlora",
        ),
    ],
)  # fmt: skip
def test_a_problem_names_setting_value_and_remedy(tree: dict[str, Any], message: str) -> None:
    assert refuse(tree) == message


@pytest.mark.parametrize(
    ("technique", "section"), [("lora", "lora"), ("qlora", "lora"), ("qlora", "quantization"), ("auto", "lora")]
)
def test_sections_that_the_technique_reads_are_taken(technique: str, section: str) -> None:
    values = {"lora": {"r": 3}, "quantization": {"bnb_4bit_quant_type": "fp4"}}
    config = build_config({"technique": technique, section: values[section]})
    assert getattr(config, section).model_dump(exclude_unset=True) == values[section]


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("training:\n  dropout: 0.1\n  dropout: 0.2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == (
        f"the config file {file} can't be read\n  found: the key 'dropout' stands twice (line 3, column 3)"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "the config file {file} is not a mapping\n  found: list\n  expected: key: value lines"),
        (
            b"a: !!python/object/apply:os.system [true]\n",
            "the config file {file} can't be read\n  found: could not determine a constructor for the tag"
            " 'tag:yaml.org,2002:python/object/apply:os.system' (line 1, column 4)",
        ),
        (b"a: [1\n", "the config file {file} can't be read\n"
                      "  found: expected ',' or ']', but got '<stream end>' (line 2, column 1)"),
        (b"a: \xff\n", "the config file {file} can't be read\n  found: bytes that are not UTF-8, the first"
                       " at offset 3"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_description_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == message.format(file=file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "no.yaml")
    message = f"no such config file: {tmp_path / 'no.yaml'}\n  do: --config FILE with an existing YAML file"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.gradient_checkpointing=true", "training.gradient_checkpointing", True),
        ("training.learning_rate=2e-5", "training.learning_rate", 2e-5),
        ("lora.target_modules=[q_proj, v_proj]", "lora.target_modules", ("q_proj", "v_proj")),
        ("data.label_separator=|", "data.label_separator", "|"),
        ("data.label_separator=, ", "data.label_separator", ", "),
        ("label_column=2024", "data.label_column", "2024"),
        ("text_column=no", "data.text_column", "no"),
        ("text_column=a=b", "data.text_column", "a=b"),
        ("data.text_pair_column=", "data.text_pair_column", ""),
        ("data.text_pair_column=null", "data.text_pair_column", None),
        ("output=2024", "output", "2024"),
    ],
)
def test_an_override_is_read_as_its_setting_needs_it(text: str, key: str, value: Any) -> None:
    config: Any = load_config(None, dict([parse_override(text)]))
    for name in key.split("."):
        config = getattr(config, name)
    assert config == value
    assert type(config) is type(value)


@pytest.mark.parametrize("key", ["seed", "num_train_epochs", "learning_rate", "dropout", "weight_decay"])
def test_true_and_false_are_no_numbers(key: str) -> None:
    with pytest.raises(ConfigError, match=r"doesn't fit\n  found: True\n  expected: a (whole )?number"):
        load_config(None, {key: True})
    assert load_config(None, {"packing": True, "cache": False}).data.packing is True


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override("training.dropout")
    assert str(caught.value) == (
        "--set 'training.dropout' is not key=value\n  do: --set training.learning_rate=2e-5"
    )  # fmt: skip


def test_what_others_call_a_setting_leads_to_one() -> None:
    for alias, name in ALIASES.items():
        assert complete_key(name).rpartition(".")[2] == name
        with pytest.raises(ConfigError, match=f"did you mean {complete_key(name)}"):
            complete_key(alias)


@pytest.mark.parametrize("name", WITHOUT_SETTING)
def test_what_others_have_a_setting_for_is_explained(name: str) -> None:
    assert name not in list_keys()
    with pytest.raises(ConfigError, match=rf"unknown setting {name}\n  do: leave it out: \w"):
        load_config(None, {name: True})


def test_last_parts_of_paths_are_enough() -> None:
    keys = list_keys()
    assert len(keys) > 40
    assert len(keys) == len(set(keys))
    leaves = [key.rsplit(".", 1)[-1] for key in keys]
    for key, leaf in zip(keys, leaves, strict=True):
        assert complete_key(key) == key
        if leaves.count(leaf) == 1 or leaf == key:
            assert complete_key(leaf) == key


@pytest.mark.parametrize("technique", get_args(TechniqueName))
@settings(max_examples=10, deadline=None)
@given(
    rate=st.one_of(st.just("auto"), st.floats(min_value=1e-300, max_value=1.0)),
    column=st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))),
    targets=st.one_of(st.just("auto"), st.lists(st.sampled_from(["q", "1", "no"]), min_size=1).map(tuple)),
    dropout=st.one_of(st.just("model"), st.floats(0.0, 0.99)),
)
def test_a_dumped_description_is_read_as_it_was(
    technique: str, rate: Any, column: str | None, targets: Any, dropout: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree: dict[str, Any] = {"technique": technique, "data": {"label_column": column}}
    if technique != "feature-extraction":
        tree["training"] = {"learning_rate": rate, "dropout": dropout}
    if technique in ("lora", "qlora"):
        tree["lora"] = {"target_modules": targets}
    config = build_config(tree)
    file = tmp_path_factory.getbasetemp() / "dumped.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    assert load_config(file) == config
    assert dump_config(load_config(file)) == dump_config(config)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, "an alias, *a (line 2, column 8)"),
        ("seed: &a [*a]", "an alias, *a (line 1, column 11)"),
        ("seed: " + "[" * 3000, "values nested too deeply"),
        ("seed: 2024-99-99", "the YAML reader says: month must be in 1..12"),
        ("seed: !!python/object/apply:os.system [x]", "could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object/apply:os.system' (line 1, column 7)"),
    ],
)  # fmt: skip
def test_yaml_that_would_harm(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"the config file {path} can't be read\n  found: {found}"


def test_keys_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("? \n: 1\n7: 2\n")
    with pytest.raises(ConfigError, match="unknown setting None"):
        load_config(path)


@pytest.mark.parametrize("value", ["[" * 3000, "2024-99-99", "9" * 5000, "*a", "{a: 1, a: 2}"])
def test_an_override_that_is_no_yaml_is_text(value: str) -> None:
    assert parse_override(f"training.learning_rate={value}") == ("training.learning_rate", value)


def test_a_key_that_no_text_can_hold_is_a_problem_in_words(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text('{"\\ud800": "\\ud800"}\n')
    with pytest.raises(ConfigError, match="a setting has a name that can't be read"):
        load_config(path)
