"""A YAML file becomes a config, or a sentence says what is wrong with the file."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from guards import Mistake
from guards.config.config import parse
from guards.config.load import load_config, read_document


def refused(sentence: str) -> Any:
    return pytest.raises(Mistake, match=re.escape(sentence))


def test_config_is_read(tmp_path: Path) -> None:
    """A YAML file becomes a config."""
    path = tiny_models.write(tmp_path, "tensor")
    assert load_config(path) == parse(tiny_models.document("tensor"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", "gateway.yaml:1: no valid YAML: "),
        ("name: a\nname: b\n", "gateway.yaml:1: no valid YAML: the key 'name' is given twice"),
        ("model: {task: a, task: b}", "the key 'task' is given twice"),
        ("a: &x [*x]\nb: 2024-13-45", "no valid YAML: month must be in 1..12"),
        ("? [a]\n: b", "no valid YAML: found unhashable key"),
        ("a: !!python/object/apply:os.system [true]", "no valid YAML: could not determine a constructor"),
        ("--- a\n--- b\n", "no valid YAML: but found another document"),
        ("just words", "a config is a mapping of keys"),
        ("", "a config is a mapping of keys"),
        ("\x07", "no valid YAML: "),
        ("[" * 9999, "it is nested too deeply for a config"),
        ("a: &a {k: 1}\nb: {<<: *a}", "no valid YAML: could not determine a constructor"),
        ("a: b" * (1 << 19), "gateway.yaml: a config has at most 1048576 bytes, and this file is larger; leave out"),
    ],
)
def test_yaml_mistake(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that is no YAML, or gives a key twice, is refused with the line."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with refused(sentence):
        load_config(path)


def test_many_keys_of_one_mapping_take_no_longer_than_of_many(tmp_path: Path) -> None:
    """Each key is looked up among the keys before, and not compared with each of them."""
    keys = [f"key{place}: 1\n" for place in range(12_000)]
    seconds = []
    for text in ("".join(keys), "".join(f"- {key}" for key in keys)):
        began = time.process_time()
        read_document(text)
        seconds.append(time.process_time() - began)
    assert seconds[0] < 2 * seconds[1]
    path = tmp_path / "gateway.yaml"
    path.write_text("".join([*keys[:99], keys[0]]))
    with refused("the key 'key0' is given twice"):
        load_config(path)


def test_unreadable_config(tmp_path: Path) -> None:
    """A file that is missing, a folder, or not UTF-8 is refused in a sentence."""
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for path in (tmp_path / "nowhere.yaml", tmp_path, tmp_path / "latin.yaml"):
        with refused(f"{path}: cannot be read ("):
            load_config(path)


def test_labels_stay_labels(tmp_path: Path) -> None:
    """YAML's `no` and `on` are strings here, and only true and false are booleans."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "name: x\nmodel: {builder: 'm:b', classes: [no, yes, on, off, y], compile: true}\n"
        "input: {kind: tabular}\nreference: {path: a.csv}\n"
    )
    config = load_config(path)
    assert config.model.classes == ("no", "yes", "on", "off", "y")
    assert config.model.compile


def test_codes_and_times_stay_texts(tmp_path: Path) -> None:
    """Octal numbers, minutes and digit groups of YAML 1.1 are texts, and decimal numbers are numbers."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "name: x\nmodel: {builder: 'm:b'}\nreference: {path: a.csv, seed: 12, missing: [-999, 007, -1.0]}\n"
        "coverage: .5\n"
        "input: {kind: tabular, columns: [{name: c, categories: [007, 010, 08, 10:30, 1_000, 0x1F, 7, -3]}]}\n"
        "false_alarm_budget: 1e-2\n"
    )
    config = load_config(path)
    assert config.input.columns[0].categories == ("007", "010", "08", "10:30", "1_000", "0x1F", "7", "-3")
    assert config.reference.missing == ("-999", "007", "-1.0")
    assert (config.reference.seed, config.coverage, config.false_alarm_budget) == (12, 0.5, 0.01)
