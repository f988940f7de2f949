"""Where concepts and their labels come from: lists, language models, documents, vocabularies; filters, choice, labels."""

from isthmus.concepts.answers import measure, prior, told
from isthmus.concepts.book import Book, Measured, Phrase, Source, read_words
from isthmus.concepts.llm import LanguageModel
from isthmus.concepts.pick import approve, pick, refuse
from isthmus.concepts.propose import Proposal, propose
from isthmus.concepts.questions import questions
from isthmus.concepts.safe import Refused, checked

__all__ = [
    "Book",
    "LanguageModel",
    "Measured",
    "Phrase",
    "Proposal",
    "Refused",
    "Source",
    "approve",
    "checked",
    "measure",
    "pick",
    "prior",
    "propose",
    "questions",
    "read_words",
    "refuse",
    "told",
]
