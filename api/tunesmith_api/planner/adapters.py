"""The kinds of adapters: what each trains, what its forward pass keeps, and what its backward pass takes.

The sources are `lora`, `ia3`, `vera`, `oft` and `loha` in `peft.tuners`, and `MatMul4Bit` of bitsandbytes.
"""

from __future__ import annotations

from tunesmith_api.methods import AdapterKind, MethodInfo, block_size, scales_inputs
from tunesmith_api.planner.formats import FP32
from tunesmith_api.planner.passes import Backward, Pass
from tunesmith_api.planner.shape import Linear, ModelShape
from tunesmith_api.spec import AdapterSettings


class Lora:
    """LoRA: the products of two small matrices are added; the base of all kinds.

    Attributes:
        casts: Whether autocast makes a copy of the input for each layer, as peft converts it to fp32 before.
        scatters: Whether small results between the large ones keep the C library's heap from shrinking, measured.
    """

    casts = True
    scatters = True

    def largest(self, linear: Linear, spec: AdapterSettings) -> int:
        """Return the elements of the largest tensor that is trained beside a linear layer."""
        return spec.rank * max(linear.inputs, linear.outputs)

    def buffers(self, shape: ModelShape, spec: AdapterSettings) -> int:
        """Return the elements of frozen tensors that the adapter brings along, for the whole model."""
        return 0

    def reads(self, linear: Linear, spec: AdapterSettings) -> bool:
        """Return whether the backward pass needs the layer's input as it is."""
        return not spec.dropout  # dropout's result is what is read

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return the bytes that the forward pass keeps, without the input and autocast's copies."""
        size = run.formats.product * run.tokens * run.spec.rank
        if run.spec.dropout:
            mask = 1 if run.gpu else run.formats.adapter_input
            dropped = 0 if run.formats.autocast else run.formats.adapter_input  # autocast's copy is counted as such
            size += run.tokens * linear.inputs * (mask + dropped)
        return size

    def copied(self, linear: Linear, run: Pass) -> int:
        """Return the elements of which autocast keeps copies: the input, and the adapter's weights."""
        return run.tokens * linear.inputs + run.parameters(linear)

    def taken(self, linear: Linear, run: Pass, *, recorded: bool) -> int:
        """Return the bytes that the forward pass takes and gives back.

        Args:
            linear: The layer.
            run: The forward pass.
            recorded: Whether it is recorded for the backward pass, as it is not with checkpointing.
        """
        return run.dequantized(linear)

    def backward(self, linear: Linear, run: Pass, step: Backward) -> None:
        """Run the backward pass of a layer with its adapter; the gradient of its input stays."""
        inputs = run.tokens * linear.inputs
        step.tape.pass_by(self._scaled(linear, run))
        step.tape.take(run.formats.product * inputs)
        step.tape.pass_by(run.formats.adapter_input * inputs)
        step.gradient(run.parameters(linear))
        self._base(linear, run, step)

    def _scaled(self, linear: Linear, run: Pass) -> int:
        """Return the bytes that the gradients of the scaled result take."""
        return run.formats.product * run.tokens * linear.outputs

    def _base(self, linear: Linear, run: Pass, step: Backward) -> None:
        """Run the base layer, whose input's gradient is added to the adapter's."""
        step.tape.pass_by(run.dequantized(linear) + run.formats.product * run.tokens * linear.inputs)


class Dora(Lora):
    """DoRA: LoRA, with a trained magnitude of each output.

    For the norm of the adapted weight, peft multiplies the adapter's matrices by way of an identity matrix as wide as
    the input, scales the product and adds the weight (`get_lora_weight` and `get_weight_norm`). Under autocast the
    identity is copied to bf16, and the weight to fp32.
    """

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return what LoRA keeps, and the base's product and the adapter's."""
        return super().kept(linear, run) + 2 * run.formats.product * run.tokens * linear.outputs

    def taken(self, linear: Linear, run: Pass, *, recorded: bool) -> int:
        """Return the bytes for the norm. The identity is kept for the backward pass where that is recorded."""
        formats = run.formats
        copies = formats.product if formats.autocast else 0
        weights = (3 if recorded else 1) + formats.autocast
        size = (formats.adapter_input + copies) * linear.inputs**2 + formats.adapter_input * linear.weights * weights
        return size + run.dequantized(linear)

    def _scaled(self, linear: Linear, run: Pass) -> int:
        return 3 * FP32 * run.tokens * linear.outputs


class Ia3(Lora):
    """(IA)3: a trained factor for each output of a layer, or for each input of the one that leaves the feed-forward."""

    scatters = False

    def reads(self, linear: Linear, spec: AdapterSettings) -> bool:
        """Return whether inputs are what is multiplied."""
        return scales_inputs(linear.name)

    def largest(self, linear: Linear, spec: AdapterSettings) -> int:
        """Return the number of factors."""
        return linear.inputs if scales_inputs(linear.name) else linear.outputs

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return the base's product, or the fp32 copy of the input."""
        if not scales_inputs(linear.name):
            return run.formats.product * run.tokens * linear.outputs
        return FP32 * run.tokens * linear.inputs if run.formats.autocast else 0

    def copied(self, linear: Linear, run: Pass) -> int:
        """Return no elements: there is no product with an adapter's weights."""
        return 0

    def backward(self, linear: Linear, run: Pass, step: Backward) -> None:
        """Multiply the gradient with the factors and with what they were multiplied with."""
        product, size = run.formats.product, run.formats.adapter_input
        if scales_inputs(linear.name):
            step.tape.pass_by(run.dequantized(linear) + product * run.tokens * linear.inputs)
            step.tape.take(product * run.tokens * linear.inputs)
            step.tape.pass_by(2 * size * run.tokens * linear.inputs)
            step.gradient(run.parameters(linear))
            return
        outputs = size * run.tokens * linear.outputs
        step.tape.take(2 * outputs)
        step.gradient(run.parameters(linear))
        step.tape.give(outputs)
        step.tape.take(product * run.tokens * linear.inputs)
        step.tape.pass_by(run.dequantized(linear))
        step.tape.give(outputs)


