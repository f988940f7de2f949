"""Where concepts and their labels come from: lists, language models, documents, vocabularies; filters, choice, labels."""

from isthmus.concepts.book import Book, Phrase, Source, read_words

__all__ = ["Book", "Phrase", "Source", "read_words"]
