"""The command prepare-dataset: its options, recipes and refusals, and what it leaves on a disk."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from conftest import status_of

from trt_dp.cli import main as cli
from trt_dp.cli import prepare as cli_prepare
from trt_dp.demo import SIZE
from trt_dp.errors import UsageError
from trt_dp.synthetic.vocabulary import learned
from trt_dp.tokenizer import open_tokenizer

RECIPES = Path(__file__).parents[2] / "datasets"
SMALL = ("--num-requests", "5", "--input-mean", "6")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch, capfd):
    """Run prepare-dataset here; gives its exit status, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trt-dp", "prepare-dataset", *map(str, arguments)])
        return status_of(cli.main), *capfd.readouterr()

    return run


def apart(*arguments, **options):
    command = [sys.executable, "-m", "trt_dp", "prepare-dataset", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def left(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def lines(path):
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def test_with_no_option_it_makes_the_seeds_workload(command):
    """3,000 requests of 2,048 in and 128 out appear where `run` looks, and the next command is named."""
    status, out, err = command()
    assert (status, err) == (0, "")
    found = lines("datasets/synthetic_2048_128.jsonl")
    assert len(found) == 3000
    assert {(len(line["input_ids"]), line["output_tokens"]) for line in found} == {(2048, 128)}
    assert "demo model" in out
    assert "next: trt-dp run" in out


def test_the_demo_vocabulary_is_said_aloud(command):
    """Without a tokenizer or a size, the output names the vocabulary it assumed."""
    _, out, _ = command(*SMALL, "--output", "a")
    assert f"demo model's, {SIZE} ids" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "a", "--random-seed", "7", "token-norm-dist", *SMALL),
        ("token-norm-dist", *SMALL, "--random-seed=7", "--output=a"),
        (
            "--random_seed",
            "7",
            "token-norm-dist",
            "--num_requests=5",
            "--input_mean",
            "6",
            "--output",
            "a",
        ),
        (*SMALL, "--output", "a", "--random-seed", "7", "--task-id", "-1"),
    ],
)
def test_shared_options_stand_anywhere_and_underscores_work(command, arguments):
    """Options may come before or after the kind, which may be left out, in either spelling."""
    assert command(*arguments)[0] == 0
    assert command("token-norm-dist", *SMALL, "--random-seed", "7", "--output", "b")[0] == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_stdout_carries_the_dataset_and_nothing_else(command):
    """With --stdout the summary goes to stderr, and no file is made."""
    status, out, err = command(*SMALL, "--stdout")
    assert status == 0
    assert [json.loads(line)["task_id"] for line in out.splitlines()] == [0, 1, 2, 3, 4]
    assert "5 requests" in err
    assert not left()


def test_an_output_beside_stdout_is_refused_or_named(command):
    """--output with --stdout is refused; where a recipe names the file, stderr says that it is not written."""
    status, _, err = command(*SMALL, "--stdout", "--output", "a")
    assert status == 2
    assert "--output and --stdout" in err
    Path("r.toml").write_text('output = "a.jsonl"\nnum-requests = 2\n')
    status, out, err = command("--recipe", "r.toml", "--stdout")
    assert (status, out.count("\n")) == (0, 2)
    assert "a.jsonl, which the recipe names, is not written" in err
    assert left() == ["r.toml"]


