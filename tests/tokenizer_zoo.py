"""Small tokenizers of the kinds that models come with, and texts that are hard for them.

Each is a real fast tokenizer, built here, with a quirk of its own: byte-level or with byte fallback, a space put in
front of the text or not, normalisers that change the text, added tokens that swallow spaces, offsets that leave
spaces out, templates that trim, or refuse a system role, or demand alternation.
"""

from __future__ import annotations

from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Context: the dog sleeps. Query: who sleeps? Answer: the dog.",
    "user assistant system What is the capital of France? Paris. 1. one 2. two (three) <b>bold</b> -- end",
    "Être où déjà naïve café; 你好世界 东京 こんにちは; שלום עולם; مرحبا بالعالم; नमस्ते 👩‍👩‍👧 🇩🇪 👍🏽",
]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Like Gemma's: no system role, strict alternation, trimmed contents.
STRICT = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Like Llama 2's: markers that are mere text, and end tokens that swallow what follows.
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)


def byte_level(*, trim: bool = False, prefix_space: bool = False, normalizer=None) -> PreTrainedTokenizerFast:
    """Like GPT-2, Llama 3 (trim: offsets without the spaces) and Qwen (an NFC normaliser)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if trim:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHATML)


def byte_fallback(style: str, template: str | None = INST, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """Like Llama 2, Mistral and Gemma: characters outside the vocabulary become bytes, spaces become "▁".

    style: "first" and "always" put "▁" before the text or before every piece of it, "prepend" does the same in the
    normaliser, "never" does not. bos: a text on its own gets the BOS token.
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    tokens += [*sorted({c for line in CORPUS for c in line if c.isascii()} - {" "}), "▁"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "d"), ("o", "g"), ("▁d", "og"), ("▁", "▁")]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if style == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif style == "never":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=style, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken("<s>", special=True, normalized=False),
            AddedToken("</s>", special=True, normalized=False, rstrip=True),
            AddedToken("<start_of_turn>", special=True, normalized=False),
            AddedToken("<end_of_turn>", special=True, normalized=False),
        ]
    )
    # Gemma holds runs of newlines and HTML tags among its added tokens.
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("\n\n", "\n\n\n", "<table>")])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=template,
    )


def unigram() -> PreTrainedTokenizerFast:
    """Like T5 and XLM-R: control strings stand in the vocabulary itself, NFKC turns "＜/s＞" into one of them, and
    what is unknown becomes <unk>."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("dog", -3.0)]
    pieces += [("\n", -4.0)]  # so that what is unknown on two lines does not become one <unk>
    pieces += [(c, -5.0) for c in sorted({c for line in CORPUS for c in line if c.isascii()} - {" "})]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=True) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=INST,
    )


ZOO = {
    "byte-level": byte_level,
    "byte-level, offsets without spaces": lambda: byte_level(trim=True),
    "byte-level, space in front": lambda: byte_level(trim=True, prefix_space=True),
    "byte-level, composing": lambda: byte_level(normalizer=normalizers.NFC()),
    "byte fallback, space at the start": lambda: byte_fallback("first"),
    "byte fallback, space everywhere": lambda: byte_fallback("always"),
    "byte fallback, space by normaliser": lambda: byte_fallback("prepend"),
    "byte fallback, strict template": lambda: byte_fallback("never", STRICT),
    "byte fallback, no template": lambda: byte_fallback("first", None, bos=True),
    "unigram": unigram,
}

FRAGMENTS = [
    *"aZ9.,!?'\"()-|#*_<>/[]",
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u3000",
        "\u2028",
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "\u200d",
    ),
    *(
        "the dog",
        "Dr. Who",
        "e.g.",
        "3.14",
        "1. one",
        "- item",
        "| a | b |",
        "naïve",
        "e\u0301",
        "\u0301",
        "ﬁ",
        "Å",
    ),
    *("👩‍👩‍👧", "👍🏽", "🇩🇪", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "❤️", "𝕏", "\ufffd"),
    *("你好。世界", "東京は", "カタカナ", "한국어", "\u1112\u1161\u11ab", "ประเทศไทย"),
    *("שלום", "צה״ל", "مرحبا؟", "\u202eabc\u202c", "नमस्ते।", "क्षि"),
    *(
        "<|im_start|>",
        "<|im_end|>",
        "<|im_",
        "end|>",
        "<think>",
        "</think>",
        "<s>",
        "</s>",
        "<<s></s>",
        "<unk>",
    ),
    *(
        "<start_of_turn>",
        "<end_of_turn>",
        "<table>",
        "[INST]",
        "[/INST]",
        "＜/s＞",
        "<script>",
        "{{ x }}",
        "field0x",
    ),
    *("\ud83d", "\ude00"),
]
PIECES = st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3))
TEXTS = st.lists(PIECES, max_size=12).map("".join)
FILLED = TEXTS.filter(lambda text: bool(text.strip()))
