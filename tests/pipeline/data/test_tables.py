"""pipeline/data/tables.py and table_file.py: tables as pandas, spreadsheets and competitions write them."""

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.data.ingest import ingest
from pipeline.errors import DatasetError
from pipeline.recipe.data_settings import Data
from tests.helpers.image_sets import png, write_files

IMAGE = png()
HEADER, ROWS = "path,label", ["1.png,a", "2.png,b", "3.png,a"]
PATHS = ["1.png", "2.png", "3.png"]


def write_table(folder: Path, text: str | bytes, name: str = "set.csv") -> Path:
    write_files(folder, dict.fromkeys(PATHS, IMAGE))
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


def labels_of(location: Path, data: Data | None = None) -> list[tuple[str, str]]:
    return [(example.path, example.label) for example in ingest(location, data).examples]


EXPECTED = [("1.png", "a"), ("2.png", "b"), ("3.png", "a")]


@pytest.mark.parametrize("named", [False, True], ids=["plain", "named-columns"])
@pytest.mark.parametrize("column", ["", "Unnamed: 0", "Unnamed: 0.1"])
def test_index_column_of_pandas_is_passed_over(tmp_path: Path, column: str, *, named: bool) -> None:
    """`DataFrame.to_csv` writes one without a name; it is said."""
    text = lines(f"{column},{HEADER}", [f"{i},{row}" for i, row in enumerate(ROWS)])
    location = write_table(tmp_path, text)

    dataset = ingest(location, Data(columns={"label": "label"}) if named else None)

    assert EXPECTED == [(example.path, example.label) for example in dataset.examples]
    assert ("set.csv: a column without a name, as of an index, is passed over",) == dataset.notes


def test_index_column_of_parquet_is_passed_over(tmp_path: Path) -> None:
    location = write_table(tmp_path, b"", "set.parquet")
    table = {"path": PATHS, "label": ["a", "b", "a"], "__index_level_0__": [3, 4, 5]}
    parquet.write_table(pyarrow.table(table), location)

    assert EXPECTED == labels_of(location)


@pytest.mark.parametrize("text", ["path,label,\n1.png,a,\n2.png,b,\n", "path,label\n1.png,a,,\n2.png,b\n\n"])
def test_blank_cells_at_the_end_are_no_cells(tmp_path: Path, text: str) -> None:
    """Spreadsheets write them."""
    location = write_table(tmp_path, text)

    assert EXPECTED[:2] == labels_of(location)
    assert () == ingest(location).notes


@pytest.mark.parametrize(
    ("name", "delimiter", "said"),
    [
        ("set.csv", ";", "semicolons"),
        ("set.csv", "\t", "tabs"),
        ("set.csv", "|", "vertical bars"),
        ("set.tsv", "\t", None),
        ("set.tsv", ",", "commas"),
        ("set.TSV", "\t", None),
        ("set.csv", ", ", None),
    ],
)
def test_delimiters_are_found_and_said(tmp_path: Path, name: str, delimiter: str, said: str | None) -> None:
    location = write_table(tmp_path, lines(HEADER, ROWS).replace(",", delimiter), name)

    assert EXPECTED == labels_of(location)
    assert ((f"{name}: its cells are separated by {said}",) if said else ()) == ingest(location).notes


def test_delimiter_is_not_what_a_label_holds(tmp_path: Path) -> None:
    """A semicolon inside the cells of a table with commas is text."""
    location = write_table(tmp_path, 'path,label\n1.png,"a; x"\n2.png,"b; y"\n')

    assert [("1.png", "a; x"), ("2.png", "b; y")] == labels_of(location)


def test_excels_line_for_the_delimiter(tmp_path: Path) -> None:
    assert EXPECTED == labels_of(write_table(tmp_path, "sep=;\r\n" + lines(HEADER, ROWS).replace(",", ";")))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings_of_spreadsheets(tmp_path: Path, encoding: str) -> None:
    """With a byte order mark, and without one where the bytes tell."""
    location = write_table(tmp_path, lines(HEADER, ["1.png,é", "2.png,眼"]).encode(encoding))

    assert [("1.png", "é"), ("2.png", "眼")] == labels_of(location)
    assert ("utf-8" not in encoding) == any("UTF-" in note for note in ingest(location).notes)


