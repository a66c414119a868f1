"""From text to token sequences: question-answer pairs, chats and plain texts, by any tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError

from expunge.core.texts import Texts, TokenRow, pad_of
from expunge.errors import BadData, printable

# What transformers says of a tokenizer whose longest text is not known.
UNBOUNDED = 10**12

# Put before a chat template that writes today's date: the same texts are the same rows on every
# day, and a run can be resumed after midnight. It is the day that Llama 3's template names itself.
PINNED_DATE = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro -%}"


def of_pairs(
    pairs: Sequence[tuple[str, str]],
    tokenizer: Any,
    *,
    chat: bool = False,
    context: int = 0,
    instead: Sequence[str] = (),
    subjects: Sequence[str] = (),
    between: str = " ",
) -> Texts:
    """Prompts with answers; the answers alone, and what ends them, are scored.

    Args:
        pairs: (prompt, answer) each.
        tokenizer: of transformers.
        chat: whether the tokenizer's chat template is put around them.
        context: the longest row that the model reads, in tokens; 0 for what the tokenizer says.
        instead: another answer to each prompt, for `DPO` and `Instead`.
        subjects: what each prompt is about, in its very words, for `Rome` and `Memit`.
        between: what stands between prompt and answer where there is no chat template.

    Raises:
        BadData: an empty answer, a row longer than the context (nothing is cut off in silence),
            a chat asked of a tokenizer without a template, or a subject that the prompt lacks.
    """
    for what, given in (("other answers", instead), ("subjects", subjects)):
        if given and len(given) != len(pairs):
            raise BadData(f"Got {len(given)} {what} for {len(pairs)} pairs; expected one each.")
    encode = _chat if chat else _pair
    longest = _context(tokenizer, context)
    about = subjects or [""] * len(pairs)

    def encoded(pairs: Sequence[tuple[str, str]]) -> list[TokenRow]:
        return [
            encode(*pair, tokenizer, between, subject)
            for pair, subject in zip(_checked(pairs), about, strict=bool(pairs))
        ]

    rows = encoded(pairs)
    others = encoded([(p[0], other) for p, other in zip(pairs, instead, strict=bool(instead))])
    _refuse_long([*rows, *others], longest)
    return Texts(tuple(rows), pad_of(tokenizer), instead=tuple(others))


def of_cues(
    cues: Sequence[tuple[str, str, str]],
    tokenizer: Any,
    *,
    chat: bool = False,
    context: int = 0,
    between: str = " ",
) -> Texts:
    """Prompts with the first words of the answer given; what follows them alone is scored.

    Nothing ends a row: it is cut where what follows ends.

    Args:
        cues: (prompt, opening, rest) each; the answer begins with opening + rest, and the opening
            may be empty.
        tokenizer, chat, context, between: as for `of_pairs`.

    Raises:
        BadData: an empty rest, or as for `of_pairs`.
    """
    longest = _context(tokenizer, context)
    rows = []
    for prompt, opening, rest in cues:
        _checked([(prompt, rest)])
        head = _head(prompt, tokenizer) if chat else prompt + (between if prompt else "")
        # a space belongs to the word behind it
        known = (head + opening).rstrip(" ")
        ids, start, _ = _split(known, head + opening + rest, tokenizer, "", special=not chat)
        rows.append(TokenRow(torch.tensor(ids), start, (prompt + between + opening).strip(), rest))
    _refuse_long(rows, longest)
    return Texts(tuple(rows), pad_of(tokenizer))


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


def _checked(pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    for number, pair in enumerate(pairs):
        if len(tuple(pair)) != 2 or not _is_text(*pair):
            raise BadData(f"Pair {number} is {pair!r}; expected (prompt, answer), two texts.")
        if not pair[1].strip():
            raise BadData(f"Pair {number} has an empty answer; expected some words.")
    return pairs


def _pair(prompt: str, answer: str, tokenizer: Any, between: str, subject: str) -> TokenRow:
    """Prompt and answer encoded as one text, and what ends a text after it."""
    # what stands between belongs to the answer: a prompt that ends in a space is read otherwise
    rest = between + answer if prompt else answer
    ids, start, span = _split(prompt, prompt + rest, tokenizer, subject, special=True)
    end = tokenizer.eos_token_id
    if end is not None and ids[-1] != end:
        ids.append(end)
    return TokenRow(torch.tensor(ids), start, prompt, answer, span)


def _chat(prompt: str, answer: str, tokenizer: Any, between: str, subject: str) -> TokenRow:
    """Prompt and answer as the turns of a user and an assistant.

    Of what the template writes, the sign that ends the turn alone is scored with the answer: not an
    empty thought before it, and not white space behind that sign.
    """
    head = _head(prompt, tokenizer)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    whole = _templated(turns, tokenizer)
    if not whole.startswith(head):
        raise BadData(
            "The chat template writes a question differently once it is answered, so that one "
            "cannot tell where the answer begins; leave out chat."
        )
    first = max(len(head), whole.rfind(answer.strip()))
    if whole[first:].rstrip() != answer.strip():
        whole = whole.rstrip()
    if whole[len(head) : first].strip():
        head = whole[:first]
    ids, start, span = _split(head, whole, tokenizer, subject, special=False)
    return TokenRow(torch.tensor(ids), start, prompt, answer, span)


def _templated(turns: list[dict[str, str]], tokenizer: Any, **more: Any) -> str:
    """Some turns as the chat template writes them, with one date (`PINNED_DATE`) on every day.

    Raises:
        BadData: the template fails.
    """
    try:
        template = tokenizer.get_chat_template()
        if "strftime_now" in template:
            more["chat_template"] = PINNED_DATE + template
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **more))
    except (
        TemplateError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as fault:
        raise BadData(
            f"The tokenizer's chat template fails: {printable(str(fault))[:200]}. Leave out chat, "
            "or mend the template."
        ) from None


def _head(prompt: str, tokenizer: Any) -> str:
    """What the chat template puts before an answer."""
    if not getattr(tokenizer, "chat_template", None):
        raise BadData("This tokenizer has no chat template; leave out chat.")
    turns = [{"role": "user", "content": prompt}]
    return _templated(turns, tokenizer, add_generation_prompt=True)


def _split(
    head: str, whole: str, tokenizer: Any, subject: str, special: bool
) -> tuple[list[int], int, tuple[int, int]]:
    """Ids of the whole text, the place of the first that reaches beyond its head, and the subject.

    Encoded as one text, a word keeps the tokens that it has in running text. A tokenizer that does
    not tell where its tokens lie encodes both parts on their own.
    """
    if not getattr(tokenizer, "is_fast", False):
        first = tokenizer(head, add_special_tokens=special)["input_ids"]
        rest = tokenizer(whole[len(head) :], add_special_tokens=False)["input_ids"]
        span = [
            len(tokenizer(head[:sign], add_special_tokens=special)["input_ids"])
            for sign in _signs(head, subject)
        ]
        return [*first, *rest], len(first), (span[0], span[1]) if subject else (0, 0)
    encoded = tokenizer(whole, add_special_tokens=special, return_offsets_mapping=True)
    ids, ends = list(encoded["input_ids"]), [end for _, end in encoded["offset_mapping"]]
    start = next((place for place, end in enumerate(ends) if end > len(head)), len(ids))
    return ids, start, _tokens_of(_signs(head, subject), encoded["offset_mapping"])


def _signs(head: str, subject: str) -> tuple[int, int]:
    """Where the subject is named last before the answer: its first sign, and the one after it.

    Raises:
        BadData: it is not named there.
    """
    first = head.rfind(subject)
    if first < 0:
        raise BadData(
            f"The subject {subject!r} does not stand in its prompt {head[-80:]!r}; write it as it "
            "stands there."
        )
    return first, first + len(subject)


def _tokens_of(signs: tuple[int, int], offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The first token that holds one of some signs, and the one after the last that does."""
    held = [n for n, (start, end) in enumerate(offsets) if start < signs[1] and end > signs[0]]
    return (held[0], held[-1] + 1) if signs[0] < signs[1] and held else (0, 0)


