"""A small model of sentences for the example: a BERT of random weights, and a tokenizer trained on the help of Python.

`python make_model.py FOLDER` writes it as sentence-transformers does. Its vectors mean nothing; their speed does.
"""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

VOCABULARY = 4096
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_TOKENS = 256


def main() -> None:
    folder = sys.argv[1]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (a token of text)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        topics.values(), trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL)
    )
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",  # noqa: S106
        mask_token="[MASK]", model_max_length=MAX_TOKENS,  # noqa: S106
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=MAX_TOKENS,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    words = Transformer(folder, max_seq_length=MAX_TOKENS)
    SentenceTransformer(modules=[words, Pooling(words.get_word_embedding_dimension())]).save(folder)


main()