@pytest.mark.parametrize("data", ["path,label\n1.png,é\n".encode("latin-1"), b"\xff\xfep"], ids=["latin-1", "cut"])
def test_other_encodings_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError, match="expected a CSV file in UTF-8"):
        ingest(write_table(tmp_path, data))


def test_absolute_paths_below_the_table(tmp_path: Path) -> None:
    """By the folder's name and by that of a link to it; paths beside it are refused."""
    (tmp_path / "link").symlink_to(tmp_path / "set")
    real, linked = tmp_path / "set" / "1.png", tmp_path / "link" / "2.png"
    location = write_table(tmp_path / "set", lines(HEADER, [f"{real},a", f"{linked},b", "3.png,a"]))

    with pytest.raises(DatasetError, match=f"absolute ones below it. Received: {linked}"):
        ingest(location)
    assert EXPECTED == labels_of(write_table(tmp_path / "link", lines(HEADER, [f"{real},a", f"{linked},b", "3.png,a"])))


@pytest.mark.parametrize("settings", [{"suffix": "png"}, {"suffix": ".png", "folder": "train_images"}])
def test_ids_without_a_suffix(tmp_path: Path, settings: dict[str, str]) -> None:
    """The error names the options that complete the paths."""
    folder = settings.get("folder", "")
    write_files(tmp_path, {str(Path(folder, f"{i}.1.png")): IMAGE for i in "012"})
    location = tmp_path / "train.csv"
    location.write_text("id_code,diagnosis\n0.1,0\n1.1,1\n2.1,0\n")
    columns: Any = {"path": "id_code", "label": "diagnosis"}

    with pytest.raises(DatasetError) as refused:
        ingest(location, Data(columns=columns))

    options = "--set data.suffix=.png" + (f" --set data.folder={folder}" if folder else "")
    assert str(refused.value).endswith(f"{Path(folder, '0.1.png')} is there: {options}")
    dataset = ingest(location, Data(columns=columns, **settings))
    assert [str(Path(folder, f"{i}.1.png")) for i in "012"] == [example.path for example in dataset.examples]
    assert ("0", "1") == dataset.labels


def test_capitals_of_a_suffix_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"1.PNG": IMAGE})
    (tmp_path / "set.csv").write_text("path,label\n1.png,a\n")

    with pytest.raises(DatasetError, match=r"no file 1\.png; 1\.PNG is there: capitals count"):
        ingest(tmp_path / "set.csv")


def write_values(folder: Path, kind: str, labels: list[Any]) -> Path:
    paths = [f"{i}.png" for i in range(len(labels))]
    write_files(folder, dict.fromkeys(paths, IMAGE))
    location = folder / f"set.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.table({"path": paths, "label": labels}), location)
    else:
        cells = ['"' + str(label).replace('"', '""') + '"' for label in labels]
        location.write_text(lines(HEADER, [f"{path},{cell}" for path, cell in zip(paths, cells, strict=True)]))
    return location


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1.0, 0.0, 1.0], ("0", "1")),
        ([1, 0, 1], ("0", "1")),
        (["1.0", "0.0", "1.00"], ("0", "1")),
        ([-1.0, 1.0], ("-1", "1")),
        ([0.5, 1.0, 0.5, 1.0], ("0.5", "1")),
        ([True, False], ("False", "True")),
        (["1.0.0", "2.0.0"], ("1.0.0", "2.0.0")),
        (["007", "1e3"], ("007", "1e3")),
    ],
)
def test_one_value_is_one_label_in_every_file(
    tmp_path: Path, kind: str, labels: list[Any], expected: tuple[str, ...]
) -> None:
    assert expected == ingest(write_values(tmp_path, kind, labels)).labels


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["scab rust", "scab", "rust", "scab"], id="blanks"),
        pytest.param(["Mass|Nodule", "Mass", "Nodule", "Mass"], id="bars"),
        pytest.param(["a|b", "b|c", "a|c"], id="never-alone"),
        pytest.param(["a,b", "a", "b", "c"], id="commas"),
        pytest.param(["a; b", "a", "b"], id="semicolons"),
        pytest.param(["a+b", "a", "b"], id="plus"),
        pytest.param(["['a', 'b']", "['a']"], id="lists-as-text"),
    ],
)
def test_several_labels_are_another_task(tmp_path: Path, kind: str, labels: list[str]) -> None:
    with pytest.raises(DatasetError, match="one label an image: Fovea puts an image into one class"):
        ingest(write_values(tmp_path, kind, labels))


