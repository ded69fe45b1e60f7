"""Tokenizers that KerasHub models bring along."""


def find_vocabulary(model):
    """The tokens of a model's own tokenizer, by their ids, or `None`.

    A KerasHub task has one as `model.preprocessor.tokenizer`.
    """
    tokenizer = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    ids = getattr(tokenizer, "vocabulary", None)
    if isinstance(ids, dict):
        # In the order of a file, which need not be that of the ids.
        return sorted(ids, key=ids.__getitem__)
    get_vocabulary = getattr(tokenizer, "get_vocabulary", None)
    return None if get_vocabulary is None else list(get_vocabulary())


def common_vocabulary_size(student, teacher):
    """Number of tokens of the tokenizer that two models share, or `None`.

    Their outputs may have more classes: padding, to a multiple of 64 or so.
    """
    vocabulary = find_vocabulary(student)
    if vocabulary is None or vocabulary != find_vocabulary(teacher):
        return None
    return len(vocabulary)