def _plain(text: str, tokenizer: Any) -> TokenRow:
    ids = list(tokenizer(text)["input_ids"])
    return TokenRow(torch.tensor(ids), 0, "", text)


def _chunks(rows: Sequence[TokenRow], size: int, tokenizer: Any) -> list[TokenRow]:
    """All rows one after another, cut into rows of one size; a last one of one token is left."""
    end = tokenizer.eos_token_id
    last = torch.tensor([] if end is None else [end], dtype=torch.int64)
    stream = torch.cat([part for row in rows for part in (row.ids, last)])
    cut = [piece for piece in stream.split(size) if len(piece) > 1]
    return [TokenRow(piece, 0, "", tokenizer.decode(piece)) for piece in cut]


def _context(tokenizer: Any, context: int) -> int:
    limit = int(min(getattr(tokenizer, "model_max_length", UNBOUNDED), UNBOUNDED))
    return min(context, limit) if context else limit


def _refuse_long(rows: Sequence[TokenRow], longest: int) -> None:
    for number, row in enumerate(rows):
        if len(row.ids) > longest:
            raise BadData(
                f"Row {number} has {len(row.ids)} tokens, and the context holds {longest}. Nothing "
                "is cut off in silence: shorten the text, or for plain texts ask for chunks."
            )
