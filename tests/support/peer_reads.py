"""What other programs read in a file, printed as JSON; runs in their environment and not in ours.

`peer_reads.py aiperf FOLDER FILE`: AIPerf's own loader and tokenizer. `peer_reads.py pandas FOLDER FILE`: pandas and
transformers, which `vllm bench serve --dataset-name custom` reads with,
and which stand in for vLLM here.
"""

import json
import sys
from pathlib import Path


def aiperf(folder: str, file: str) -> dict:
    from aiperf.common.tokenizer import Tokenizer
    from aiperf.dataset.loader.models import MooncakeTrace, SingleTurn
    from aiperf.dataset.loader.single_turn import SingleTurnDatasetLoader

    with Path(file).open() as lines:
        first = json.loads(next(lines))
    loader = SingleTurnDatasetLoader(filename=file)
    conversations = loader.convert_to_conversations(loader.load_dataset())
    turns = [conversation.turns[0] for conversation in conversations]
    tokenizer = Tokenizer.from_pretrained(folder)
    return {
        "recognised": SingleTurnDatasetLoader.can_load(first),
        "unknown": sorted(set(first) - set(SingleTurn.model_fields)),
        "trace": set(first) <= set(MooncakeTrace.model_fields),
        "conversations": {len(conversation.turns) for conversation in conversations} == {1},
        "inputs": [len(tokenizer.encode(turn.texts[0].contents[0])) for turn in turns],
        "outputs": [turn.max_tokens for turn in turns],
        "milliseconds": [turn.timestamp for turn in turns],
    }


def pandas(folder: str, file: str) -> dict:
    import pandas as pd
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [row.to_dict() for _, row in pd.read_json(path_or_buf=file, lines=True).iterrows()]
    return {
        "inputs": [len(tokenizer(row["prompt"]).input_ids) for row in rows],
        "outputs": [int(row["output_tokens"]) for row in rows],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])) + "\n")
