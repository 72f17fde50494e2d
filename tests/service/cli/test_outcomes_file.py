"""A CSV file of outcomes: what is understood, what is skipped, and which line is named as wrong."""

from pathlib import Path

import pytest

from guards.types import Mistake
from service.cli.outcomes_file import read_outcomes

DIGITS = tuple("0123456789")


def written(folder: Path, text: str) -> Path:
    """Write a file."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    """Labels are strings, or numbers if the model answers numbers; an empty probability means that there is none."""
    path = written(tmp_path, 'id,label,probability\na,1,0.5\n"b,2",0,\n')
    assert read_outcomes(path, ("0", "1")).outcomes == [
        {"id": "a", "label": "1", "probability": 0.5}, {"id": "b,2", "label": "0"},
    ]  # fmt: skip
    assert [outcome["label"] for outcome in read_outcomes(path, None).outcomes] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line"),
        ("id,outcome\na,b\n", "first line"),
        ("id,label,label\na,b,c\n", "first line"),
        ("id,label\na\n", "line 2: it does not have as many fields"),
        ("id,label\na,1,2\n", "line 2: it does not have as many fields"),
        ("id,label\na,1\n,2\n", "line 3: the id is empty"),
        ("id,label\na,x\n", "line 2: the label 'x' is no finite number"),
        ("id,label\na,nan\n", "line 2: the label 'nan'"),
        ("id,label,probability\na,1,2\n", r"line 2: the probability 2 is not in \(0, 1\]"),
        ('id,label\n"a,1\n', "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """The sentence names the file, the line and the mistake."""
    path = written(tmp_path, text)
    with pytest.raises(Mistake, match=f"labels.csv.*{sentence}"):
        read_outcomes(path, None)


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    """The first twenty mistakes are listed, with the number of the rest."""
    with pytest.raises(Mistake) as mistake:
        read_outcomes(written(tmp_path, "id,label\n" + ",1\n" * 50), None)
    assert (len(mistake.value.sentences), mistake.value.sentences[-1]) == (21, "... and 30 more")


def labels_of(folder: Path, text: str, labels: tuple[str, ...] = DIGITS) -> list[str]:
    """Read a file that is sound, and give its labels."""
    return [outcome["label"] for outcome in read_outcomes(written(folder, text), labels).outcomes]


def test_integers_that_pandas_wrote_as_floats_are_understood(tmp_path: Path) -> None:
    """7.0 is the label 7 if the model has 7 and not 7.0; another spelling is no label."""
    assert labels_of(tmp_path, "id,label\na,7.0\nb,3\nc,7.00\n") == ["7", "3", "7"]
    assert labels_of(tmp_path, "id,label\na,-1.0\n", ("-1", "1")) == ["-1"]
    assert labels_of(tmp_path, "id,label\na,7.0\nb,7\n", ("7", "7.0")) == ["7.0", "7"]
    for text in ("7.5", "07", "nan", "x.0", "seven", "10.0"):
        with pytest.raises(Mistake, match=r"line 2: '.*' is not one of the model's labels"):
            labels_of(tmp_path, f"id,label\na,{text}\n")


def test_a_line_without_a_label_is_skipped_and_counted(tmp_path: Path) -> None:
    """Its label is not known yet; the lines around it are read, by whichever kind of model."""
    text = "id,label,probability\na,7.0,\nb,,0.5\nc, ,\n\nd,1.0,1\n"
    for labels in (DIGITS, None):
        read = read_outcomes(written(tmp_path, text), labels)
        assert ([outcome["id"] for outcome in read.outcomes], read.lines, read.skipped) == (["a", "d"], [2, 6], 2)


def test_spaces_around_a_label_are_not_part_of_it(tmp_path: Path) -> None:
    """Spaces around a label are dropped unless the model has a label with just these spaces; an id keeps its spaces."""
    assert labels_of(tmp_path, "id, label\na, 7\nb,7 \n") == ["7", "7"]
    assert labels_of(tmp_path, "id,label\na, 7\nb,7\n", ("7", " 7")) == [" 7", "7"]
    assert read_outcomes(written(tmp_path, "id,label\n a ,7\n"), DIGITS).outcomes[0]["id"] == " a "


@pytest.mark.parametrize("text", ["\ufeffid,label\r\na,7\r\n", '"id","label"\n"a","7"\n', "label,id\n7,a"])
def test_dialects_of_spreadsheets_are_read(tmp_path: Path, text: str) -> None:
    """A byte order mark, Windows' ends of lines, quotes, another order of columns, no end of the last line."""
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    assert read_outcomes(path, DIGITS).outcomes == [{"id": "a", "label": "7"}]


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_another_delimiter_is_named(tmp_path: Path, delimiter: str, name: str) -> None:
    """The sentence says what is there and what is wanted."""
    with pytest.raises(Mistake, match=f"with commas between them; here there are {name}"):
        labels_of(tmp_path, f"id{delimiter}label\na{delimiter}7\n")


def test_another_encoding_is_a_sentence(tmp_path: Path) -> None:
    """A file in UTF-16 is refused with the encoding that is wanted."""
    path = tmp_path / "labels.csv"
    path.write_bytes("id,label\na,7\n".encode("utf-16"))
    with pytest.raises(Mistake, match="UTF-8"):
        read_outcomes(path, DIGITS)


def test_one_bad_line_among_many_refuses_the_file_before_it_is_sent(tmp_path: Path) -> None:
    """The line is named, however many good ones come before it."""
    good = "".join(f"id-{i},7\n" for i in range(10_000))
    with pytest.raises(Mistake) as mistake:
        labels_of(tmp_path, f"id,label\n{good}bad,eleven\n")
    assert len(mistake.value.sentences) == 1
    assert "line 10002: 'eleven' is not one of the model's labels" in mistake.value.sentences[0]


def test_an_id_may_have_256_characters(tmp_path: Path) -> None:
    """An id may have 256 characters; a longer id is refused with its length and the bound."""
    assert labels_of(tmp_path, f"id,label\n{'x' * 256},7\n") == ["7"]
    with pytest.raises(Mistake, match="line 2: the id has 512 characters, but may have 256 at most"):
        labels_of(tmp_path, f"id,label\n{'x' * 512},7\n")


def test_corrections_are_asked_for_with_every_outcome(tmp_path: Path) -> None:
    """With --replace, each outcome asks to replace."""
    read = read_outcomes(written(tmp_path, "id,label\na,7\n"), DIGITS, replace=True)
    assert read.outcomes == [{"id": "a", "label": "7", "replace": True}]
