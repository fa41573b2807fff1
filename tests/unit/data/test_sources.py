"""Folders, patterns and data sets of the hub: which files are read, and what is said where there are none."""

import json
from pathlib import Path

import fsspec
import pytest

from tunesmith_api.failures import Reason, StageError
from tunesmith_api.spec import DatasetSource
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.data.hub_layout import split_files
from tunesmith_trainer.data.selection import match
from tunesmith_trainer.data.sources import locate

ROW = '{"prompt": "a", "completion": "b"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a.csv", "c.jsonl.gz", "notes.md", ".hidden.jsonl", "_part.jsonl", "inner/d.jsonl"):
        path = tmp_path / "rows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROW)
    return tmp_path / "rows"


def names(uri: object, tmp_path: Path, **fields: str) -> list[str]:
    source = DatasetSource.model_validate({"uri": str(uri), **fields})
    return [Path(file.name).name for file in locate(source, WorkFolder(tmp_path / "work"), "train-0")]


def refusal(uri: object, tmp_path: Path, **fields: str) -> StageError:
    with pytest.raises(StageError) as caught:
        names(uri, tmp_path, **fields)
    return caught.value


def test_a_folder_is_its_files_with_rows_sorted(folder: Path, tmp_path: Path) -> None:
    assert names(folder, tmp_path) == ["a.csv", "b.jsonl", "c.jsonl.gz"]
    assert names(f"file://{folder}/", tmp_path) == ["a.csv", "b.jsonl", "c.jsonl.gz"]


def test_patterns(folder: Path, tmp_path: Path) -> None:
    assert names(f"{folder}/*.jsonl", tmp_path) == ["_part.jsonl", "b.jsonl"]
    assert names(f"{folder}/**/*.jsonl", tmp_path) == ["_part.jsonl", "b.jsonl", "d.jsonl"]
    assert names(f"{folder}/[ab].*", tmp_path) == ["a.csv", "b.jsonl"]
    (folder / "x[1].jsonl").write_text(ROW)
    assert names(f"{folder}/x[1].jsonl", tmp_path) == ["x[1].jsonl"]


def test_where_there_are_no_files(folder: Path, tmp_path: Path) -> None:
    assert "the pattern matches no file" in refusal(f"{folder}/*.parquet", tmp_path).message
    assert "no such file" in refusal(folder / "absent.jsonl", tmp_path).message
    (tmp_path / "empty").mkdir()
    assert "no file with rows in this folder" in refusal(tmp_path / "empty", tmp_path).message
    above = refusal(tmp_path, tmp_path)
    assert "only below it" in above.message
    pattern = above.remedy.split("pattern: ")[1]
    assert names(pattern, tmp_path)


def test_one_digest_does_not_fit_several_files(folder: Path, tmp_path: Path) -> None:
    error = refusal(folder, tmp_path, sha256="0" * 64)
    assert (error.reason, error.message.split(": ")[1]) == (
        Reason.INVALID_SPEC,
        "sha256 is given, but these are 3 files",
    )


def test_folders_and_patterns_of_an_object_store(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("rows/a.jsonl", "rows/b.csv", "rows/README.md", "rows/inner/c.jsonl"):
        store.pipe(f"/bucket/{name}", ROW.encode())
    assert names("memory://bucket/rows/", tmp_path / "1") == ["a.jsonl", "b.csv"]
    assert names("memory://bucket/rows/*.jsonl", tmp_path / "2") == ["a.jsonl"]
    assert names("memory://bucket/**/*.jsonl", tmp_path / "3") == ["a.jsonl", "c.jsonl"]
    assert "the pattern matches no file" in refusal("memory://bucket/rows/*.parquet", tmp_path / "4").message


def test_match() -> None:
    files = ["data/train-0.parquet", "data/inner/train-1.parquet", "train.jsonl"]
    assert match("data/train-*", files) == ["data/train-0.parquet"]
    assert match("data/**", files) == ["data/inner/train-1.parquet", "data/train-0.parquet"]
    assert match("**/train*", files) == sorted(files)


@pytest.mark.parametrize(
    ("files", "card", "configuration", "split", "expected"),
    [
        (["a.jsonl", "b.csv", "README.md", "dataset_infos.json"], {}, None, None, ["a.jsonl", "b.csv"]),
        (["data/train-0.parquet", "data/test-0.parquet"], {}, None, None, ["data/train-0.parquet"]),
        (["data/train-0.parquet", "data/test-0.parquet"], {}, None, "test", ["data/test-0.parquet"]),
        (["my_dev.csv", "training.csv"], {}, None, "validation", ["my_dev.csv"]),
        (["test.csv"], {}, None, None, ["test.csv"]),
        (["de/train/0.parquet", "en/train/0.parquet"], {}, "de", None, ["de/train/0.parquet"]),
        (["x.csv", "y.csv"], {"configs": [{"config_name": "default", "data_files": "x.csv"}]}, None, None, ["x.csv"]),
        (
            ["m/a-1.csv", "m/b-1.csv", "n/a.csv"],
            {
                "configs": [
                    {"config_name": "n", "data_files": [{"split": "train", "path": ["n/*"]}]},
                    {
                        "config_name": "m",
                        "default": True,
                        "data_files": [{"split": "train", "path": "m/a-*"}, {"split": "test", "path": "m/b-*"}],
                    },
                ]
            },
            None,
            "test",
            ["m/b-1.csv"],
        ),
        (
            ["m/train.csv", "n/train.csv"],
            {"configs": [{"config_name": "n", "data_dir": "n"}]},
            "n",
            None,
            ["n/train.csv"],
        ),
    ],
)
def test_split_files(
    files: list[str], card: dict, configuration: str | None, split: str | None, expected: list[str]
) -> None:
    assert split_files("hf://datasets/a/b", files, card, configuration, split) == expected


@pytest.mark.parametrize(
    ("files", "card", "fields", "problem"),
    [
        (["train.csv"], {}, (None, "dev"), "there is no split dev (its splits: train)"),
        (["de/a.csv"], {}, ("fr", None), "there is no configuration fr (its folders: de)"),
        (["b.py", "README.md"], {}, (None, None), "it is made by a script (b.py), which is never run"),
        (["README.md"], {}, (None, None), "it has no files with rows"),
        (["a.csv"], {"configs": [{"config_name": "m"}, {"config_name": "n"}]}, (None, None), "configurations: m, n"),
        (["a.csv"], {"configs": [{"config_name": "m"}]}, ("n", None), "there is no configuration n"),
    ],
)
def test_split_that_is_not_there(files: list[str], card: dict, fields: tuple, problem: str) -> None:
    with pytest.raises(StageError) as caught:
        split_files("hf://datasets/a/b", files, card, *fields)
    assert caught.value.message.startswith("hf://datasets/a/b: ")
    assert problem in caught.value.message


def test_fields_of_the_hub_belong_to_the_hub() -> None:
    with pytest.raises(ValueError, match="belong to hf:// data sets only"):
        DatasetSource.model_validate({"uri": "./a.jsonl", "split": "train"})
    with pytest.raises(ValueError, match="pattern"):
        DatasetSource.model_validate({"uri": "hf://acme/rows"})
    assert json.loads(DatasetSource.model_validate({"uri": "hf://datasets/a/b", "split": "x"}).model_dump_json())
