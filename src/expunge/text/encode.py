"""From text to token sequences: question-answer pairs, chats and plain texts, by any tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from expunge.errors import BadData
from expunge.text.rows import Row, Texts

# What transformers says of a tokenizer whose longest text is not known.
UNBOUNDED = 10**12


def of_pairs(
    pairs: Sequence[tuple[str, str]],
    tokenizer: Any,
    *,
    chat: bool = False,
    context: int = 0,
    instead: Sequence[str] = (),
    between: str = " ",
) -> Texts:
    """Prompts with answers; the answers alone, and what ends them, are scored.

    Args:
        pairs: (prompt, answer) each.
        tokenizer: of transformers.
        chat: whether the tokenizer's chat template is put around them.
        context: the longest row that the model reads, in tokens; 0 for what the tokenizer says.
        instead: another answer to each prompt, for `DPO` and `Instead`.
        between: what stands between prompt and answer where there is no chat template.

    Raises:
        BadData: an empty answer, a row longer than the context (nothing is cut off in silence),
            or a chat asked of a tokenizer without a template.
    """
    if instead and len(instead) != len(pairs):
        raise BadData(
            f"Got {len(instead)} other answers for {len(pairs)} pairs; expected one each."
        )
    encode = _chat if chat else _pair
    longest = _context(tokenizer, context)
    rows = [encode(*pair, tokenizer, between) for pair in _checked(pairs)]
    swapped = [(pair[0], other) for pair, other in zip(pairs, instead, strict=bool(instead))]
    others = [encode(*pair, tokenizer, between) for pair in _checked(swapped)]
    _refuse_long([*rows, *others], longest)
    return Texts(tuple(rows), pad_of(tokenizer), instead=tuple(others))


def of_plain(texts: Sequence[str], tokenizer: Any, *, context: int = 0, chunk: int = 0) -> Texts:
    """Plain texts, all of whose tokens are scored but the first, which follows nothing.

    Args:
        texts: one a row.
        tokenizer: of transformers.
        context: as for `of_pairs`.
        chunk: put all texts one after another, with what ends a text between them, and cut the
            whole into rows of so many tokens; 0 for one row a text.

    Raises:
        BadData: an empty text, or a row longer than the context.
    """
    longest = _context(tokenizer, context)
    for number, text in enumerate(texts):
        if not _words(text):
            raise BadData(f"Text {number} is empty; expected some words.")
    rows = [_plain(text, tokenizer) for text in texts]
    if chunk:
        rows = _chunks(rows, chunk, tokenizer)
    _refuse_long(rows, longest)
    return Texts(tuple(rows), pad_of(tokenizer))


def _is_text(*parts: object) -> bool:
    return all(isinstance(part, str) for part in parts)


def _words(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip())


def pad_of(tokenizer: Any) -> int:
    """An id to fill rows with: the padding's, or else the one that ends a text, or else 0."""
    for name in ("pad_token_id", "eos_token_id"):
        if (found := getattr(tokenizer, name, None)) is not None:
            return int(found)
    return 0


def _checked(pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    for number, pair in enumerate(pairs):
        if len(tuple(pair)) != 2 or not _is_text(*pair):
            raise BadData(f"Pair {number} is {pair!r}; expected (prompt, answer), two texts.")
        if not pair[1].strip():
            raise BadData(f"Pair {number} has an empty answer; expected some words.")
    return pairs


def _pair(prompt: str, answer: str, tokenizer: Any, between: str) -> Row:
    """Prompt and answer encoded as one text, and what ends a text after it."""
    # what stands between belongs to the answer: a prompt that ends in a space is read otherwise
    rest = between + answer if prompt else answer
    ids, start = _split(prompt, prompt + rest, tokenizer, special=True)
    end = tokenizer.eos_token_id
    if end is not None and ids[-1] != end:
        ids.append(end)
    return Row(torch.tensor(ids), start, prompt, answer)


def _chat(prompt: str, answer: str, tokenizer: Any, between: str) -> Row:
    """Prompt and answer as the turns of a user and an assistant."""
    if not getattr(tokenizer, "chat_template", None):
        raise BadData("This tokenizer has no chat template; leave out chat.")
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    head = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    if not whole.startswith(head):
        raise BadData(
            "The chat template writes a question differently once it is answered, so that one "
            "cannot tell where the answer begins; leave out chat."
        )
    ids, start = _split(head, whole, tokenizer, special=False)
    return Row(torch.tensor(ids), start, prompt, answer)


def _split(head: str, whole: str, tokenizer: Any, special: bool) -> tuple[list[int], int]:
    """Ids of the whole text, and the place of the first that reaches beyond its head.

    Encoded as one text, a word keeps the tokens that it has in running text. A tokenizer that does
    not tell where its tokens lie encodes both parts on their own.
    """
    if not getattr(tokenizer, "is_fast", False):
        first = tokenizer(head, add_special_tokens=special)["input_ids"]
        rest = tokenizer(whole[len(head) :], add_special_tokens=False)["input_ids"]
        return [*first, *rest], len(first)
    told = tokenizer(whole, add_special_tokens=special, return_offsets_mapping=True)
    ids, ends = list(told["input_ids"]), [end for _, end in told["offset_mapping"]]
    start = next((place for place, end in enumerate(ends) if end > len(head)), len(ids))
    return ids, start


def _plain(text: str, tokenizer: Any) -> Row:
    ids = list(tokenizer(text)["input_ids"])
    return Row(torch.tensor(ids), 0, "", text)


def _chunks(rows: Sequence[Row], size: int, tokenizer: Any) -> list[Row]:
    """All rows one after another, cut into rows of one size; a last one of one token is left."""
    end = tokenizer.eos_token_id
    last = torch.tensor([] if end is None else [end], dtype=torch.int64)
    stream = torch.cat([part for row in rows for part in (row.ids, last)])
    cut = [piece for piece in stream.split(size) if len(piece) > 1]
    return [Row(piece, 0, "", tokenizer.decode(piece)) for piece in cut]


def _context(tokenizer: Any, context: int) -> int:
    told = int(min(getattr(tokenizer, "model_max_length", UNBOUNDED), UNBOUNDED))
    return min(context, told) if context else told


def _refuse_long(rows: Sequence[Row], longest: int) -> None:
    for number, row in enumerate(rows):
        if len(row.ids) > longest:
            raise BadData(
                f"Row {number} has {len(row.ids)} tokens, and the context holds {longest}. Nothing "
                "is cut off in silence: shorten the text, or for plain texts ask for chunks."
            )
