"""Files of tables as other programs write them: shifted, repeated, in parts, with an index, of another format."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from newcomers import SIZES, Newcomer, mlp, numbers, train_input, with_codes

TABLE = numbers("length", "mass", "age")
CLASSES = ("ant", "bee", "cat")
Net = torch.nn.Module


def plain(newcomer: Newcomer, **more: object) -> Net:
    """Write a plain table with a net; ``more`` is of ``Newcomer.tables``."""
    net: Net = newcomer.build(mlp(3, 3), train_input(TABLE))
    newcomer.tables(net, TABLE, classes=CLASSES, **more)
    newcomer.config(model={"weights": newcomer.weights(net)})
    return net


def each_line(change: object) -> object:
    """Change every line of a CSV but the first."""

    def edit(text: str) -> str:
        assert callable(change)
        head, *lines = text.splitlines()
        return "\n".join([head, *map(change, lines)]) + "\n"

    return edit


def only_line(number: int, change: object) -> object:
    """Change one line of a CSV, counted from 1 as an editor does."""

    def edit(text: str) -> str:
        assert callable(change)
        lines = text.splitlines()
        lines[number - 1] = change(lines[number - 1])
        return "\n".join(lines) + "\n"

    return edit


# Fields


def test_comma_at_the_end_of_every_row_does_not_shift_columns(newcomer: Newcomer) -> None:
    """A comma at the end of every row but the header makes pandas take the first column for an index: not here."""
    plain(newcomer, edit=each_line(lambda line: line + ","))
    newcomer.expect(read=True, refused=r"line 2\b|fields", warned=r"field|comma|delimiter")


def test_row_names_of_another_language_do_not_shift_columns(newcomer: Newcomer) -> None:
    """R's write.csv with row names and no name for them gives each row one field more: read, or counted."""
    plain(newcomer, edit=each_line(lambda line: f"row1,{line}"))
    newcomer.expect(read=True, refused=r"line 2\b|fields", warned=r"field|index|row name")


def test_field_too_many_in_one_row_names_the_line(newcomer: Newcomer) -> None:
    """An unquoted comma in one row is refused with the line."""
    plain(newcomer, edit=only_line(42, lambda line: line.replace(",", ",7,", 1)))
    newcomer.expect(refused=r"line 42\b")


def test_field_too_many_in_the_first_row_names_the_line(newcomer: Newcomer) -> None:
    """An unquoted comma in the first row alone, for which pandas makes up an index, is refused with the line."""
    plain(newcomer, edit=only_line(2, lambda line: line.replace(",", ",7,", 1)))
    newcomer.expect(refused=r"line [23]\b")


def test_field_too_few_in_one_row_names_the_line(newcomer: Newcomer) -> None:
    """A row that was cut off in the middle is refused with the line, and is not filled with missing values."""
    plain(newcomer, edit=only_line(42, lambda line: line.rsplit(",", 2)[0]))
    newcomer.expect(refused=r"line 42\b")


def test_file_that_was_cut_off_is_refused(newcomer: Newcomer) -> None:
    """A file whose last row ends in the middle of a quoted field is refused."""
    plain(newcomer, edit=lambda text: text + '1.0,2.0,"3')
    newcomer.expect(refused=r"line 50[12]|quot|end of|inside string")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_read_or_named(newcomer: Newcomer, delimiter: str) -> None:
    """A file whose fields lie between semicolons, tabs or bars is read, or refused with the delimiter's name."""
    plain(newcomer, edit=lambda text: text.replace(",", delimiter))
    newcomer.expect(read=True, refused=r"semicolon|tab|delimiter|separator|bar|';'|'\|'")


def test_spaces_after_commas_are_read(newcomer: Newcomer) -> None:
    """A row "1.0, ant" has the label "ant", and " mass" the column "mass": read, or named."""
    plain(newcomer, edit=lambda text: text.replace(",", ", "))
    newcomer.expect(read=True, refused=r"blank|space|' y'|label", warned=r"blank|space|' ")


