"""Requests to a travel desk: which one is to be done first, and which words are people, places and times?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

SPLITS = {"train": 1500, "valid": 500, "test": 500}
"""How many sentences a split has."""

TOPICS = ("book", "cancel", "move", "find")
OTHER, PERSON, PLACE, TIME = range(4)
"""The tags."""

NO_LABEL = -100
"""The tag of punctuation, which is nothing of the kind."""

PADDING, UNKNOWN = range(2)
"""The numbers that stand for no word, and for one that is not in the vocabulary."""

VERBS = {
    "book": ("book", "reserve", "order"),
    "cancel": ("cancel", "drop", "delete"),
    "move": ("move", "change", "shift"),
    "find": ("find", "look up", "check"),
}

BOTH = "paris florence jordan austin chelsea sydney carson lincoln washington hudson"
"""People as well as places."""

MONTHS = "april june august may"
"""People as well as times."""

NAMES = {
    PERSON: f"{BOTH} {MONTHS} mark anna rose bill will grace peter maria hope jack olga ahmed wei lena omar ines pavel "
    "yuki tom sara faith nina carl eva hugo ruth igor amy dora felix gina henk iris jan kim leo mona nils otto paula",
    PLACE: f"{BOTH} london rome berlin oslo madrid vienna prague lisbon dublin athens cairo tokyo delhi lima boston "
    "denver turin geneva lyon ghent bergen porto malmo graz brno split bath nice cork riga reading mobile orange",
    TIME: f"{MONTHS} monday tuesday friday sunday noon midnight tomorrow tonight spring winter second morning",
}

BLANKS = {"{person}": PERSON, "{place}": PLACE, "{time}": TIME}

THINGS = (
    "a train to {place}",
    "the flight to {place} on {time}",
    "a room in {place} for {person}",
    "a call to {person}",
    "a call with {person} on {time}",
    "the dinner with {person} in {place}",
    "a table for {person}",
    "a table for {time}",
    "the second train from {place} to {place}",
    "a bill for {person}",
    "a nice room for {time}",
    "the ride from {place} for {person} and {person}",
)

REQUESTS = (
    "{first}",
    "please {first} .",
    "i will {first} before you {second} .",
    "before you {second} , {first} .",
    "after you {first} you may {second}",
    "{second} , but only after you {first} .",
    "do not {second} but {first}",
    "{first} , do not {second} .",
)
"""What is to be done first, or alone, is the topic of a sentence."""


class Sentences(MultiTaskDataset):
    """Sentences that a small grammar makes, the same ones in every run and none in two splits.

    Sources: ``words`` int64 [n, l], the numbers of words, with ``words_mask``; ``topic`` int64 [n] in 0..3, and
    ``tags`` int64 [n, l] in 0..3, -100 for punctuation, with ``tags_mask``. A sentence is its own uid.

    :param batch_size: rows per batch
    :param vocabulary: how many numbers there are: for padding, for unknown words, and for the most frequent words of
        the training sentences
    :param max_words: sentences are cut to so many words; 0 for no bound
    :param max_rows: use only so many sentences of each split, for a quick trial; None for all
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    """

    def __init__(
        self, batch_size: int, vocabulary: int, max_words: int = 0, max_rows: int | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size
        self._vocabulary = vocabulary
        self._max_words = max_words
        self._max_rows = max_rows

    def loaders(self) -> list[TaskLoader]:
        """Return one loader per split; every batch carries both tasks."""
        generator = random.Random(0)
        sentences: dict[str, tuple[int, list[int]]] = {}
        while len(sentences) < sum(SPLITS.values()):
            text, topic, tags = make_sentence(generator)
            sentences.setdefault(text, (topic, tags))
        texts, start, numbers = list(sentences), 0, {}
        loaders = []
        for split, count in SPLITS.items():
            own = texts[start : start + count][: self._max_rows]
            start += count
            if split == "train":
                numbers = number_words(own, self._vocabulary)
            words = [torch.tensor([numbers.get(word, UNKNOWN) for word in text.split()]) for text in own]
            labels = {
                "topic": [sentences[text][0] for text in own],
                "tags": [torch.tensor(sentences[text][1]) for text in own],
            }
            features = {"words": words, "_uids_": own}
            data = ColumnDataset("requests", features, labels, max_data_len=self._max_words)
            tasks = {"topic": "topic", "tag": "tags"}
            loaders.append(TaskLoader(data, tasks=tasks, split=split, batch_size=self._batch_size))
        return loaders


def make_sentence(generator: random.Random) -> tuple[str, int, list[int]]:
    """Return a sentence, its topic, and the tags of its words."""
    topics = generator.sample(range(len(TOPICS)), 2)
    words: list[str] = []
    tags: list[int] = []
    for part in generator.choice(REQUESTS).split():
        if part in ("{first}", "{second}"):
            topic = topics[part == "{second}"]
            for word in f"{generator.choice(VERBS[TOPICS[topic]])} {generator.choice(THINGS)}".split():
                tag = BLANKS.get(word, OTHER)
                if tag != OTHER:
                    names = NAMES[tag].split()
                    # Names are the rarer the later they are listed; the last ones are hardly ever met.
                    word = names[int(len(names) * generator.random() ** 2)]
                words.append(word)
                tags.append(tag)
        else:
            words.append(part)
            tags.append(NO_LABEL if part in ",." else OTHER)
    return " ".join(words), topics[0], tags


def number_words(texts: Sequence[str], vocabulary: int) -> dict[str, int]:
    """Return the numbers of the most frequent words; of equals the first in the alphabet come first."""
    counts = Counter(word for text in texts for word in text.split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: vocabulary - 2], start=2)}


class Encoder(nn.Module):
    """Vectors of words in their sentence, [n, l, 2 * width]: what is padded has no part in them.

    :param vocabulary: how many numbers of words there are
    :param width: numbers per direction
    :param dropout: the share of words that are taken for unknown ones in training
    """

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        self.forwards = nn.GRU(width, width, batch_first=True)
        self.backwards = nn.GRU(width, width, batch_first=True)
        self.dropout = dropout

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        if self.training:
            words = words.masked_fill(torch.rand(words.shape, device=words.device) < self.dropout, UNKNOWN)
        vectors = self.vectors(words)
        # Each sentence is turned by itself, so that its last word comes first and not what it is padded with.
        places = torch.arange(words.shape[1], device=words.device)
        turned = ((~mask).sum(1, keepdim=True) - 1 - places).clamp(min=0).unsqueeze(2)
        turned = turned.expand(-1, -1, vectors.shape[2])
        after = self.backwards(vectors.gather(1, turned))[0].gather(1, turned)
        return torch.cat([self.forwards(vectors)[0], after], 2)


class MeanOfWords(nn.Module):
    """The mean over the vectors of a sentence, [n, width], without padding."""

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        total = vectors.masked_fill(mask.unsqueeze(2), 0).sum(1)
        return total / (~mask).sum(1, keepdim=True).clamp(min=1)