def test_lists_of_labels_are_another_task(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="one label an image: Fovea puts an image into one class"):
        ingest(write_values(tmp_path, "parquet", [["a", "b"], ["a"], []]))


def test_columns_of_indicators_are_another_task(tmp_path: Path) -> None:
    location = write_table(tmp_path, "path,scab,rust\n1.png,1,0\n2.png,0,1\n3.png,1,1\n")

    with pytest.raises(DatasetError, match=r"columns of 0 and 1 \(scab, rust\) must become one column"):
        ingest(location)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param([round(3.7 * i, 2) for i in range(12)], id="floats"),
        pytest.param([f"{i},5" for i in range(12)], id="decimal-commas"),
        pytest.param([20 + i for i in range(15)] * 2, id="ages"),
        pytest.param([i / 10 for i in range(20)] * 10, id="many-fractions"),
        pytest.param([0.1, 2.5, 3.75, 8.0], id="few"),
    ],
)
def test_numbers_to_predict_are_another_task(tmp_path: Path, kind: str, labels: list[Any]) -> None:
    with pytest.raises(DatasetError, match="look like a quantity to predict"):
        ingest(write_values(tmp_path, kind, labels))


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(["very bad", "bad", "very good", "good"], id="adverbs"),
        pytest.param(["Paris, France", "Lyon, France"], id="places"),
        pytest.param([0, 1, 2, 3, 4], id="grades"),
        pytest.param([0.5, 1.0, 1.5, 2.0] * 5, id="half-grades"),
        pytest.param(list(range(40)) * 5, id="ids"),
        pytest.param(["a/b", "c/d"], id="slashes"),
        pytest.param(["(a)", "[b"], id="brackets"),
    ],
)
def test_classes_are_no_other_task(tmp_path: Path, labels: list[Any]) -> None:
    assert len(set(labels)) == len(ingest(write_values(tmp_path, "csv", labels)).labels)


def test_split_column_by_the_recipe(tmp_path: Path) -> None:
    """Numbers of folds are sides where the recipe says so; the usual names are in any case."""
    location = write_table(tmp_path, "path,label,split\n1.png,a,0\n2.png,b,0\n3.png,a,1\n")

    dataset = ingest(location, Data(splits={"0": "train", "1": "test"}))

    assert ["train", "train", "test"] == [example.split for example in dataset.examples]


def test_path_that_another_command_has_escaped(tmp_path: Path) -> None:
    """What `score` writes of a name that is not UTF-8 leads to the file again."""
    location = write_table(tmp_path, "path,label\n1.png,a\ngr\\xfcn.png,b\n")
    (tmp_path / "2.png").rename(tmp_path / "gr\udcfcn.png")

    dataset = ingest(location)

    assert ["1.png", "gr\\xfcn.png"] == [example.path for example in dataset.examples]
    assert IMAGE == dataset.source.read("gr\\xfcn.png")


@pytest.mark.parametrize("path", [r"\x2e\x2e/secret.png", r"\x2fetc\x2fhosts", "x" * 5000 + ".png", "a\0.png"])
def test_hostile_paths_are_refused(tmp_path: Path, path: str) -> None:
    write_files(tmp_path, {"secret.png": IMAGE})
    location = write_table(tmp_path / "set", f'path,label\n1.png,a\n"{path}",b\n')

    with pytest.raises(DatasetError, match=r"set\.csv: expected"):
        ingest(location)


def test_table_in_a_folder_is_named(tmp_path: Path) -> None:
    """A folder with pictures and a table is not a set of one class."""
    write_files(tmp_path / "set", {f"train_images/{i}.png": IMAGE for i in range(4)})
    (tmp_path / "set" / "train.csv").write_text("id,label\n")

    with pytest.raises(DatasetError, match=r"holds a table \(train\.csv\): give that file instead of the folder"):
        ingest(tmp_path / "set")