def test_byte_order_mark_is_read(newcomer: Newcomer) -> None:
    """A CSV of a spreadsheet program begins with a byte order mark, which is no part of the first column's name."""
    net = plain(newcomer, edit=lambda text: "\ufeff" + text)
    columns = [{"name": name, "kind": "numeric"} for name in ("length", "mass", "age")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True)


def test_line_ends_of_windows_are_read(newcomer: Newcomer) -> None:
    """A carriage return is no part of the last field."""
    plain(newcomer)
    for part in SIZES:
        path = newcomer.folder / f"{part}.csv"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    newcomer.expect(read=True)


def test_text_of_another_encoding_is_named(newcomer: Newcomer) -> None:
    """A Latin-1 file is refused with the encoding that is wanted, or read."""
    plain(newcomer, dress=lambda frame: frame.rename(columns={"age": "größe"}))
    for part in SIZES:
        path = newcomer.folder / f"{part}.csv"
        path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    newcomer.expect(read=True, refused=r"utf-?8|encod")


def test_header_that_is_missing_is_named(newcomer: Newcomer) -> None:
    """A file without a header has its first row for names: the label's column is missing, and that is reported."""
    plain(newcomer, edit=lambda text: text.split("\n", 1)[1])
    newcomer.expect(refused=r"label|header")


def test_comment_above_the_header_is_named(newcomer: Newcomer) -> None:
    """A line "# exported on ..." above the header is refused with the line or the fields."""
    plain(newcomer, edit=lambda text: "# exported on 2024-03-01\n" + text)
    newcomer.expect(read=True, refused=r"line|fields|label|header")


def test_header_that_is_repeated_in_the_middle_is_named(newcomer: Newcomer) -> None:
    """Two files that were pasted together have a header in the middle: the row or line is named."""

    def edit(text: str) -> str:
        lines = text.splitlines()
        return "\n".join([*lines[:100], lines[0], *lines[100:]]) + "\n"

    plain(newcomer, edit=edit)
    newcomer.expect(refused=r"(line|row) (99|100|101)\b|header", warned=r"header")


def test_commas_and_quotes_inside_of_fields_are_read(newcomer: Newcomer) -> None:
    """A quoted field may hold commas, quotes and line breaks: nothing is shifted, and no line is blamed."""
    clean = with_codes(TABLE, name=3)
    source = (
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.names, self.head = nn.Embedding(3, 3), nn.Linear(6, 3)\n\n"
        "    def forward(self, x):\n"
        "        return self.head(torch.cat([x[:, :3], self.names(x[:, 3].long())], 1))\n\n\n"
        "def build():\n    return Net()\n"
    )
    names = ["Ada, Countess", 'Bob "B" Hope', "Cy,\nthe third"]
    net = newcomer.build(source, train_input(clean))
    newcomer.tables(
        net, clean, classes=CLASSES, dress=lambda frame: frame.assign(name=[names[code] for code in frame["name"]])
    )
    newcomer.config(model={"weights": newcomer.weights(net)})
    told = newcomer.fit()
    assert told.status == 0, told.text
    assert not told.lines("warning")
    assert newcomer.evaluate()[1]["accuracy"] == pytest.approx(newcomer.truth, abs=1e-9)


def test_empty_lines_at_the_end_are_read(newcomer: Newcomer) -> None:
    """Empty lines at the end of a file are no rows."""
    plain(newcomer, edit=lambda text: text + "\n\n")
    newcomer.expect(read=True)


# Columns that nobody meant


def test_index_column_of_pandas_is_named(newcomer: Newcomer) -> None:
    """A column "Unnamed: 0" of to_csv without index=False is left out with a notice, or named."""
    plain(newcomer, edit=lambda text: "\n".join(
        f"{'' if row == 0 else row - 1},{line}" for row, line in enumerate(text.splitlines())
    ) + "\n")  # fmt: skip
    newcomer.expect(
        read=True, said="Unnamed: 0|no name|without a name|index", refused="Unnamed: 0", warned="Unnamed: 0"
    )