def test_log_level_silences_the_summary(command):
    """TensorRT-LLM's --log-level is taken: at warning nothing is printed."""
    assert command(*SMALL, "--output", "a", "--log-level", "warning") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--num-requests", "0"], "--num-requests is 0"),
        (["--num-requests", "-3"], "--num-requests is -3"),
        (["--num-requests", "1000000000"], "at most 100,000,000"),
        (["--input-mean", "0"], "--input-mean is 0"),
        (["--output-mean", "0"], "--output-mean is 0"),
        (["--input-stdev", "-1"], "--input-stdev is -1"),
        (["--input-mean", "9000000"], "at most 8,000,000"),
        (["--random-seed", "-1"], "--random-seed is -1"),
        (["--vocab-size", "0"], "--vocab-size is 0"),
        (["--vocab-size", "3", "--special-ids", "0,1,2"], "no id that is not special"),
        (["--vocab-size", "3", "--special-ids", "x"], "--special-ids x"),
        (["--vocab-size", "3", "--special-ids", "3"], "from 0 to 2"),
        (["--vocab-size", "3", "--tokenizer", "x"], "has its own size"),
        (["--format", "csv"], "jsonl, json, openai"),
        (["--compat", "vllm"], "there is trtllm"),
        (["--format", "vllm", "--vocab-size", "9"], "pass --tokenizer"),
        (["--arrival", "gamma"], "--arrival goes with --request-rate"),
        (["--request-rate", "0"], "--request-rate is 0"),
        (["token-lognormal", "--compat", "trtllm"], "theirs has no others"),
        (["--lora-dir", "x"], "--lora-dir is not supported"),
        (["--task-id", "0"], "--task-id is not supported"),
        (["--rand-task-id", "0", "3"], "--rand-task-id is not supported"),
        (["--prefix-groups", "3"], "--prefix-tokens must be at least 1"),
        (["--prefix-groups", "100000", "--prefix-tokens", "100000"], "more than 50,000,000"),
        (["--log-level", "loud"], "--log-level loud is not known; the levels are"),
        (["real-dataset"], "use `text`"),
        (["token-lognormal", "--input-median", "9", "--input-cap", "3"], "above --input-cap"),
        (["token-lognormal", "--output-sigma", "nan"], "--output-sigma is nan"),
        (["--output", "."], "is a folder"),
        (["--output", "/dev/null"], "use --stdout"),
        (["--tokenizer", "."], "has no tokenizer"),
        (["--tokenizer", "./nowhere"], "is not a folder"),
        (["--recipe", "nowhere.toml"], "cannot read the recipe"),
        (["empirical", "--lengths", "nowhere.csv"], "cannot read nowhere.csv"),
        (["empirical", "--lengths", "nowhere.jsonl"], "does not exist"),
        (["text", "--input", "nowhere"], "cannot read nowhere"),
        (["text", "--input", "x", "--format", "json"], "synthetic kinds only"),
        (
            [
                "token-unif-dist",
                *["--input-min=9", "--input-max=3", "--output-min=1", "--output-max=2"],
            ],
            "--input-min 9 is above --input-max 3",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(command, arguments, reason):
    """What cannot be is refused in a sentence that names the option, and nothing is written."""
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("trt-dp: ")
    assert err.count("\n") == 1
    assert reason in err
    assert not left()


def test_bad_content_is_refused_with_its_place(command):
    """A prompt or a length that is none is named by its line, and nothing is written."""
    Path("p.jsonl").write_text('{"prompt":"a"}\n{"no":1}\n')
    Path("l.csv").write_text("3,4\n5,0\n")
    Path("e.txt").write_text("\n")
    for arguments, reason in (
        (["text", "--input", "p.jsonl"], "line 2"),
        (["text", "--input", "e.txt"], "has no prompts"),
        (["empirical", "--lengths", "l.csv"], "line 2, 5,0,"),
        (["text", "--input", "l.csv", "--num-requests", "9"], "has 2 prompts"),
    ):
        status, _, err = command(*arguments, "--output", "out")
        assert status == 2
        assert reason in err
    assert left() == ["e.txt", "l.csv", "p.jsonl"]


def test_an_existing_file_is_kept_unless_it_is_the_same_or_forced(command):
    """The same dataset is left as it is, another is not replaced, --force replaces it."""
    assert command(*SMALL, "--output", "a")[0] == 0
    before = Path("a").stat().st_mtime_ns
    status, out, _ = command(*SMALL, "--output", "a")
    assert status == 0
    assert "unchanged" in out
    assert Path("a").stat().st_mtime_ns == before
    status, _, err = command(*SMALL, "--output", "a", "--random-seed", "5")
    assert status == 2
    assert "--force" in err
    assert command(*SMALL, "--output", "a", "--random-seed", "5", "--force")[0] == 0


def test_the_folder_of_the_output_is_made(command):
    """An output folder that does not exist is made, parents included."""
    assert command(*SMALL, "--output", "x/y/z.jsonl")[0] == 0
    assert left("x/y") == ["z.jsonl"]


def test_a_recipe_gives_options_and_the_command_line_wins(command):
    """The recipes beside the datasets run; an option given as well overrides theirs."""
    for recipe in RECIPES.glob("*.toml"):
        assert command("--recipe", recipe, "--num-requests", "7", "--output", recipe.stem)[0] == 0
        assert len(lines(recipe.stem)) == 7
    shared = {tuple(line["input_ids"][:1536]) for line in lines("shared_prefix")}
    assert len(shared) < 7


def test_the_default_recipe_is_the_default(command):
    """synthetic_2048_128.toml makes, byte for byte, what no option makes."""
    assert command("--recipe", RECIPES / "synthetic_2048_128.toml")[0] == 0
    assert "unchanged" in command()[1]


def test_a_recipe_may_hold_flags(command):
    """A flag in a recipe is true or false, and underscores are as good as dashes."""
    Path("r.toml").write_text("stdout = true\nnum_requests = 2\nforce = false\n")
    status, out, _ = command("--recipe", "r.toml")
    assert (status, out.count("\n")) == (0, 2)


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("input-meen = 3", "unknown option input-meen; known: kind"),
        ('kind = "nonsense"', "the kinds are token-norm-dist, token-unif-dist"),
        ('kind = "token-lognormal"\ninput-mean = 3', "unknown option input-mean"),
        ("kind =", "cannot read the recipe"),
        ("input-mean = 0", "--input-mean is 0"),
        ("input-mean = 2.5", "'--input-mean'"),
        ("input-mean = true", "input-mean must be a number or a text"),
        ("input-mean = [1]", "input-mean must be a number or a text"),
        ("stdout = 1", "stdout must be true or false"),
        ('recipe = "other.toml"', "unknown option recipe"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(command, recipe, reason):
    """An unknown option, kind or value in a recipe is named, with what there is."""
    Path("r.toml").write_text(recipe)
    status, _, err = command("--recipe", "r.toml")
    assert status == 2
    assert reason in err


def test_a_full_disk_is_one_sentence_and_leaves_nothing():
    """When the disk takes no more, the sentence says so, and neither file nor part of it stays."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    with apart("--output", "out.jsonl", preexec_fn=limit) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.startswith("trt-dp: cannot write ")
    assert "File too large" in err
    assert err.count("\n") == 1
    assert not left()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_write_leaves_nothing(stop):
    """Ctrl-C, SIGTERM and SIGHUP end it with status 130, and nothing is left."""
    with apart("--num-requests", "1000000", "--output", "out.jsonl") as process:
        _wait_for(Path(".out.jsonl.partial"))
        process.send_signal(stop)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err == "trt-dp: stopped: no dataset was written\n"
    assert not left()


def test_ctrl_c_while_it_starts_is_one_line(tmp_path):
    """A Ctrl-C during the imports is status 130 and one line, not a traceback."""
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    with apart(env=os.environ | {"PYTHONPATH": str(tmp_path)}) as process:
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "trt-dp: stopped\n")


def test_another_kinds_default_is_not_in_the_way(command):
    """A kind's dataset under its default name leaves the default workload's name free."""
    lengths = ("--input-min=1", "--input-max=3", "--output-min=1", "--output-max=2")
    assert command("token-unif-dist", *lengths)[0] == 0
    assert command(*SMALL)[0] == 0
    assert left("datasets") == ["synthetic_6_128.jsonl", "token-unif-dist_1_3_1_2.jsonl"]


def test_the_longest_legal_file_name_works(command):
    """A name of 255 bytes is written like any other."""
    assert command(*SMALL, "--output", "x" * 255)[0] == 0
    assert left() == ["x" * 255]


def test_text_is_read_from_stdin():
    """--input - takes prompts from a pipe."""
    with apart("text", "--input", "-", "--stdout", stdin=subprocess.PIPE) as process:
        out, err = process.communicate('{"prompt":"hi","task_id":"a"}\n', timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["task_id"] == "a"


def test_a_format_that_run_does_not_read_says_so(command):
    """--format aiperf tells that `run` does not read it, in the output and in the help."""
    _, out, _ = command(*SMALL, "--format", "aiperf")
    assert "trt-dp run does not read it" in out
    assert "next:" not in out
    assert "run does not read" in " ".join(command("--help")[1].split())


def test_help_groups_the_options_and_ends_with_examples(command):
    """The help of prepare-dataset and of a kind stands under headings; --format says that all is single-turn."""
    shown = command("--help")[1]
    headings = ["Input:", "Tokens:", "Arrivals:", "Format:", "Output:", "Commands:", "Examples:"]
    places = [shown.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    assert "single-turn" in shown
    assert "\nLengths:\n  --num-requests" in command("token-norm-dist", "--help")[1]


def test_a_rate_gives_arrival_times_and_is_told(command):
    """--request-rate with --arrival and --burstiness adds times, from a recipe too."""
    options = ["--request-rate", "5", "--arrival", "gamma", "--burstiness", "0.5"]
    status, out, _ = command(*SMALL, *options, "--output", "a")
    assert status == 0
    assert "arrivals: gamma with burstiness 0.5, 5 requests a second on average" in out
    assert lines("a")[0]["arrival_seconds"] == 0
    Path("r.toml").write_text('request-rate = 5\narrival = "gamma"\nburstiness = 0.5\n')
    assert command("--recipe", "r.toml", *SMALL, "--output", "b")[0] == 0
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_a_killed_write_leaves_no_half_file_and_the_next_goes_on(command):
    """After a kill there is no file under the name, and what was left beside it is used up."""
    with apart("--num-requests", "1000000", "--output", "out.jsonl") as process:
        _wait_for(Path(".out.jsonl.partial"))
        status, _, err = command(*SMALL, "--output", "out.jsonl")
        assert status == 2
        assert "being written by another process" in err
        process.kill()
    assert not Path("out.jsonl").exists()
    assert command(*SMALL, "--output", "out.jsonl")[0] == 0
    assert left() == ["out.jsonl"]


def test_memory_does_not_grow_with_the_dataset():
    """150,000 requests of 300 need hardly more memory than 100 do."""
    peaks = []
    for requests in (100, 150_000):
        before = ("--num-requests", str(requests), "--input-mean", "300", "--input-stdev", "30")
        with apart(*before, "--output", f"{requests}") as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(used.ru_maxrss / 1024)
    assert peaks[1] - peaks[0] < 60
    assert Path("150000").stat().st_size > 150e6


def test_a_closed_pipe_is_one_sentence():
    """A reader that leaves early ends the command without a traceback."""
    with apart("--num-requests", "100000", "--stdout") as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        process.wait(60)
    assert process.returncode == 1
    assert err == "trt-dp: cannot write to stdout: Broken pipe\n"


def test_a_tokenizer_folder_names_its_special_ids(command):
    """Ids of a local tokenizer.json are drawn, without added tokens and those its settings name."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "a", "b", "[UNK]"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<bos>", "[UNK]"])
    Path("t").mkdir()
    made.save("t/tokenizer.json")
    settings = {"eos_token": "</s>", "pad_token": {"content": "<pad>"}, "unk_token": None}
    Path("t/tokenizer_config.json").write_text(json.dumps(settings))
    status, out, _ = command(*SMALL, "--tokenizer", "t", "--output", "a")
    assert status == 0
    assert "t's, 2 ids without the 4 special ones" in out
    assert {token for line in lines("a") for token in line["input_ids"]} == {2, 3}
    Path("p.txt").write_text("a b b\n")
    assert command("text", "--input", "p.txt", "--tokenizer", "t", "--output", "b")[0] == 0
    assert lines("b")[0]["input_ids"] == [2, 3, 3]