class Vera(Lora):
    """VeRA: two frozen random matrices that all layers share, and trained factors between and after them."""

    scatters = False

    def buffers(self, shape: ModelShape, spec: AdapterSettings) -> int:
        """Return the elements of the two matrices, which are as large as the widest layer needs."""
        inputs = max(linear.inputs for linear in shape.linears)
        return spec.rank * (inputs + max(linear.outputs for linear in shape.linears))

    def reads(self, linear: Linear, spec: AdapterSettings) -> bool:
        """Return that the input is not needed: the matrix that it is multiplied with is frozen."""
        return False

    def largest(self, linear: Linear, spec: AdapterSettings) -> int:
        """Return the number of factors of the outputs, or of those in between."""
        return max(spec.rank, linear.outputs)

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return what the factors are multiplied with, and dropout's mask."""
        size = run.formats.product * run.tokens * (run.spec.rank + linear.outputs)
        if run.spec.dropout:
            size += run.tokens * linear.inputs * (1 if run.gpu else run.formats.adapter_input)
        return size

    def copied(self, linear: Linear, run: Pass) -> int:
        """Return the elements of the parts of the two matrices."""
        return run.spec.rank * (linear.inputs + linear.outputs)

    def _scaled(self, linear: Linear, run: Pass) -> int:
        return (run.formats.adapter_input + run.formats.product) * run.tokens * linear.outputs


class Oft(Lora):
    """OFT: the input is rotated in blocks by matrices that are computed from trained ones (Cayley, five terms)."""

    scatters = False

    def reads(self, linear: Linear, spec: AdapterSettings) -> bool:
        """Return that the input is what is rotated."""
        return True

    def largest(self, linear: Linear, spec: AdapterSettings) -> int:
        """Return the elements above the diagonals of all blocks."""
        return linear.inputs * (block_size(spec.block_size, linear.inputs) - 1) // 2

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return the rotations, and the powers that they are computed from."""
        powers = 4 if not run.formats.autocast else 7
        return run.formats.product * powers * linear.inputs * block_size(run.spec.block_size, linear.inputs)

    def copied(self, linear: Linear, run: Pass) -> int:
        """Return the elements of the input."""
        return run.tokens * linear.inputs

    def backward(self, linear: Linear, run: Pass, step: Backward) -> None:
        """Run the base layer, then the rotation, then the powers."""
        inputs = run.formats.product * run.tokens * linear.inputs
        rotation = FP32 * linear.inputs * block_size(run.spec.block_size, linear.inputs)
        step.tape.take(inputs)
        step.tape.pass_by(run.dequantized(linear))
        step.tape.pass_by(2 * inputs + rotation)
        step.tape.pass_by(4 * rotation)
        step.gradient(run.parameters(linear))


class Loha(Lora):
    """LoHa: the elementwise product of two products of small matrices, computed as a whole weight.

    Under autocast the whole weight is in bf16, so the input need not be converted.
    """

    casts = False

    def reads(self, linear: Linear, spec: AdapterSettings) -> bool:
        """Return that the input is multiplied with the whole weight."""
        return True

    def kept(self, linear: Linear, run: Pass) -> int:
        """Return the bytes of the whole weight."""
        return run.formats.product * linear.weights

    def copied(self, linear: Linear, run: Pass) -> int:
        """Return the elements of the small matrices."""
        return run.parameters(linear)

    def taken(self, linear: Linear, run: Pass, *, recorded: bool) -> int:
        """Return the bytes of the two products and their product."""
        return max(3 * run.formats.product * linear.weights, run.dequantized(linear))

    def backward(self, linear: Linear, run: Pass, step: Backward) -> None:
        """Make the gradient of the whole weight, and from it those of the small matrices."""
        step.tape.take(run.formats.product * run.tokens * linear.inputs)
        step.tape.take(run.formats.product * linear.weights)
        step.tape.pass_by(3 * run.formats.product * linear.weights)
        step.gradient(run.parameters(linear))
        step.tape.give(run.formats.product * linear.weights)
        self._base(linear, run, step)


_DORA = Dora()
_KINDS: dict[AdapterKind, Lora] = {"lora": Lora(), "ia3": Ia3(), "vera": Vera(), "oft": Oft(), "loha": Loha()}


def kind_of(info: MethodInfo) -> Lora:
    """Return the kind of adapter that a method trains; it is the same one for methods that train the same."""
    return _DORA if info.is_decomposed else _KINDS[info.adapter_kind]