def test_index_column_that_the_model_would_take_is_named(newcomer: Newcomer) -> None:
    """A model of four columns beside a file of an index and three: the index is named, and not taken in silence."""
    wide = numbers("a", "length", "mass", "age")
    net = newcomer.build(mlp(4, 3), train_input(wide))
    newcomer.tables(
        net, wide, classes=CLASSES,
        edit=lambda text: "\n".join(
            ",".join([("" if row == 0 else str(row - 1)), *line.split(",")[1:]])
            for row, line in enumerate(text.splitlines())
        ) + "\n",
    )  # fmt: skip
    newcomer.config(model={"weights": newcomer.weights(net)})
    newcomer.expect(refused="Unnamed: 0|no name|without a name|index", warned="Unnamed: 0|no name|without a name|index")


def test_columns_of_one_name_are_named(newcomer: Newcomer) -> None:
    """Two columns "mass" are not read as "mass" and "mass.1": the name is reported."""
    plain(newcomer, edit=lambda text: text.replace("length,mass,age", "length,mass,mass", 1))
    words = r"mass.*(twice|two|duplicate|repeat|mass\.1)|(twice|two|duplicate|repeat).*mass"
    newcomer.expect(read=True, said=words, refused=words, warned=words)


def test_column_that_is_named_as_a_group_is_not_lost(newcomer: Newcomer) -> None:
    """A column "group_size" that the model needs is not taken for a group in silence."""
    plain(newcomer, dress=lambda frame: frame.rename(columns={"age": "group_size"}))
    newcomer.expect(read=True, said="group_size", refused="group_size", warned="group_size")


def test_column_that_is_named_as_a_group_can_be_declared(newcomer: Newcomer) -> None:
    """A declared column "group_size" is the model's input."""
    net = plain(newcomer, dress=lambda frame: frame.rename(columns={"age": "group_size"}))
    columns = [{"name": name, "kind": "numeric"} for name in ("length", "mass", "group_size")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True)


def test_copy_of_the_label_is_no_reason_to_fail_silently(newcomer: Newcomer) -> None:
    """A second column that holds the label's code too many is refused with the columns."""
    plain(newcomer, dress=lambda frame: frame.assign(y_code=1))
    newcomer.expect(refused="y_code", warned="y_code")


# Parquet and its relatives


def test_folder_of_parquet_parts_is_read_or_named(newcomer: Newcomer) -> None:
    """A folder train.parquet/ of parts, as Spark writes it, is read, or refused as a folder."""
    plain(newcomer, suffix=".parquet")
    for part in SIZES:
        path = newcomer.folder / f"{part}.parquet"
        frame = pd.read_parquet(path)
        path.unlink()
        path.mkdir()
        (path / "_SUCCESS").touch()
        for index, rows in enumerate(np.array_split(np.arange(len(frame)), 3)):
            frame.iloc[rows].to_parquet(path / f"part-0000{index}.snappy.parquet")
    told = newcomer.fit()
    assert told.status in (0, 2), f"TRACEBACK: {told.text[-600:]}"
    if told.status == 0:
        assert newcomer.evaluate()[1]["accuracy"] == pytest.approx(newcomer.truth, abs=1e-9)
    else:
        assert any(word in told.err for word in ("folder", "directory", "parts")), f"WORDLESS: {told.err}"


def test_partitioned_folder_is_read_or_named(newcomer: Newcomer) -> None:
    """A folder of colour=red/ and colour=blue/, whose names hold a column, is read with that column, or refused."""
    plain(newcomer, suffix=".parquet")
    for part in SIZES:
        path = newcomer.folder / f"{part}.parquet"
        frame = pd.read_parquet(path)
        path.unlink()
        frame.assign(side=np.where(frame["age"] > 0, "left", "right")).to_parquet(path, partition_cols=["side"])
    told = newcomer.fit()
    assert told.status in (0, 2), f"TRACEBACK: {told.text[-600:]}"
    assert any(word in told.text for word in ("folder", "directory", "parts", "side")), f"WORDLESS: {told.text}"
    if told.status == 0:
        assert newcomer.evaluate()[1]["accuracy"] == pytest.approx(newcomer.truth, abs=1e-9)


