"""What the forward pass of a decoder layer keeps for the backward pass, tensor by tensor.

The source is the code that runs: `modeling_llama.py` of transformers 5 and its kin with the sdpa attention,
`lora/layer.py` and `lora/dora.py` of peft, and what the derivative of each operation needs. tests/bench/plan.py
compares the sums with what is alive at the peak of real runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.planner.formats import FP32, Formats
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import ModelShape, Place


@dataclass(frozen=True)
class LayerActivations:
    """Bytes that one decoder layer keeps, without its first norm's input.

    Attributes:
        norms: For each norm its input in fp32 (the first norm's is counted with the layer before), the normed input
            where the norm's weight is trained, and the output where a linear layer needs it.
        attention: Rotated queries and keys, values, the result and the log-sum-exp of each row; the whole matrix
            without a fused kernel.
        feed_forward: The outputs of gate and up, the activation, and the product.
        adapters: What comes out of the adapters' first matrices, the two products of DoRA, and what dropout needs.
        copies: Copies in bf16 that autocast has made: of each input of a linear layer, and of trained weights.
    """

    norms: int
    attention: int
    feed_forward: int
    adapters: int
    copies: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.norms + self.attention + self.feed_forward + self.adapters + self.copies


def norm_input(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of a norm's input, which the norm keeps in fp32 in every number format."""
    return FP32 * setup.tokens * shape.hidden


def layer_input(shape: ModelShape, setup: Setup) -> int:
    """Return the bytes of the hidden states between two layers."""
    return setup.formats.residual * setup.tokens * shape.hidden


def layer_activations(shape: ModelShape, setup: Setup) -> LayerActivations:
    """Return what one decoder layer keeps.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    formats = setup.formats
    return LayerActivations(
        norms=_norms(shape, setup, formats),
        attention=_attention(shape, setup, formats),
        feed_forward=_feed_forward(shape, setup, formats),
        adapters=sum(setup.kind.kept(x, setup.forward_pass) for x in shape.linears if setup.adapts(x)),
        copies=_copies(shape, setup, formats),
    )


def is_read(shape: ModelShape, setup: Setup, place: Place) -> bool:
    """Return whether a linear layer at a place needs its input in the backward pass: something of it is trained."""
    if not setup.info.trains_adapter:
        return True
    spec = setup.forward_pass.spec
    return any(setup.adapts(linear) and setup.kind.reads(linear, spec) for linear in shape.reading(place))


def forward_temporaries(shape: ModelShape, setup: Setup, *, recorded: bool = True) -> int:
    """Return the most that a linear layer takes and gives back in the forward pass, for its adapter or its weight.

    Args:
        shape: The model.
        setup: How it is trained.
        recorded: Whether the forward pass is recorded for the backward pass, as it is not with checkpointing.
    """
    run = setup.forward_pass
    sizes = [
        setup.kind.taken(linear, run, recorded=recorded) if setup.adapts(linear) else run.dequantized(linear)
        for linear in shape.linears
    ]
    return max(sizes, default=0)


def _reads_copies(setup: Setup) -> bool:
    """Return whether linear layers keep copies of their inputs, which autocast has made."""
    return setup.formats.autocast and (setup.kind.casts or not setup.info.trains_adapter)


def _norms(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    hidden = setup.tokens * shape.hidden
    trained = not setup.info.trains_adapter
    # hidden_states.to(float32) * rsqrt, then weight * that.to(input dtype)
    size = shape.layer_norms * ((formats.residual if trained else 0) * hidden + FP32 * setup.tokens)
    size += (shape.layer_norms - 1) * norm_input(shape, setup)
    if not _reads_copies(setup):  # the linear layers read the norm's output itself
        places: tuple[Place, ...] = ("attention", "feedForward")
        size += sum(formats.product * hidden for place in places if is_read(shape, setup, place))
    if shape.head_norms:
        heads = setup.tokens * (shape.query + shape.key)
        size += (FP32 + (formats.product if trained else 0)) * heads
    return size


def _attention(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    tokens = setup.tokens
    values = shape.query + 2 * shape.key if shape.fused else shape.key  # a part keeps the whole tensor
    size = formats.product * tokens * (shape.query + shape.key + values)
    if shape.computes_whole_attention:
        # repeat_kv copies keys and values for each head; kept are tanh of the softcap, softmax in fp32, and its copy.
        matrix = setup.batch_sequences * shape.heads * setup.length**2
        size += formats.product * tokens * 2 * (shape.query - shape.key)
        size += (2 * formats.product + FP32) * matrix if formats.product < FP32 else 2 * FP32 * matrix
        return size + formats.product * tokens * shape.query
    if setup.packing and not setup.gpu and is_read(shape, setup, "mixed"):
        size += formats.product * tokens * shape.query  # results are computed row by row, and put together
    return size + formats.product * tokens * shape.query + FP32 * tokens * shape.heads


def _feed_forward(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    kept = 3  # gate, up and the activation
    if is_read(shape, setup, "product") and not (setup.info.trains_adapter and _reads_copies(setup)):
        kept += 1  # peft's copy is counted with the copies
    return kept * formats.product * setup.tokens * shape.intermediate


def _copies(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    """Return the copies that autocast makes. It makes one for each linear layer that reads a tensor."""
    if not formats.autocast:
        return 0
    if setup.info.trains_adapter:
        adapted = [linear for linear in shape.linears if setup.adapts(linear)]
        return formats.product * sum(setup.kind.copied(linear, setup.forward_pass) for linear in adapted)
    # The attention's result and the product are in bf16 already.
    inputs = sum(linear.inputs for linear in shape.linears if linear.place in ("attention", "feedForward"))
    return formats.product * (setup.tokens * inputs + sum(linear.weights for linear in shape.linears))
