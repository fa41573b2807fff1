"""With ZeRO 3 no process holds the whole model: neither while it is loaded nor while it is saved."""

import sys
from pathlib import Path

SIZES = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8}
HEADS = {"num_key_value_heads": 8, "vocab_size": 4096}


def test_each_process_holds_its_share_and_one_layer(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
    from zero_memory import measure

    size, ranks = measure(tmp_path / "job", {**SIZES, **HEADS})  # also compares what is saved with what was loaded
    layer = 4 * 512 * 4096
    assert size > 150e6
    for peaks in ranks:
        assert size / 2 <= peaks["held"] < size / 2 + layer
        assert peaks["loading"] < size / 2 + 4 * layer
        assert peaks["saving"] < size / 2 + 4 * layer
