"""What the forward pass of a decoder layer keeps for the backward pass, tensor by tensor.

The source is the code that runs: `modeling_llama.py` of transformers 5 and its kin with the sdpa attention,
`lora/layer.py` and `lora/dora.py` of peft, and what the derivative of each operation needs. tests/bench/plan.py
compares the sums with what is alive at the peak of real runs.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith_api.planner.formats import FP32, Formats, formats_of
from tunesmith_api.planner.setup import Setup
from tunesmith_api.planner.shape import Linear, ModelShape, Place


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
    return formats_of(setup).residual * setup.tokens * shape.hidden


def layer_activations(shape: ModelShape, setup: Setup) -> LayerActivations:
    """Return what one decoder layer keeps.

    Args:
        shape: The model.
        setup: How it is trained.
    """
    formats = formats_of(setup)
    return LayerActivations(
        norms=_norms(shape, setup, formats),
        attention=_attention(shape, setup, formats),
        feed_forward=_feed_forward(shape, setup, formats),
        adapters=sum(_adapter(linear, setup, formats) for linear in shape.linears),
        copies=_copies(shape, setup, formats),
    )


def is_read(shape: ModelShape, setup: Setup, place: Place) -> bool:
    """Return whether a linear layer at a place needs its input in the backward pass: something of it is trained."""
    if not setup.info.trains_adapter:
        return True
    if setup.adapter is not None and setup.adapter.dropout:
        return False  # an adapter reads what dropout has made of it
    return any(setup.adapts(linear) for linear in shape.reading(place))


def magnitude_temporaries(shape: ModelShape, setup: Setup, *, kept: bool = True) -> int:
    """Return what DoRA takes at most while it computes the norm of an adapted weight, in every forward pass.

    peft multiplies the adapter's matrices by way of an identity matrix as wide as the input, scales the product and
    adds the weight (`get_lora_weight` and `get_weight_norm`). Under autocast the identity is copied to bf16, and the
    weight to fp32.

    Args:
        shape: The model.
        setup: How it is trained.
        kept: Whether the identity is kept for the backward pass, as it is not in the forward pass of checkpointing.
    """
    if setup.method != "dora":
        return 0
    formats = formats_of(setup)
    copies = formats.product if formats.autocast else 0
    sizes = [
        (formats.adapter_input + copies) * linear.inputs**2
        + formats.adapter_input * linear.weights * ((3 if kept else 1) + formats.autocast)
        for linear in shape.linears
        if setup.adapts(linear)
    ]
    return max(sizes, default=0)


def _norms(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    hidden = setup.tokens * shape.hidden
    trained = not setup.info.trains_adapter
    # hidden_states.to(float32) * rsqrt, then weight * that.to(input dtype)
    size = shape.layer_norms * ((formats.residual if trained else 0) * hidden + FP32 * setup.tokens)
    size += (shape.layer_norms - 1) * norm_input(shape, setup)
    if not formats.autocast:  # without autocast, the linear layers read the norm's output itself
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
        matrix = setup.micro_batch_size * shape.heads * setup.length**2
        size += formats.product * tokens * 2 * (shape.query - shape.key)
        size += (2 * formats.product + FP32) * matrix if formats.product < FP32 else 2 * FP32 * matrix
        return size + formats.product * tokens * shape.query
    return size + formats.product * tokens * shape.query + FP32 * tokens * shape.heads


def _feed_forward(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    kept = 3  # gate, up and the activation
    if is_read(shape, setup, "product") and not (formats.autocast and setup.info.trains_adapter):
        kept += 1  # peft's copy is counted with the copies
    return kept * formats.product * setup.tokens * shape.intermediate


def _adapter(linear: Linear, setup: Setup, formats: Formats) -> int:
    if setup.adapter is None or not setup.adapts(linear):
        return 0
    tokens = setup.tokens
    size = formats.product * tokens * setup.adapter.rank
    if setup.method == "dora":
        size += 2 * formats.product * tokens * linear.outputs  # the base's product, and the adapter's
    if setup.adapter.dropout:
        mask = 1 if setup.gpu else formats.adapter_input
        dropped = 0 if formats.autocast else formats.adapter_input  # autocast's copy is counted with the copies
        size += tokens * linear.inputs * (mask + dropped)
    return size


def _copies(shape: ModelShape, setup: Setup, formats: Formats) -> int:
    """Return the copies that autocast makes. It makes one for each linear layer that reads a tensor."""
    if not formats.autocast:
        return 0
    if setup.info.trains_adapter:
        adapted = [linear for linear in shape.linears if setup.adapts(linear)]
        weights = sum(setup.adapter_parameters(linear) for linear in adapted)
        return formats.product * (setup.tokens * sum(linear.inputs for linear in adapted) + weights)
    # The attention's result and the product are in bf16 already.
    inputs = sum(linear.inputs for linear in shape.linears if linear.place in ("attention", "feedForward"))
    return formats.product * (setup.tokens * inputs + sum(linear.weights for linear in shape.linears))
