"""The new config: the chosen detector, and all else as the user wrote it."""

import yaml

from guards.cli.tuning.improved_config import changed_document, changed_text
from guards.cli.tuning.workbench import Choice
from guards.config.load import read_document

TEXT = """\
# A comment before.
name: toy # the name
model:
  builder: m:build # a comment within
# A comment between.
guards:
  - {name: quality, detector: {kind: ranges}}
  - name: ood
    detector: {kind: mahalanobis}
    action: abstain

# A comment after.
coverage: 0.8
"""
CHOICE = Choice({"kind": "confidence"}, "body.2", 2.5)


def test_only_changed_sections_are_written_anew() -> None:
    """The guard has the chosen detector and share, the model the features; other lines and comments stay."""
    changed = changed_document(read_document(TEXT), 1, CHOICE)
    text = changed_text(TEXT, changed, "two\nlines")
    assert read_document(text) == changed
    assert changed["model"] == {"builder": "m:build", "features": "body.2"}
    assert changed["guards"][0] == {"name": "quality", "detector": {"kind": "ranges"}}
    assert changed["guards"][1] == {
        "name": "ood",
        "detector": {"kind": "confidence"},
        "action": "abstain",
        "share": 2.5,
    }
    assert text.startswith("# two\n# lines\n# A comment before.\nname: toy # the name\n")
    assert "\n# A comment between.\nguards:" in text
    assert "\n\n# A comment after.\ncoverage: 0.8\n" in text


def test_the_share_and_the_features_of_the_config_are_not_repeated() -> None:
    """What the choice leaves as it is appears nowhere in the new config."""
    changed = changed_document(read_document(TEXT), 1, Choice({"kind": "confidence"}, "", 1.0))
    assert "share" not in changed["guards"][1]
    assert changed["model"] == read_document(TEXT)["model"]


def test_a_config_in_braces_is_written_whole() -> None:
    """A config that is one collection in braces cannot be changed in part, and is written anew."""
    text = yaml.safe_dump(read_document(TEXT), default_flow_style=True)
    changed = changed_document(read_document(text), 1, CHOICE)
    assert read_document(changed_text(text, changed, "h")) == changed