def test_transformers_is_asked_for_what_tokenizers_cannot_load(monkeypatch):
    """A tokenizer by name comes from transformers, with remote code only where it is trusted."""
    asked = []

    class Loaded:
        all_special_ids = (0,)
        vocab_size = 3

        def get_vocab(self):
            return {"<s>": 0, "a": 1, "b": 2}

        def encode(self, text, *, add_special_tokens):
            assert not add_special_tokens
            return [1 + "ab".index(letter) for letter in text]

    def load(name, **options):
        asked.append((name, options))
        return Loaded()

    auto = types.SimpleNamespace(from_pretrained=load)
    fake = types.SimpleNamespace(AutoTokenizer=auto, __spec__=types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "transformers", fake)
    found = open_tokenizer("someone/model", trust_remote_code=False)
    assert asked == [("someone/model", {"trust_remote_code": False, "local_files_only": False})]
    assert learned(found).usable.tolist() == [1, 2]
    assert found.encode(["ab", "b"]) == [[1, 2], [2]]


def test_a_tokenizer_that_will_not_load_is_a_sentence():
    """A damaged tokenizer.json is refused with the reason."""
    pytest.importorskip("tokenizers")
    Path("t").mkdir()
    Path("t/tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="the tokenizer t cannot be loaded"):
        open_tokenizer("t", trust_remote_code=False)


def test_help_loads_nothing_heavy():
    """The help of a kind needs neither numpy nor a tokenizer library."""
    script = (
        "import sys; from trt_dp.cli import prepare as cli_prepare\n"
        "try: cli_prepare.app(['token-unif-dist', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'numpy', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert cli_prepare.app is not None


def _wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
