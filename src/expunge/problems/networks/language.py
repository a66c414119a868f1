"""A small causal language model, trained from scratch in seconds, and a tokenizer of its words.

What transformers and tokenizers are needed for is imported when a function is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from expunge.core.machine import transformers

# A word with the space before it, or a sign: what decoding puts together again.
PIECES = r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s"


UNKNOWN, START, END = "<unk>", "<s>", "</s>"


def word_tokenizer(texts: Iterable[str], context: int = 512) -> Any:
    """A tokenizer whose tokens are the words, digits and signs of some texts.

    It has no token for padding, as many published ones have none; `Texts` does without. A text
    begins with <s>.

    Args:
        texts: every word of theirs gets a token, with a space before it and without; all others
            are <unk>.
        context: the longest text, in tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    found = {piece for text in texts for piece in re.findall(PIECES, text)}
    bare = {piece.strip(" ") or " " for piece in found}
    spaced = {f" {piece}" for piece in bare if piece.strip()}
    ids = {piece: n for n, piece in enumerate([UNKNOWN, START, END, *sorted(bare | spaced)])}
    made = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, ids[START])]
    )
    made.decoder = decoders.Fuse()
    return transformers().PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        model_max_length=context,
    )


def tiny_llama(
    vocabulary: int, *, width: int = 64, layers: int = 2, heads: int = 4, context: int = 512
) -> nn.Module:
    """A Llama with fresh weights from torch's global stream; input and output share a matrix.

    Args:
        vocabulary: tokens, len(tokenizer).
        width: of the hidden states; the MLP is 8/3 times as wide.
        layers, heads: of the transformer.
        context: the longest text, in tokens.
    """
    library = transformers()
    config = library.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        # at the usual 0.02, made for wide models, a narrow one takes long to look at other tokens
        initializer_range=width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    return library.LlamaForCausalLM(config)
