"""Loading a draft model beside the one that is served."""

from tunesmith_api.artifact import MODEL_FILES
from tunesmith_api.tasks import DEFAULT_TASK
from tunesmith_serving.artifact.opening import Artifact, open_artifact
from tunesmith_serving.engines.text_generation.batching.decoder import OnnxDecoder
from tunesmith_serving.engines.text_generation.batching.graphs import RAGGED
from tunesmith_serving.engines.text_generation.batching.speculation.draft_model import DraftModel
from tunesmith_serving.engines.text_generation.text.tokenizer import Tokenizer
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError

_REMEDY = "choose another runtime.draftModel, or remove it"
_SHOWN = 3


class DraftArtifact:
    """The artifact of a draft model, with its decoder.

    Attributes:
        token_bytes: Bytes of its keys and values of one token.
    """

    def __init__(self, served: Artifact, tokenizer: Tokenizer, config: ServingConfig) -> None:
        """Load it.

        Args:
            served: The artifact of the model that is served.
            tokenizer: Its tokenizer.
            config: The configuration, with a draft model.

        Raises:
            ArtifactError: The artifact cannot be served, has another tokenizer, or one of both exports lacks the graph
                that computes several tokens a step.
            MemoryShortageError: It does not fit in memory.
        """
        artifact = open_artifact(config.draft_model, None, config.draft_digest)
        if artifact.task != DEFAULT_TASK:
            raise ArtifactError(f"the draft model {artifact.folder} is for the task {artifact.task}; {_REMEDY}")
        artifact.require(*MODEL_FILES)
        for each, name in ((served, "model"), (artifact, "draft model")):
            if RAGGED not in each.files:
                raise ArtifactError(
                    f"the {name} {each.folder} has no {RAGGED} in {each.onnx.name}, without which nothing is drafted; "
                    "export it again, or remove runtime.draftModel"
                )
        other = Tokenizer(artifact.read_text("tokenizer.json") or "")
        check_tokenizers(tokenizer.vocabulary(), other.vocabulary(), str(artifact.folder))
        self._decoder = OnnxDecoder(
            artifact,
            slots=config.max_batch_size,
            context_length=config.context_length,
            prefill_chunk=config.prefill_chunk,
            threads=config.threads,
        )
        self._share = _weights(artifact) / max(1, _weights(served))
        self.token_bytes = self._decoder.rows.shape.token_bytes

    def beside(self, decoder: OnnxDecoder) -> DraftModel:
        """Return the draft model of a decoder, whose memory was planned with it.

        Raises:
            MemoryShortageError: The system does not give out the addresses of its prefix cache.
        """
        return DraftModel(self._decoder, decoder.spec.vocab_size, decoder.memory.draft_prefix_bytes, self._share)


def check_tokenizers(vocabulary: dict[str, int], draft: dict[str, int], folder: str) -> None:
    """Check that a draft model has the tokens of the model, with the same ids.

    Args:
        vocabulary: The model's tokens and their ids.
        draft: Those of the draft model.
        folder: Where the draft model is.

    Raises:
        ArtifactError: They differ.
    """
    different = sorted(
        (token for token in vocabulary.keys() | draft.keys() if vocabulary.get(token) != draft.get(token)),
        key=lambda token: (min(vocabulary.get(token, len(vocabulary)), draft.get(token, len(draft))), token),
    )
    if not different:
        return
    shown = "; ".join(
        f"{token!r} is {_said(vocabulary.get(token))} in the model and {_said(draft.get(token))} in the draft model"
        for token in different[:_SHOWN]
    )
    raise ArtifactError(
        f"the draft model {folder} has another tokenizer: {len(different)} tokens differ of {len(vocabulary)} of the "
        f"model and {len(draft)} of the draft model ({shown}); take a small model of the same family, fine-tuned from "
        "a base with the same tokenizer.json, or remove runtime.draftModel"
    )


def _said(index: int | None) -> str:
    return "missing" if index is None else f"id {index}"


def _weights(artifact: Artifact) -> int:
    """Return the bytes of an artifact's graphs and weights."""
    return sum((artifact.onnx / name).stat().st_size for name in artifact.files if name.startswith("model."))
