"""Models with an encoder and a decoder as ONNX: two graphs, of which the second is run once for each token.

`encoder.onnx` is run once for a batch of sources, padded on the right:

- in: `input_ids`, `attention_mask` int64 [batch, source];
- out: of each decoder layer i `encoder.{i}.key`, `encoder.{i}.value` float32 [batch, heads, source, head_dim], which
  its cross-attention reads. They stay as they are while the batch is decoded.

`decoder.onnx` is run once for each token of the answers:

- in: `input_ids` int64 [batch, tokens], the tokens since the last run, as many of each row; `encoder_attention_mask`
  int64 [batch, source], the encoder's `attention_mask`; `encoder.{i}.key/value`; `past.{i}.key`, `past.{i}.value`
  float32 [batch, heads, past, head_dim], in the first run with past = 0, and afterwards what the last run gave as
  `present`;
- out: `logits` float32 [batch, tokens, vocabulary]; `present.{i}.key/value` float32 [batch, heads, past + tokens,
  head_dim].

All rows of a batch begin together, and each has as many tokens as the others. A row that has ended is dropped from the
batch: the same rows are taken of all of `past.*`, `encoder.*` and `encoder_attention_mask`. Columns of the source in
which no row that is left has a token can be dropped too.

A greedy answer begins with `decoder_start_token_id` of generation_config.json, followed by `forced_bos_token_id` where
that is a number. Both are given to the decoder in its first run; `forced_bos_token_id` counts as generated. Then the
most likely token is taken, except those in `suppress_tokens` (the padding token), until it is one of `eos_token_id`.

`runner.py` does all this with NumPy.
"""
