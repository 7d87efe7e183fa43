"""Lengths from CSV files: a column is one that its title names, never a guess."""

from pathlib import Path

import pytest

from trt_dp.errors import DatasetError, UsageError
from trt_dp.synthetic.seen_lengths import read_lengths
from trt_dp.synthetic.workload import Empirical


def seen(tmp_path: Path, content: str, *columns: str | None) -> list[tuple[int, int]]:
    path = tmp_path / "lengths.csv"
    path.write_text(content)
    inputs, outputs = columns or (None, None)
    found = read_lengths(
        Empirical(requests=1, path=path, input_column=inputs, output_column=outputs)
    )
    return list(zip(*(side.tolist() for side in found), strict=True))


@pytest.mark.parametrize(
    "titles",
    [
        "prompt_id,prompt_tokens,completion_tokens",
        "id,input_len,output_len",
        "when,ContextTokens,GeneratedTokens",
        "Timestamp,Request tokens,Response tokens",
        "output_file,INPUT-LENGTH,output length",
    ],
)
def test_columns_are_found_by_their_exact_titles(tmp_path, titles):
    """A title that only contains a known word, such as prompt_id, is not taken for a length."""
    assert seen(tmp_path, f"{titles}\n12345,37,4\n") == [(37, 4)]


@pytest.mark.parametrize(
    "titles",
    [
        "prompt_id,prompt_text,completion_tokens",
        "prompt_tokens,input_tokens,output_tokens",
        "prompt_completion_tokens,a,b",
        "input,output,x",
    ],
)
def test_unknown_or_ambiguous_titles_are_refused_with_the_titles(tmp_path, titles):
    """Without exactly one known title per side, the titles and the option to choose one are named."""
    with pytest.raises(DatasetError, match="-column TITLE") as caught:
        seen(tmp_path, f"{titles}\n1,37,4\n")
    assert titles.replace(",", ", ") in str(caught.value)


def test_columns_can_be_named(tmp_path):
    """--input-column and --output-column choose columns by their titles, one or both."""
    content = "prompt_tokens,input_tokens,made\n1,2,3\n"
    assert seen(tmp_path, content, "input_tokens", "made") == [(2, 3)]
    assert seen(tmp_path, "b,output_tokens\n1,2\n", "b", None) == [(1, 2)]


@pytest.mark.parametrize(
    ("columns", "why"),
    [(("a", "a"), "cannot hold both"), (("c", "b"), "no column for --input-column c")],
)
def test_one_column_never_serves_both_sides(tmp_path, columns, why):
    """The same column for both lengths, or one that is not there, is refused."""
    with pytest.raises(DatasetError, match=why):
        seen(tmp_path, "a,b\n1,2\n", *columns)


def test_without_titles_there_are_two_columns(tmp_path):
    """Two columns without titles are input and output; three are unclear."""
    assert seen(tmp_path, "3,4\n5,6\n") == [(3, 4), (5, 6)]
    with pytest.raises(DatasetError, match="no titles"):
        seen(tmp_path, "1,3,4\n")


def test_columns_go_with_a_csv_file(tmp_path):
    """A dataset has no columns to name."""
    with pytest.raises(UsageError, match="go with a CSV file"):
        read_lengths(Empirical(requests=1, path=tmp_path / "a.jsonl", input_column="a"))


def test_an_invalid_dataset_is_refused_without_advice_for_another_command(tmp_path):
    """`empirical` has no --skip-bad, so it is not suggested."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"input_ids":[],"output_tokens":1}\n')
    with pytest.raises(DatasetError, match=r"1 invalid line\. Fix the file") as caught:
        read_lengths(Empirical(requests=1, path=path))
    assert "--skip-bad" not in str(caught.value)
