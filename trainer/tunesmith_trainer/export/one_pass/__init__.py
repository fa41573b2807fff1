"""The export of models that answer in one forward pass: one ONNX graph, made by torch, and its comparison with torch.

A folder `onnx/PRECISION` of an artifact holds `model.onnx`, with `model.onnx.data` beside it if it is large;
`config.json` (`id2label`, `problem_type`, `pad_token_id`); the tokenizer; and `task.json`, with what the task says
besides. The graph takes `input_ids` and `attention_mask`, and `token_type_ids` if the model tells a second text from
the first, int64 [batch, sequence]. It gives the task's outputs, float32: [batch, labels] for a row, or
[batch, sequence, ...] for each token. Rows are padded on the right; a decoder classifies by the last token of the
mask, wherever the padding is.
"""