@pytest.mark.parametrize("suffix", [".pq", ".feather"])
def test_other_names_of_parquet_are_read_or_named(newcomer: Newcomer, suffix: str) -> None:
    """A file .pq or .feather is read, or refused with what may be given."""
    plain(newcomer, suffix=suffix)
    newcomer.expect(read=True, refused=r"\.parquet")


def test_parquet_that_is_named_csv_is_refused(newcomer: Newcomer) -> None:
    """A Parquet file under the name train.csv is refused as such, or read."""
    plain(newcomer, suffix=".parquet")
    for part in SIZES:
        (newcomer.folder / f"{part}.parquet").rename(newcomer.folder / f"{part}.csv")
    newcomer.suffix = ".csv"
    newcomer.config(model={"weights": "model.safetensors"})
    told = newcomer.fit()
    assert told.status == 2, told.text
    assert "parquet" in told.err.lower() or "utf-8" in told.err.lower(), f"WORDLESS: {told.err}"


def test_spreadsheet_is_refused(newcomer: Newcomer) -> None:
    """A file .xlsx is refused with what may be given."""
    plain(newcomer)
    for part in SIZES:
        with zipfile.ZipFile(newcomer.folder / f"{part}.xlsx", "w") as book:  # as far as a reader of tables gets
            book.writestr("xl/worksheets/sheet1.xml", (newcomer.folder / f"{part}.csv").read_text())
    newcomer.suffix = ".xlsx"
    newcomer.config(model={"weights": "model.safetensors"})
    newcomer.expect(refused=r"\.xlsx.*\.csv\b.*|excel|spreadsheet")


def test_compressed_table_is_read(newcomer: Newcomer) -> None:
    """A .csv.gz is read."""
    net = plain(newcomer)
    for part in SIZES:
        path = newcomer.folder / f"{part}.csv"
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    newcomer.suffix = ".csv.gz"
    newcomer.config(model={"weights": newcomer.weights(net)})
    told = newcomer.fit()
    assert told.status == 0, told.text
    assert newcomer.evaluate()[1]["accuracy"] == pytest.approx(newcomer.truth, abs=1e-9)


def test_column_that_became_the_index_of_a_parquet_file_is_not_lost(newcomer: Newcomer) -> None:
    """A column that the frame had as its index (set_index) is in the file, and is read in its place, or named."""
    net = plain(newcomer, suffix=".parquet")
    for part in SIZES:
        path = newcomer.folder / f"{part}.parquet"
        pd.read_parquet(path).set_index("length").to_parquet(path)
    columns = [{"name": name, "kind": "numeric"} for name in ("length", "mass", "age")]
    newcomer.config(model={"weights": newcomer.weights(net)}, input={"columns": columns})
    newcomer.expect(read=True, refused="index")


def test_index_of_a_filtered_frame_is_no_column(newcomer: Newcomer) -> None:
    """A frame of which rows were dropped stores its index as __index_level_0__, which is no input of the model."""
    plain(newcomer, suffix=".parquet")
    for part in SIZES:
        path = newcomer.folder / f"{part}.parquet"
        frame = pd.read_parquet(path)
        frame.set_index(np.arange(len(frame)) * 2 + 1).to_parquet(path)
    newcomer.expect(read=True, warned="index")


def test_float32_columns_of_a_parquet_file_are_read(newcomer: Newcomer) -> None:
    """Columns of float32, int8 and uint16 are numbers."""

    def dress(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(length=frame["length"].astype("float32"))

    plain(newcomer, dress=dress, suffix=".parquet")
    newcomer.expect(read=True)


def test_file_that_is_not_there_is_named(newcomer: Newcomer) -> None:
    """A wrong path names the path as it was looked for."""
    net = plain(newcomer)
    newcomer.config(model={"weights": newcomer.weights(net)}, reference={"path": "data/train.csv"})
    newcomer.expect(refused=r"data/train\.csv.*no such file")


def test_large_file_storage_pointer_is_refused(newcomer: Newcomer) -> None:
    """A pointer of Git LFS in place of the weights is no weights file: the file is named."""
    plain(newcomer)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (newcomer.folder / "model.safetensors").write_text(pointer)
    newcomer.expect(refused=r"model\.safetensors")
